"""Every graph: SpeCa among ComfyUI's other nodes, on the trained tiny Flux where the picture
counts, on random models elsewhere.

A graph is a function from a model and a seed's noise to a latent. `holds` says of each the same
four things: threshold 0 is the plain graph bit for bit, settings that are lax enough for ten steps
draft, what comes out is finite and near plain, nothing stays behind.
"""

import logging
import math
import shutil

import comfy.controlnet
import comfy.hooks
import comfy.ldm.flux.controlnet
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.sd
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras import (
    nodes_apg,
    nodes_cfg,
    nodes_context_windows,
    nodes_custom_sampler,
    nodes_differential_diffusion,
    nodes_easycache,
    nodes_eps,
    nodes_fresca,
    nodes_hooks,
    nodes_mahiro,
    nodes_model_advanced,
    nodes_model_merging,
    nodes_nag,
    nodes_pag,
    nodes_perpneg,
    nodes_rope,
    nodes_slg,
    nodes_tcfg,
)
from models import CAPTIONS, PACK, build, caption, features, sample_tiny, trained_flux
from speca_pack.nodes.runtime.attach import KEY, accelerate
from speca_pack.nodes.runtime.blocks.proxy import resolve
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.targets.prediction import asked_at
from speca_pack.speca_core import ConfigError, SpecaConfig, UnsupportedModel
from speca_pack.speca_core.verifiers import VERIFIERS
from tiny import random

import nodes as core

STEPS = 10
LAX = features(threshold=0.7)
each_way = pytest.mark.parametrize(
    "verifier",
    [VERIFIERS[v]() for v in ("embedded", "last_block", "first_block")],
    ids=lambda v: v.name,
)


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


@pytest.fixture(scope="module")
def words():
    return caption(CAPTIONS[0]), caption("")


def blank(batch=1, height=16, width=16):
    return {"samples": torch.zeros(batch, 16, height, width)}


def ksampler(model, words, latent=None, steps=STEPS, cfg=3.0, sampler="euler", denoise=1.0, seed=5):
    """ComfyUI's own KSampler node."""
    positive, negative = words
    (made,) = core.KSampler().sample(
        model, seed, steps, cfg, sampler, "simple", positive, negative, latent or blank(), denoise
    )
    return made["samples"]


def advanced(guider, model, steps=STEPS, latent=None, sampler="euler"):
    """ComfyUI's SamplerCustomAdvanced around a guider."""
    sigmas = nodes_custom_sampler.BasicScheduler.execute(model, "simple", steps, 1.0).result[0]
    noise = nodes_custom_sampler.RandomNoise.execute(5).result[0]
    sampler = nodes_custom_sampler.KSamplerSelect.execute(sampler).result[0]
    return nodes_custom_sampler.SamplerCustomAdvanced.execute(
        noise, guider, sampler, sigmas, latent or blank()
    ).result[0]["samples"]


def off(latent, plain):
    """Relative distance."""
    return (torch.linalg.vector_norm(latent - plain) / torch.linalg.vector_norm(plain)).item()


def left_behind(model):
    diffusion_model = model.model.diffusion_model
    family = family_of(diffusion_model)
    places = [
        resolve(diffusion_model, path) for path in (*family.stacks, *family.heads, *family.between)
    ]
    return [name for parent, name in places if name in vars(parent)]


def holds(graph, *models, near=0.4, config=LAX):
    """The four things; `graph(wrap)` samples with every model put through `wrap`. Returns the
    latent that was drafted."""
    options = [
        {k: dict(v) if isinstance(v, dict) else v for k, v in model.model_options.items()}
        for model in models
    ]
    plain = graph(lambda model: model)
    assert torch.isfinite(plain).all()
    zero = graph(lambda model: accelerate(model, features(threshold=0.0)))
    assert torch.equal(zero, plain), "threshold 0 must be the plain graph, bit for bit"
    latent = graph(lambda model: accelerate(model, config))
    report = find(latent)
    assert report.finished and report.count("accepted") > 0, report.summary
    assert torch.isfinite(latent).all() and off(latent, plain) < near, off(latent, plain)
    for model, before in zip(models, options, strict=True):
        assert not left_behind(model) and not model.wrappers and model.model_options == before
    return latent


# --- patches of the model ----------------------------------------------------------------------------------------------------------------


def with_lora(model):
    """A LoRA of rank 2 on two linears, loaded by ComfyUI's own loader."""
    weights = {}
    for name in ("double_blocks.0.img_attn.qkv", "single_blocks.3.linear1"):
        out, into = model.model.state_dict()[f"diffusion_model.{name}.weight"].shape
        weights[f"diffusion_model.{name}.lora_up.weight"] = 0.1 * random(1, out, 2)
        weights[f"diffusion_model.{name}.lora_down.weight"] = 0.1 * random(2, 2, into)
    return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]


def with_block_patch(model):
    """What IP-Adapters, PuLID and USO do: add to the image tokens after a double block."""
    model = model.clone()

    def add(args):
        args["img"] += 0.01 * args["img"].mean(dim=1, keepdim=True)
        return args

    model.set_model_double_block_patch(add)
    return model


def with_attention_patch(model):
    """An attention patch, as many packs set it: keys and values are touched, the output too."""
    model = model.clone()
    model.set_model_attn1_patch(
        lambda q, k, v, pe=None, attn_mask=None, extra_options=None: {
            "q": 1.02 * q,
            "k": k,
            "v": v,
            "pe": pe,
        }
    )
    model.set_model_attn1_output_patch(lambda out, extra: 0.98 * out)
    return model


def with_replaced_block(model):
    """A block replaced by a function that calls the original one."""
    model = model.clone()

    def half(args, extra):
        out = extra["original_block"](args)
        return {"img": 0.5 * (args["img"] + out["img"]), "txt": out["txt"]}

    model.set_model_patch_replace(half, "dit", "double_block", 2)
    return model


def with_block_called_by_position(model):
    """A replacement that calls the model's block itself, by position where the model uses keywords."""
    model = model.clone()
    blocks = lambda: model.model.diffusion_model.double_blocks  # noqa: E731

    def call(args, _):
        img, txt = blocks()[1](args["img"], args["txt"], args["vec"], args["pe"], args["attn_mask"])
        return {"img": img, "txt": txt}

    model.set_model_patch_replace(call, "dit", "double_block", 1)
    return model


def node(cls, *args, **kwargs):
    """A patch made by one of ComfyUI's nodes."""
    return lambda model: cls.execute(model, *args, **kwargs).result[0]


def old(cls, function, *args):
    """A patch made by one of its older nodes."""
    return lambda model: getattr(cls(), function)(model, *args)[0]


def merged(model):
    return nodes_model_merging.ModelMergeSimple().merge(model, with_lora(model), 0.5)[0]


PATCHES = {
    "lora": with_lora,
    "block patch": with_block_patch,
    "attention patch": with_attention_patch,
    "replaced block": with_replaced_block,
    "block called by position": with_block_called_by_position,
    "NAG": node(nodes_nag.NAGuidance, 3.0, 0.3, 2.5),
    "skip layer guidance": node(nodes_slg.SkipLayerGuidanceDiT, 2.0, 0.0, 1.0, "1", "2,3"),
    "skip layer guidance, simple": node(nodes_slg.SkipLayerGuidanceDiTSimple, 0.0, 0.5, "1", "2,3"),
    "perturbed attention guidance": node(nodes_pag.PerturbedAttentionGuidance, 1.0),
    "APG": node(nodes_apg.APG, 0.8, 8.0, 0.2),
    "CFG-Zero*": node(nodes_cfg.CFGZeroStar),
    "CFGNorm": node(nodes_cfg.CFGNorm, 0.9),
    "TCFG": node(nodes_tcfg.TCFG),
    "FreSca": node(nodes_fresca.FreSca, 1.0, 1.2, 4),
    "Mahiro": node(nodes_mahiro.Mahiro),
    "TSR": node(nodes_eps.TemporalScoreRescaling, 0.95, 1.0),
    "epsilon scaling": node(nodes_eps.EpsilonScaling, 1.005),
    "RescaleCFG": old(nodes_model_advanced.RescaleCFG, "patch", 0.7),
    "ModelSamplingFlux": old(nodes_model_advanced.ModelSamplingFlux, "patch", 1.15, 0.5, 128, 128),
    "scaled rope": node(nodes_rope.ScaleROPE, 1.1, 0.0, 1.1, 0.0, 1.0, 0.0),
    "merged models": merged,
}  # fmt: skip


@pytest.mark.parametrize("name", PATCHES)
def test_patched_models(flux, words, name):
    """SpeCa last, as the graph is usually built; and first, with the same result."""
    patch = PATCHES[name]
    last = holds(lambda wrap: ksampler(wrap(patch(flux)), words), flux)
    first = ksampler(patch(accelerate(flux, LAX)), words)
    assert torch.equal(first, last), "where SpeCa sits in the row of patches must not matter"


@each_way
@pytest.mark.parametrize("blocks", [("0", "0"), ("3", "11")], ids=["the first", "the last"])
def test_skip_layer_guidance_of_the_very_block_that_a_verifier_runs(flux, words, verifier, blocks):
    """The extra pass leaves that block out, so a draft of it cannot be checked, and none may be
    served unchecked."""
    patched = nodes_slg.SkipLayerGuidanceDiT.execute(flux, 2.0, 0.0, 1.0, *blocks).result[0]
    report = find(ksampler(accelerate(patched, features(1.0, verifier=verifier)), words))
    for call in report.calls:
        assert all(row.error is not None for row in call.rows if row.verdict == "accepted")


# --- conditioning ------------------------------------------------------------------------------------------------------------------------


def control_net(flux):
    """A tiny Flux ControlNet with random weights: residuals for some double and some single blocks."""
    parameters = {
        "in_channels": 16, "out_channels": 16, "vec_in_dim": 64, "context_in_dim": 80, "hidden_size": 128, "mlp_ratio": 2.0, "num_heads": 1,
        "depth": 2, "depth_single_blocks": 3, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True,
        "guidance_embed": True, "txt_ids_dims": [],
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = comfy.ldm.flux.controlnet.ControlNetFlux(
            operations=comfy.ops.disable_weight_init,
            dtype=torch.float32,
            device=torch.device("cpu"),
            **parameters,
        )
        for parameter in net.parameters():
            parameter.copy_(
                torch.randn(parameter.shape)
                * (0.3 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.02)
            )
    return comfy.controlnet.ControlNet(
        net, load_device=torch.device("cpu"), extra_conds=["y", "guidance"]
    )


def with_control(words, flux, start=0.0, end=1.0):
    positive, negative = words
    hint = random(4, 1, 128, 128, 3).sigmoid()
    return core.ControlNetApplyAdvanced().apply_controlnet(
        positive, negative, control_net(flux), hint, 0.7, start, end
    )


def regions(words, flux):
    """Two prompts, each for its half: areas and a mask, which come in calls of their own size."""
    positive, negative = words
    area = core.ConditioningSetArea().append(positive, 128, 64, 0, 0, 1.0)[0]
    other = core.ConditioningSetAreaPercentage().append(
        caption(CAPTIONS[1]), 1.0, 0.5, 0.0, 0.5, 1.0
    )[0]
    return core.ConditioningCombine().combine(area, other)[0], negative


def masked(words, flux):
    positive, negative = words
    mask = torch.zeros(1, 128, 128)
    mask[:, :, 64:] = 1.0
    one = core.ConditioningSetMask().append(positive, mask, "default", 1.0)[0]
    two = core.ConditioningSetMask().append(caption(CAPTIONS[1]), 1 - mask, "mask bounds", 1.0)[0]
    return core.ConditioningCombine().combine(one, two)[0], negative


def timed(words, flux):
    """Another prompt for the second half of the run."""
    positive, negative = words
    early = core.ConditioningSetTimestepRange().set_range(positive, 0.0, 0.5)[0]
    late = core.ConditioningSetTimestepRange().set_range(caption(CAPTIONS[1]), 0.5, 1.0)[0]
    return core.ConditioningCombine().combine(early, late)[0], negative


def averaged(words, flux):
    positive, negative = words
    return core.ConditioningAverage().addWeighted(positive, caption(CAPTIONS[1]), 0.6)[0], negative


CONDITIONINGS = {
    "ControlNet": with_control,
    "ControlNet for a part of the run": lambda words, flux: with_control(words, flux, 0.2, 0.7),
    "two ControlNets": lambda words, flux: with_control(with_control(words, flux), flux),
    "areas": regions,
    "masks": masked,
    "timestep ranges": timed,
    "averaged": averaged,
    "unequal prompts": lambda words, flux: (words[0], [[words[1][0][0][:, :7], words[1][0][1]]]),
}


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_conditionings(flux, words, name):
    made = CONDITIONINGS[name](words, flux)
    holds(lambda wrap: ksampler(wrap(flux), made), flux)


def test_prompts_that_take_turns_have_lanes_of_their_own_at_level_prediction(flux, words):
    """Nothing is drafted from what another prompt was answered."""
    made = timed(words, flux)
    latent = ksampler(
        accelerate(flux, features(threshold=math.inf, level="prediction")), made, steps=20
    )
    rows = [call.rows[0] for call in find(latent).calls]
    assert [row.lane for row in rows].count(1) == 1, "at the bound itself ComfyUI asks about both"
    for lane in (0, 2):
        assert [row.reason for row in rows if row.lane == lane][:4] == ["warmup"] * 3 + ["draft"]


def test_a_control_that_ends_has_lanes_of_its_own_at_level_prediction(flux, words):
    latent = ksampler(
        accelerate(flux, features(threshold=math.inf, level="prediction")),
        with_control(words, flux, 0.0, 0.5),
        steps=20,
    )
    assert {row.lane for call in find(latent).calls for row in call.rows} == {0, 1}


def test_ranges_are_compared_as_comfyui_compares():
    """In float32, in which a sigma of .8 lies above the .8 that a node's percent has become."""
    sigma = torch.tensor(0.8).item()
    conds = {
        "positive": [
            {"uuid": "a", "timestep_start": 0.8},
            {"uuid": "b", "timestep_end": 0.8},
            {"uuid": "c", "timestep_end": 0.81},
        ]
    }
    assert sigma > 0.8 and asked_at(sigma, conds) == ("a", "b")


def test_a_patch_that_looks_at_the_whole_batch_gets_all_of_it(flux, words):
    """Mahiro takes a mean over the batch: what stands in a drafted image's place would be in it."""
    fast = accelerate(node(nodes_mahiro.Mahiro)(flux), features(threshold=0.2, level="prediction"))
    rows = [
        [row.verdict == "accepted" for row in call.rows]
        for call in find(ksampler(fast, words, blank(3), steps=28)).calls
    ]
    assert [True] * 3 in rows and all(len(set(row)) == 1 for row in rows)
    alone = find(
        ksampler(
            accelerate(flux, features(threshold=0.2, level="prediction")), words, blank(3), steps=28
        )
    )
    assert any(
        len({row.verdict == "accepted" for row in call.rows}) == 2 for call in alone.calls
    ), "without it each decides for itself"


def test_a_patch_that_puts_tiles_into_the_batch_gets_all_of_them(flux, words):
    sizes = []

    def tiled(apply, options):
        halves = [options["input"][..., :8], options["input"][..., 8:]]
        conds = {
            k: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v
            for k, v in options["c"].items()
        }
        made = apply(torch.cat(halves), torch.cat([options["timestep"]] * 2), **conds)
        sizes.append(len(made))
        return torch.cat(made.chunk(2), dim=-1)

    model = flux.clone()
    model.set_model_unet_function_wrapper(tiled)
    latent = ksampler(
        accelerate(model, features(threshold=0.2, level="prediction")),
        words,
        blank(2),
        steps=28,
        cfg=1.0,
    )
    computed = [[row.verdict != "accepted" for row in call.rows] for call in find(latent).calls]
    assert [True, False] in computed or [False, True] in computed
    assert set(sizes) == {4} and torch.isfinite(latent).all()


def test_a_model_whose_rows_belong_together_is_asked_as_a_whole():
    latent = sample_tiny(
        accelerate(build("ace15"), features(threshold=math.inf, level="prediction")), "ace15"
    )
    assert find(latent).coupled and find(latent).count("accepted")


def test_a_prediction_may_be_asked_for_without_options(flux, words):
    """ComfyUI's own default for a guider's options is none."""

    class Terse(comfy.samplers.CFGGuider):
        def __call__(self, x, timestep, *_, **__):
            return self.outer_predict_noise(x, timestep)

    def sample(model):
        guider = Terse(model)
        guider.set_conds(*words)
        guider.set_cfg(1.0)
        noise = comfy.sample.prepare_noise(torch.zeros(1, 16, 16, 16), 1)
        sigmas = torch.linspace(1, 0, 9)
        sampler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True)

    assert find(sample(accelerate(flux, SpecaConfig(threshold=1.0)))).count("accepted") > 0


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "res_multistep_cfg_pp"])
def test_a_sampler_that_listens_to_the_model_is_not_kept_waiting(flux, words, sampler, caplog):
    """CFG++ goes by the model's answer to one prompt, which no forecast of the guided prediction
    has."""
    fast = accelerate(flux, features(threshold=math.inf, level="prediction"))
    assert torch.equal(
        ksampler(fast, words, cfg=1.5, sampler=sampler),
        ksampler(flux, words, cfg=1.5, sampler=sampler),
    )
    assert caplog.text.count("needs the model's answer to each prompt") == 1
    rescaled = node(nodes_mahiro.Mahiro)(flux)
    latent = ksampler(accelerate(rescaled, features(threshold=math.inf, level="prediction")), words)
    assert find(latent).count("accepted") > 0, "what the model brings along is not the sampler's"


def scheduled_lora(words, flux, keyframes):
    """The conditionings with a LoRA hook whose strength changes during the run."""
    weights = {}
    for name in ("double_blocks.1.img_mlp.0", "single_blocks.5.linear2"):
        out, into = flux.model.state_dict()[f"diffusion_model.{name}.weight"].shape
        weights[f"diffusion_model.{name}.lora_up.weight"] = 0.1 * random(5, out, 2)
        weights[f"diffusion_model.{name}.lora_down.weight"] = 0.1 * random(6, 2, into)
    hooks = comfy.hooks.create_hook_lora(weights, 1.0, 0.0)
    previous = None
    for strength, start in keyframes:
        previous = nodes_hooks.CreateHookKeyframe().create_hook_keyframe(strength, start, previous)[
            0
        ]
    hooks = nodes_hooks.SetHookKeyframes().set_hook_keyframes(hooks, previous)[0]
    return [
        nodes_hooks.ConditioningSetProperties().set_properties(c, 1.0, "default", hooks=hooks)[0]
        for c in words
    ]


def test_lora_hooks_with_a_schedule(flux, words):
    made = scheduled_lora(words, flux, [(1.0, 0.0), (0.2, 0.6)])
    weight = flux.model.state_dict()["diffusion_model.single_blocks.5.linear2.weight"].clone()
    assert not torch.equal(ksampler(flux, made), ksampler(flux, words)), "the hooks did nothing"
    holds(lambda wrap: ksampler(wrap(flux), made), flux)
    assert torch.equal(
        flux.model.state_dict()["diffusion_model.single_blocks.5.linear2.weight"], weight
    )


# --- guiders, samplers in a row, latents -------------------------------------------------------------------------------------------------

GUIDERS = {
    "BasicGuider": lambda model, p, n: nodes_custom_sampler.BasicGuider.execute(model, p),
    "CFGGuider": lambda model, p, n: nodes_custom_sampler.CFGGuider.execute(model, p, n, 3.0),
    "CFG 1": lambda model, p, n: nodes_custom_sampler.CFGGuider.execute(model, p, n, 1.0),
    "DualCFGGuider": lambda model, p, n: nodes_custom_sampler.DualCFGGuider.execute(
        model, p, caption(CAPTIONS[1]), n, 2.0, 2.0, "regular"
    ),
    "DualCFGGuider, nested": lambda model, p, n: nodes_custom_sampler.DualCFGGuider.execute(
        model, p, caption(CAPTIONS[1]), n, 2.0, 2.0, "nested"
    ),
    "PerpNegGuider": lambda model, p, n: nodes_perpneg.PerpNegGuider.execute(
        model, p, caption(CAPTIONS[1]), n, 3.0, 0.5
    ),
}


@pytest.mark.parametrize("name", GUIDERS)
def test_guiders(flux, words, name):
    def graph(wrap):
        model = wrap(flux)
        return advanced(GUIDERS[name](model, *words).result[0], model)

    holds(graph, flux)


def test_split_sigmas_through_two_samplers(flux, words):
    """The schedule's two halves in two samplers that share one model; each is a run of its own."""
    positive, negative = words

    def graph(wrap):
        model = wrap(flux)
        sigmas = nodes_custom_sampler.BasicScheduler.execute(model, "simple", 20, 1.0).result[0]
        high, low = nodes_custom_sampler.SplitSigmas.execute(sigmas, 10).result
        euler = nodes_custom_sampler.KSamplerSelect.execute("euler").result[0]
        custom = nodes_custom_sampler.SamplerCustom.execute
        half = custom(model, True, 5, 3.0, positive, negative, euler, high, blank()).result[0]
        return custom(model, False, 5, 3.0, positive, negative, euler, low, half).result[0][
            "samples"
        ]

    holds(graph, flux)


def test_advanced_samplers_hand_noise_on(flux, words):
    positive, negative = words

    def graph(wrap):
        model, sampler = wrap(flux), core.KSamplerAdvanced()
        half = sampler.sample(
            model,
            "enable",
            5,
            20,
            3.0,
            "euler",
            "simple",
            positive,
            negative,
            blank(),
            0,
            10,
            "enable",
        )[0]
        return sampler.sample(
            model,
            "disable",
            5,
            20,
            3.0,
            "euler",
            "simple",
            positive,
            negative,
            half,
            10,
            10000,
            "disable",
        )[0]["samples"]

    holds(graph, flux)


@pytest.fixture(scope="module")
def picture(flux, words):
    """A latent to start from."""
    return ksampler(flux, words, seed=9)


@pytest.mark.parametrize("differential", [False, True])
def test_inpainting(flux, words, picture, differential):
    """The noise mask mixes the known picture in after every call; with DifferentialDiffusion the
    mask itself changes."""
    soft = torch.linspace(0, 1, 128).expand(1, 128, 128)
    latent = core.SetLatentNoiseMask().set_mask(
        {"samples": picture}, soft if differential else (soft > 0.5).float()
    )[0]
    patch = (
        nodes_differential_diffusion.DifferentialDiffusion.execute(flux, 1.0).result[0]
        if differential
        else flux
    )
    holds(lambda wrap: ksampler(wrap(patch), words, latent, steps=14), flux)


@pytest.mark.parametrize("denoise", [0.4, 0.7])
def test_image_to_image(flux, words, picture, denoise):
    holds(lambda wrap: ksampler(wrap(flux), words, {"samples": picture}, denoise=denoise), flux)


@pytest.mark.parametrize("shape", [(4, 16, 16), (3, 12, 20), (1, 15, 17), (2, 9, 11)], ids=str)
def test_batches_and_odd_sizes(flux, words, shape):
    holds(lambda wrap: ksampler(wrap(flux), words, blank(*shape), steps=10), flux, near=0.4)


def test_another_size_in_the_next_run(flux, words):
    fast = accelerate(flux, features())
    first = ksampler(fast, words)
    ksampler(fast, words, blank(2, 12, 20))
    assert torch.equal(ksampler(fast, words), first)


# --- weights -----------------------------------------------------------------------------------------------------------------------------

FLUX = str(PACK / "demo/models/diffusion_models/flux_tiny.safetensors")


class Packed(comfy.ops.disable_weight_init):
    """Weights kept as int8 with one scale per row and unpacked when they are used, as GGUF loaders
    do it."""

    class Linear(comfy.ops.disable_weight_init.Linear):
        def forward(self, x):
            if not hasattr(self, "packed"):
                weight = self.weight.float()
                self.scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
                self.packed = (weight / self.scale).round().to(torch.int8)
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return nn_linear(x, (self.packed * self.scale).to(x.dtype), bias)


nn_linear = torch.nn.functional.linear

LOADS = {
    "float8 weights": {"dtype": torch.float8_e4m3fn},
    "own operations": {"custom_operations": Packed},
}


@pytest.mark.parametrize("name", LOADS)
def test_quantised_weights(words, name):
    model = comfy.sd.load_diffusion_model(FLUX, model_options=dict(LOADS[name]))
    holds(lambda wrap: ksampler(wrap(model), words), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(words, dtype):
    name = "flux"
    model = build(name)
    model.set_model_compute_dtype(dtype)
    holds(
        lambda wrap: sample_tiny(wrap(model), name, cfg=1.0),
        model,
        config=features(threshold=1.0),
        near=1.0,
    )


def test_weights_that_do_not_fit(words, monkeypatch):
    """Half of the weights stay where they are and are cast as they are used; the LoRA on them too."""
    model = comfy.sd.load_diffusion_model(FLUX)
    load, left_out = comfy.model_patcher.ModelPatcher.load, []

    def little_room(self, device_to=None, *_, **__):
        load(self, device_to, 6_000_000)
        left_out.append(
            sum(hasattr(module, "prev_comfy_cast_weights") for module in self.model.modules())
        )

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", little_room)
    holds(lambda wrap: ksampler(wrap(with_lora(model)), words), model)
    assert left_out and min(left_out) > 10


# --- torch.compile -----------------------------------------------------------------------------------------------------------------------


# The eager backend generates no code; the default one writes C++, which takes minutes for a whole
# model.
generates = pytest.mark.skipif(
    not shutil.which("g++"),
    reason="torch's default backend generates C++, and there is no compiler",
)


@pytest.mark.parametrize(
    ("backend", "what"),
    [
        ("eager", "whole"),
        ("eager", "per block"),
        pytest.param("inductor", "per block", marks=generates),
        pytest.param("inductor", "whole", marks=[generates, pytest.mark.long]),
    ],
)
def test_torch_compile(backend, what):
    """ComfyUI's wrapper around the whole model, and around each block."""
    model = build("flux")

    def compiled(patched):
        patched = patched.clone(disable_dynamic=True)
        blocks = [
            f"diffusion_model.{path}.{i}"
            for path, n in (("double_blocks", 2), ("single_blocks", 3))
            for i in range(n)
        ]
        set_torch_compile_wrapper(
            patched, backend, keys=["diffusion_model"] if what == "whole" else blocks
        )
        return patched

    bare = sample_tiny(accelerate(model, features(threshold=1.0)), "flux")
    latent = sample_tiny(compiled(accelerate(model, features(threshold=1.0))), "flux")
    assert find(latent).count("accepted") > 0
    torch.testing.assert_close(latent, bare, rtol=1e-3, atol=1e-3)
    torch._dynamo.reset()
    assert not left_behind(model)


# --- video -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule", ["standard_static", "standard_uniform", "looped_uniform", "batched"]
)
def test_context_windows(schedule):
    """Static windows are lanes of their own; windows that shift never come back, and are computed."""
    model = build("wan")
    patch = nodes_context_windows.WanContextWindowsManualNode.execute(
        model, 9, 4, schedule, 1, False, "pyramid", False
    ).result[0]

    def graph(wrap):
        noise = random(7, 1, 16, 7, 4, 4)
        words = [[[random(seed, 1, 6, 32), {}]] for seed in (1, 2)]
        return comfy.sample.sample(
            wrap(patch),
            noise,
            10,
            3.0,
            "euler",
            "simple",
            *words,
            0 * noise,
            disable_pbar=True,
            seed=7,
        )

    if schedule in ("standard_static", "batched"):
        holds(graph, model, config=features(threshold=1.0), near=1.0)
        return
    plain = graph(lambda model: model)
    assert torch.equal(graph(lambda model: accelerate(model, features(threshold=0.0))), plain)
    latent = graph(lambda model: accelerate(model, features(threshold=1.0)))
    assert torch.isfinite(latent).all() and find(latent).finished


def test_two_experts(words):
    """Wan 2.2: one model for the noisy half of the schedule, another one for the rest, each behind
    its own SpeCa node."""
    high, low = build("wan", 0), build("wan", 1)
    noise = random(7, 1, 16, 3, 4, 4)
    words = [[[random(seed, 1, 6, 32), {}]] for seed in (1, 2)]

    def graph(wrap):
        sampler = core.KSamplerAdvanced()
        latent = {"samples": 0 * noise}
        half = sampler.sample(
            wrap(high), "enable", 7, 20, 3.0, "euler", "simple", *words, latent, 0, 10, "enable"
        )[0]
        return sampler.sample(
            wrap(low), "disable", 7, 20, 3.0, "euler", "simple", *words, half, 10, 10000, "disable"
        )[0]["samples"]

    holds(graph, high, low, config=features(threshold=1.0), near=1.0)


# --- other caches ------------------------------------------------------------------------------------------------------------------------


def easy(model):
    return nodes_easycache.EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).result[0]


def lazy(model):
    return nodes_easycache.LazyCacheNode.execute(model, 0.2, 0.15, 0.95, False).result[0]


def tea(model):
    """How TeaCache, MagCache and First Block Cache get in: a function in place of the model's, from
    a module of their name."""
    model = model.clone()

    def unet_wrapper_function(apply, options):
        return apply(options["input"], options["timestep"], **options["c"])

    unet_wrapper_function.__qualname__ = "TeaCache.apply_teacache.<locals>.unet_wrapper_function"
    model.set_model_unet_function_wrapper(unet_wrapper_function)
    return model


@pytest.mark.parametrize("cache", [easy, tea])
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_cache_below_is_refused_before_sampling(flux, words, cache, order):
    both = (
        accelerate(cache(flux), features())
        if order == "before"
        else cache(accelerate(flux, features()))
    )
    calls = []
    hook = flux.model.diffusion_model.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(
            ConfigError, match=r"another cache is on this model.*Remove or bypass one of the two"
        ):
            ksampler(both, words)
    finally:
        hook.remove()
    assert not calls and not left_behind(flux)


def test_a_cache_above_is_warned_about(flux, words, caplog):
    with caplog.at_level(logging.WARNING, "speca"):
        latent = ksampler(accelerate(lazy(flux), features()), words)
    assert "skips calls, unchecked" in caplog.text and torch.isfinite(latent).all()


def test_whatever_answers_in_the_models_place_is_noticed(flux, words):
    """A cache that nobody knows by name: the call comes back, but the model's head has not run."""
    from comfy.patcher_extension import WrappersMP

    model, kept = accelerate(flux, features()), []

    def nameless(executor, *args, **kwargs):
        if len(kept) < 3:
            kept.append(executor(*args, **kwargs))
        return kept[-1]

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "mine", nameless)
    with pytest.raises(UnsupportedModel, match="did not run to its head"):
        ksampler(model, words)
    assert not left_behind(flux) and KEY not in model.model_options["transformer_options"]


def test_a_function_in_place_of_the_model_that_is_no_cache(flux, words):
    model = flux.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, options: apply(options["input"], options["timestep"], **options["c"])
    )
    holds(lambda wrap: ksampler(wrap(model), words), flux)
