"""Mechanics on every family: drafts change nothing they should not change."""

import math

import pytest
import torch
from conftest import COMFY
from models import TINY, build, features, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.blocks.proxy import resolve
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.models.table import FAMILIES, REFUSED
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.subjects.features import FeatureRun, FeaturesSubject
from speca_pack.speca_core import ConfigError, UnsupportedModel
from speca_pack.speca_core.anchors import HEAD_INPUT
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.verifiers import VERIFIERS
from tiny import NOT_YET

every_family = pytest.mark.parametrize("name", TINY)
each_way = pytest.mark.parametrize(
    "verifier",
    [VERIFIERS[v]() for v in ("embedded", "last_block", "first_block")],
    ids=lambda v: v.name,
)


def accelerated(model, config, **options):
    """`model` with SpeCa; None if the family does not allow the verifier, which must then be said
    before sampling."""
    if config.verifier.block == "last" and family_of(model.model.diffusion_model).no_last_block:
        with pytest.raises(ConfigError, match="Choose another verifier"):
            accelerate(model, config)
        return None
    return accelerate(model, config, **options)


@pytest.fixture(scope="module")
def plain():
    """Model and plain result per family, made once."""
    made = {}

    def get(name):
        if name not in made:
            model = build(name)
            made[name] = model, sample_tiny(model, name)
        return made[name]

    return get


@every_family
def test_threshold_zero_is_the_plain_model_bit_for_bit(plain, name):
    model, expected = plain(name)
    latent = sample_tiny(accelerate(model, features(threshold=0.0)), name)
    assert torch.equal(latent, expected)
    assert find(latent).count("accepted") == 0


@every_family
@each_way
def test_rejecting_every_draft_is_the_plain_model_bit_for_bit(plain, name, verifier):
    model, expected = plain(name)
    if fast := accelerated(
        model, features(threshold=1e-12, verifier=verifier, budget=Threshold(give_up=0))
    ):
        latent = sample_tiny(fast, name)
        assert torch.equal(latent, expected)
        # 10 steps less 3 of warm-up and the last.
        drafts = 6 - (TINY[name].cold if verifier.block else 0)
        rows = [row for call in find(latent).calls for row in call.rows]
        # Each image has two branches. Where they come in two calls, the second one is computed
        # because the first was rejected.
        assert (
            sum(row.verdict == "rejected" or row.reason == "coupled" for row in rows)
            == drafts * 2 * TINY[name].batch
        )
        assert sum(row.verdict == "rejected" for row in rows) >= drafts * TINY[name].batch


class Exact:
    """Between a pass and its call: every forecast is what a full pass of the same call computed."""

    def __init__(self, call):
        self.call = call
        self.learn, self.observe, self.judge = call.learn, call.observe, call.judge

    def forecast(self, tap, rows):
        return torch.stack([self.call.lanes[row].histories[tap].anchors[-1] for row in rows])

    def embedded_pair(self, rows):
        if self.call.session.config.verifier.name != "embedded":
            return None
        return iter([self.forecast(HEAD_INPUT, rows)] * 2)


class Oracle(FeaturesSubject):
    """Drafts with exact forecasts; then leaving out the blocks must change nothing."""

    def source(self, call):
        return Exact(call)

    def draft(self, call, rows):
        output = self.compute(call, range(len(call.lanes)))
        answered, drafted = super().draft(call, rows)
        assert [*answered] == [*rows] and not call.rejected_rows
        rounding = self.stream_map.rounding
        torch.testing.assert_close(torch.stack([*drafted]), output[[*rows]], rtol=0, atol=rounding)
        return answered, drafted


@every_family
@each_way
def test_drafts_with_the_exact_features_are_exact(plain, name, verifier):
    model, expected = plain(name)

    class OracleRun(FeatureRun):
        def subject(self, *parts):
            subject = Oracle(*parts)
            subject.stream_map.rounding = TINY[name].rounding
            return subject

    config = features(threshold=1.0, verifier=verifier, hindsight=False)
    if fast := accelerated(model, config, run=OracleRun):
        latent = sample_tiny(fast, name)
        torch.testing.assert_close(latent, expected, rtol=0, atol=TINY[name].rounding)
        assert find(latent).count("accepted") > 0


@every_family
@each_way
def test_infinite_tolerance_computes_exactly_warm_up_and_anchors(plain, name, verifier):
    model, _ = plain(name)
    if fast := accelerated(
        model, features(math.inf, Newton(1, 0.0), verifier, Threshold(warmup=2, max_streak=3))
    ):
        report = find(sample_tiny(fast, name))
        # A model may take cond and uncond in calls of their own.
        branches = {call.rows[0].branch: [] for call in report.calls}
        for call in report.calls:
            branches[call.rows[0].branch].append(call.rows[0].verdict)
        # Two of warm-up, three drafts, one, three drafts and the protected last step; a call of
        # another shape is one more of warm-up.
        cold = TINY[name].cold if verifier.block else 0
        computed = [0, 1, 2, 6, 9] if cold else [0, 1, 5, 9]
        assert all(
            [i for i, verdict in enumerate(verdicts) if verdict == "computed"] == computed
            for verdicts in branches.values()
        )
        assert report.finished


@every_family
def test_some_rows_alone_are_as_in_the_batch(plain, name):
    """Image 0 is forced to compute where image 1 drafts; both must come out as when run alone with
    the same decisions."""
    model, _ = plain(name)
    family = family_of(model.model.diffusion_model)
    images = {"now": [0, 1]}

    class ByImage:
        def __init__(self, call):
            self.call = call
            self.forecast, self.embedded_pair = call.forecast, call.embedded_pair
            self.learn, self.observe = call.learn, call.observe

        def judge(self, rows, errors):
            odd = int(self.call.point.position) % 2
            hard = [odd and images["now"][self.call.groups[row]] == 0 for row in rows]
            return self.call.judge(rows, [math.inf if is_hard else 0.0 for is_hard in hard])

    class Own(FeaturesSubject):
        def source(self, call):
            return ByImage(call)

    class ForcedRun(FeatureRun):
        subject = Own

    fast = accelerate(model, features(threshold=1.0), run=ForcedRun)
    together = sample_tiny(fast, name)
    mixed = [
        call
        for call in find(together).calls
        if {row.verdict for row in call.rows} == {"accepted", "rejected"}
    ]
    assert bool(mixed) == (not family.coupled and TINY[name].batch == 2)
    for image in (0, 1) if mixed else ():
        images["now"] = [image]
        alone = sample_tiny(fast, name, [image])
        torch.testing.assert_close(
            together[image : image + 1], alone, rtol=1e-3, atol=1e-4 * alone.std().item()
        )


@every_family
def test_nothing_stays_behind(plain, name):
    model, expected = plain(name)
    keys = list(model.model.state_dict())
    diffusion_model = model.model.diffusion_model
    family = family_of(diffusion_model)
    places = [
        resolve(diffusion_model, path) for path in (*family.stacks, *family.heads, *family.between)
    ]
    options = {k: dict(v) if isinstance(v, dict) else v for k, v in model.model_options.items()}
    fast = accelerate(model, features(threshold=1.0))
    first, second = sample_tiny(fast, name), sample_tiny(fast, name)
    assert torch.equal(first, second), "a second run must not see the first"
    assert not [attribute for parent, attribute in places if attribute in vars(parent)]
    assert list(model.model.state_dict()) == keys
    assert model.model_options == options and not model.wrappers
    assert torch.equal(sample_tiny(model, name), expected), "the input model must be left as it is"


@every_family
def test_an_exception_in_a_block_restores_everything(plain, name):
    model, _ = plain(name)
    diffusion_model = model.model.diffusion_model
    places = [resolve(diffusion_model, path) for path in family_of(diffusion_model).stacks]
    stacks = [getattr(*place) for place in places]
    blocks = next(stack for stack in reversed(stacks) if len(stack))
    block = list(blocks.values() if isinstance(blocks, torch.nn.ModuleDict) else blocks)[-1]
    fast = accelerate(model, features(threshold=1.0))
    calls = []

    def fail_from_the_fourth_on(*_):
        calls.append(1)  # a single fault of a call of some images is answered by the whole call
        if len(calls) >= 4:
            raise RuntimeError("injected")

    hook = block.register_forward_pre_hook(fail_from_the_fourth_on)
    try:
        with pytest.raises(RuntimeError, match="injected"):
            sample_tiny(fast, name)
    finally:
        hook.remove()
    assert [getattr(*place) for place in places] == stacks and not [
        a for parent, a in places if a in vars(parent)
    ]


@pytest.mark.parametrize(
    "name", [name for name in ("wan_vace", "wan_s2v", "wan_animate", "wan_dancer") if name in TINY]
)
def test_modules_between_blocks_rest_on_drafts(plain, name):
    model, _ = plain(name)
    diffusion_model = model.model.diffusion_model
    (path,) = family_of(diffusion_model).between
    module = getattr(*resolve(diffusion_model, path))
    calls = []
    hooks = [
        m.register_forward_hook(lambda *_: calls.append(1))
        for m in (module if isinstance(module, torch.nn.ModuleList) else [module])
    ]
    try:
        sample_tiny(model, name)
        every = len(calls)
        sample_tiny(
            accelerate(
                model,
                features(
                    math.inf, budget=Threshold(warmup=2, max_streak=3), forecaster=Newton(1, 0.0)
                ),
            ),
            name,
        )
    finally:
        for hook in hooks:
            hook.remove()
    assert every and len(calls) - every == every * 4 // 10  # 4 of 10 calls are computed


REFINED = ("hunyuan_video", "z_image", "z_image_pixel", "lumina", "omnigen2", "boogu", "krea2")


@pytest.mark.parametrize("name", [name for name in REFINED if name in TINY])
@each_way
def test_refiners_rest_on_drafts_that_run_no_first_block(plain, name, verifier):
    model, _ = plain(name)
    diffusion_model = model.model.diffusion_model
    lists = [
        getattr(*resolve(diffusion_model, path), None)
        for path in family_of(diffusion_model).refiners
    ]
    calls = []
    hooks = [
        block.register_forward_hook(lambda *_: calls.append(1))
        for blocks in lists
        if blocks
        for block in blocks
    ]
    try:
        sample_tiny(model, name)
        every = len(calls)
        drafting = Threshold(warmup=3, max_streak=3)
        sample_tiny(
            accelerate(
                model,
                features(math.inf, budget=drafting, forecaster=Newton(1, 0.0), verifier=verifier),
            ),
            name,
        )
    finally:
        for hook in hooks:
            hook.remove()
    # 5 of 10 calls are computed.
    assert every and len(calls) - every == (every if verifier.block == "first" else every * 5 // 10)


@pytest.mark.family("wan_causal")
def test_an_autoregressive_sampler_gets_the_plain_model(plain, monkeypatch):
    """Its blocks fill the caches that the next frames read, so every one of them has to run."""
    model, whole = plain("wan_causal")
    # Only its own node offers it.
    monkeypatch.setattr("comfy.samplers.KSampler.SAMPLERS", ["ar_video"])
    expected = sample_tiny(model, "wan_causal", cfg=1.0, sampler="ar_video")
    latent = sample_tiny(
        accelerate(model, features(math.inf)), "wan_causal", cfg=1.0, sampler="ar_video"
    )
    assert torch.equal(latent, expected) and not torch.equal(expected, whole)
    assert find(latent).calls == []


@pytest.mark.family("hidream_o1")
@each_way
def test_a_draft_survives_a_lost_attention_cache(plain, verifier):
    """HiDream-O1 keeps the text's keys and values; without them a pass is longer, and a draft has
    none to offer."""
    model, _ = plain("hidream_o1")
    fast = accelerate(
        model, features(math.inf, Newton(1, 0.0), verifier, Threshold(warmup=2, max_streak=3))
    )
    expected = sample_tiny(fast, "hidream_o1")

    def lose(step, *_):
        if step == 2:
            model.model.diffusion_model.clear_kv_cache()

    latent = sample_tiny(fast, "hidream_o1", callback=lose)
    verdicts = [call.rows[0].verdict for call in find(latent).calls]
    if not verifier.block:
        torch.testing.assert_close(latent, expected, rtol=1e-3, atol=1e-4)
    else:
        assert verdicts[3] == "rejected", (
            "what has another shape than its forecast cannot be checked"
        )


def test_every_class_of_the_table_is_tried(plain):
    tried = {type(plain(name)[0].model.diffusion_model).__name__ for name in TINY}
    known = {model for family in FAMILIES for model in family.models}
    sources = [path.read_text(encoding="utf-8") for path in (COMFY / "comfy" / "ldm").rglob("*.py")]
    later = {
        model
        for model in known - tried
        if not any(f"class {model}(" in source for source in sources)
    }
    assert tried == known - later
    assert bool(later) == bool(NOT_YET), (
        "a class is absent where its ComfyUI is older, and only there"
    )


def test_a_unet_is_refused_before_sampling():
    import comfy.model_patcher

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.diffusion_model = torch.nn.Linear(1, 1)

    model = comfy.model_patcher.ModelPatcher(
        Holder(), load_device=torch.device("cpu"), offload_device=torch.device("cpu")
    )
    with pytest.raises(
        UnsupportedModel,
        match=r"is a Linear, which SpeCa has no entry for.*expected a diffusion transformer.*"
        "Set level to prediction",
    ):
        accelerate(model, features())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_its_reason(name):
    with pytest.raises(UnsupportedModel, match="expected a diffusion transformer"):
        family_of(type(name, (), {})())
