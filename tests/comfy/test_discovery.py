"""Models whose class is in no table: found, rehearsed, and then as good as those that are in it, or
refused before anything is lost."""

import math

import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.supported_models as supported
import comfy.supported_models_base
import pytest
import torch
from models import TINY, build, checked, features, sample_tiny
from speca_pack.nodes.runtime.attach import KEY, accelerate
from speca_pack.nodes.runtime.models import lookup
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.models.table import BY_CLASS
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core import UnsupportedModel
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.verifiers import VERIFIERS
from tiny import Tiny
from torch import nn

EAGER = features(math.inf, Newton(1, 0.0), budget=Threshold(warmup=2, max_streak=2))
each_way = pytest.mark.parametrize(
    "verifier",
    [VERIFIERS[v]() for v in ("embedded", "last_block", "first_block")],
    ids=lambda v: v.name,
)

# One of each kind: two streams, one stream, injectors between blocks, refiners before them, streams
# in tuples, rows in another dimension or in none, no head, a pixel decoder behind the blocks, long
# skips. HiDream-O1 is not among them: its first call fills a cache, and looking at it is a call.
KINDS = (
    "flux",
    "radiance",
    "sd3",
    "hunyuan_video",
    "hunyuan_dit",
    "wan",
    "wan_vace",
    "qwen",
    "z_image",
    "hidream",
    "ltxv",
    "ltxav",
    "cosmos",
    "cogvideo",
    "pixeldit",
    "minimax",
)


@pytest.fixture
def unlisted(monkeypatch):
    """As if the table were empty."""
    monkeypatch.setattr(lookup, "BY_CLASS", {})


def hooks(module):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules())


@pytest.mark.parametrize("name", [name for name in KINDS if name in TINY])
def test_without_its_entry_a_model_samples_as_with_it(name, monkeypatch):
    model = build(name)
    plain, listed = sample_tiny(model, name), sample_tiny(accelerate(model, EAGER), name)
    monkeypatch.setattr(lookup, "BY_CLASS", {})
    latent = sample_tiny(accelerate(model, EAGER), name)
    torch.testing.assert_close(latent, listed, rtol=1e-3, atol=1e-3 * listed.std().item())
    assert find(latent).count("accepted") == find(listed).count("accepted") > 0
    assert "discovered" in find(latent).model
    assert torch.equal(sample_tiny(accelerate(model, features(threshold=0.0)), name), plain)
    assert hooks(model.model.diffusion_model) == 0 and torch.equal(sample_tiny(model, name), plain)


@each_way
@pytest.mark.parametrize("name", ["flux", "sd3", "ltxav"])
def test_every_verifier_goes_with_a_discovered_model(unlisted, name, verifier):
    model = build(name)
    plain = sample_tiny(model, name)
    latent = sample_tiny(accelerate(model, features(1e-12, verifier=verifier)), name)
    assert torch.equal(latent, plain) and find(latent).count("rejected") > 0


def test_it_is_looked_at_once(unlisted):
    model = build("flux")
    calls = []
    hook = model.model.diffusion_model.img_in.register_forward_hook(lambda *_: calls.append(1))
    first = sample_tiny(accelerate(model, EAGER), "flux")
    looked, calls[:] = len(calls), []
    again = sample_tiny(accelerate(model, EAGER), "flux")
    hook.remove()
    # Watched, moved, rehearsed in full and as a draft.
    assert torch.equal(first, again) and len(calls) == 10 and looked == 10 + 4


class Block(nn.Module):
    """Attention to everything, text included, modulated by the noise level."""

    def __init__(self, width):
        super().__init__()
        self.qkv, self.out, self.text, self.time = (
            nn.Linear(width, n) for n in (3 * width, width, width, width)
        )

    def forward(self, text, level, *, tokens):
        both = torch.cat([tokens, self.text(text)], 1)
        q, k, v = self.qkv(nn.functional.layer_norm(both, both.shape[-1:])).chunk(3, -1)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)[:, : tokens.shape[1]]
        return {"not": "used"}, tokens + self.time(level)[:, None] * self.out(seen)


class HomeMade(nn.Module):
    """A diffusion transformer that nobody has seen before: keyword-only stream, a tuple with
    another thing first, a head that is a list."""

    def __init__(self, width=32, depth=4, **unused):
        super().__init__()
        self.dtype = torch.float32
        self.enter = nn.Conv2d(4, width, 2, 2)
        self.words, self.level = nn.Linear(32, width), nn.Linear(1, width)
        self.trunk = nn.ModuleList(Block(width) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 16))

    def walk(self, tokens, text, level):
        for block in self.trunk:
            _, tokens = block(text, level, tokens=tokens)
        return tokens

    def forward(self, x, timesteps, context=None, transformer_options=None, **kwargs):
        height, width = x.shape[2] // 2, x.shape[3] // 2
        tokens = self.enter(x).flatten(2).transpose(1, 2)
        tokens = self.walk(tokens, self.words(context), self.level(timesteps[:, None] / 1000))
        patches = self.leave(tokens).reshape(-1, height, width, 4, 2, 2)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


class Skipping(HomeMade):
    """A long skip: what its head takes is not what its last block gives."""

    def walk(self, tokens, text, level):
        _, early = self.trunk[0](text, level, tokens=tokens)
        tokens = early
        for block in list(self.trunk)[1:]:
            _, tokens = block(text, level, tokens=tokens)
        return tokens + 0.5 * early


class Leaking(HomeMade):
    """Its head is not the only way out."""

    def walk(self, tokens, text, level):
        self.leak = self.trunk[0](text, level, tokens=tokens)[1].std()
        for block in list(self.trunk)[1:]:
            _, tokens = block(text, level, tokens=tokens)
        return tokens

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs) * self.leak


class Looping(HomeMade):
    def walk(self, tokens, text, level):
        return super().walk(super().walk(tokens, text, level), text, level)


class Dreaming(HomeMade):
    def walk(self, tokens, text, level):
        return super().walk(tokens, text, level) + 0.1 * torch.randn(tokens.shape)


class Listless(HomeMade):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.trunk = self.trunk[0]

    def walk(self, tokens, text, level):
        return self.trunk(text, level, tokens=tokens)[1]


class Blind(HomeMade):
    """Its blocks never see the latent."""

    def walk(self, tokens, text, level):
        super().walk(torch.ones_like(tokens), text, level)
        return tokens


def home_made(kind):
    """A ModelPatcher around one of the classes above, as ComfyUI makes it for its own."""

    class Config(comfy.supported_models_base.BASE):
        unet_config, latent_format = {}, comfy.latent_formats.SD15

        def get_model(self, state_dict, prefix="", device=None):
            return comfy.model_base.BaseModel(self, comfy.model_base.ModelType.FLOW, device, kind)

    return Tiny(Config, {}, (4, 8, 8))


@pytest.fixture
def tried(monkeypatch):
    """(model, sample) of a class above."""

    def make(kind):
        monkeypatch.setitem(TINY, "home_made", home_made(kind))
        model = build("home_made")
        return model, lambda patched: sample_tiny(patched, "home_made")

    return make


@each_way
def test_a_class_never_seen(tried, verifier):
    model, sample = tried(HomeMade)
    plain = sample(model)
    assert torch.equal(sample(accelerate(model, features(1e-12, verifier=verifier))), plain)
    latent = sample(accelerate(model, features(1.0, verifier=verifier)))
    assert find(latent).count("accepted") > 0 and not torch.equal(latent, plain)
    torch.testing.assert_close(latent, plain, rtol=0, atol=0.2 * plain.std().item())


def test_a_long_skip_is_forecast_behind_it_and_keeps_the_last_block_from_being_checked(tried):
    model, sample = tried(Skipping)
    assert find(sample(accelerate(model, EAGER))).count("accepted") > 0
    with pytest.raises(
        UnsupportedModel, match=r"output is off by .*with the verifier last_block; try embedded"
    ):
        sample(accelerate(model, features(verifier=VERIFIERS["last_block"]())))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Leaking, r"the output is off by \d+%: something else reaches the output"),
        (Looping, r"do not run once each, in order, but as \[0, 1, 2, 3, 0, 1, 2, 3\]"),
        (Dreaming, "another result when the same call is evaluated again"),
        (Blind, "depends on the latent"),
    ],
)
def test_what_cannot_work_is_refused_at_the_first_call(tried, kind, reason):
    model, sample = tried(kind)
    fast = accelerate(model, features())
    with pytest.raises(
        UnsupportedModel,
        match=f"is a {kind.__name__}, which SpeCa has no entry for, and .*{reason}.*Set level to "
        "prediction",
    ):
        sample(fast)
    diffusion_model = model.model.diffusion_model
    assert (
        hooks(diffusion_model) == 0
        and "trunk" not in vars(diffusion_model)
        and "leave" not in vars(diffusion_model)
    )
    assert KEY not in fast.model_options["transformer_options"]


def test_what_has_no_blocks_is_refused_at_attach(tried):
    model, _ = tried(Listless)
    with pytest.raises(UnsupportedModel, match="no list of two or more blocks of one class"):
        accelerate(model, features())


@pytest.fixture
def unet(monkeypatch):
    unet = {
        "image_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [2, 2],
        "channel_mult": [1, 2],
        "transformer_depth": [1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 0,
        "num_heads": 2,
        "use_spatial_transformer": True,
        "context_dim": 32,
        "legacy": False,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
    }
    monkeypatch.setitem(TINY, "unet", Tiny(supported.SD15, unet, (4, 8, 8)))
    return build("unet")


def test_a_unet_whose_name_is_not_known_is_refused(unet, monkeypatch):
    monkeypatch.setattr(lookup, "REFUSED", {})
    with pytest.raises(UnsupportedModel, match="is a UNetModel, which SpeCa has no entry for, and"):
        sample_tiny(accelerate(unet, features()), "unet")


def test_the_default_settings_work_with_a_unet(unet):
    """Nothing of its inside is touched. Its batch may be a video's frames, so that all of it is
    computed or none."""
    plain = sample_tiny(unet, "unet", steps=20)
    assert torch.isfinite(plain).all()
    assert torch.equal(
        sample_tiny(accelerate(unet, checked(threshold=0.0)), "unet", steps=20), plain
    )
    latent = sample_tiny(accelerate(unet, checked(threshold=math.inf)), "unet", steps=20)
    report = find(latent)
    assert (
        report.coupled
        and report.count("accepted")
        and report.repaired
        and torch.isfinite(latent).all()
    )


def test_the_table_comes_first(monkeypatch):
    model = build("flux").model.diffusion_model
    assert family_of(model) is BY_CLASS["Flux"]


def test_out_of_memory_is_no_verdict(unlisted, monkeypatch):
    """Only what the model itself says against a proposal counts."""
    model = build("flux")
    real = torch.stack

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr("speca_pack.nodes.runtime.blocks.passes.torch.stack", full)
    with pytest.raises(torch.OutOfMemoryError, match="injected"):
        sample_tiny(accelerate(model, features()), "flux")
    monkeypatch.setattr("speca_pack.nodes.runtime.blocks.passes.torch.stack", real)
    assert find(sample_tiny(accelerate(model, EAGER), "flux")).count("accepted") > 0
