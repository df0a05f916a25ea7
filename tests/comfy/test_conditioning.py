"""SpeCa with conditioning that is more than a prompt: ControlNets, areas, time ranges, hooks."""

import functools
import math

import comfy.controlnet
import comfy.hooks
import comfy.ops
import pytest
import torch
from comfy.ldm.flux.controlnet import ControlNetFlux
from comfy_extras import nodes_hooks
from graphs import assert_harmless, assert_untouched, ksampler, lora, prompts
from models import CAPTIONS, caption, features, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.subjects.prediction import asked_at
from speca_pack.speca_core import SpecaConfig
from tiny import random

import nodes as core


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def control_net():
    """A tiny Flux ControlNet with random weights: residuals for some double and some single
    blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = ControlNetFlux(
            operations=comfy.ops.disable_weight_init,
            dtype=torch.float32,
            device=torch.device("cpu"),
            in_channels=16,
            out_channels=16,
            vec_in_dim=64,
            context_in_dim=80,
            hidden_size=128,
            mlp_ratio=2.0,
            num_heads=1,
            depth=2,
            depth_single_blocks=3,
            axes_dim=[16, 56, 56],
            theta=10000,
            patch_size=2,
            qkv_bias=True,
            guidance_embed=True,
            txt_ids_dims=[],
        )
        for parameter in net.parameters():
            scale = 0.3 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.02
            parameter.copy_(scale * torch.randn(parameter.shape))
    return comfy.controlnet.ControlNet(
        net, load_device=torch.device("cpu"), extra_conds=["y", "guidance"]
    )


def with_control(conditioning, flux, start=0.0, end=1.0):
    positive, negative = conditioning
    hint = random(4, 1, 128, 128, 3).sigmoid()
    return core.ControlNetApplyAdvanced().apply_controlnet(
        positive, negative, control_net(), hint, 0.7, start, end
    )


def regions(conditioning, flux):
    """Two prompts, each for an area: ComfyUI asks the model about each in a call of its size."""
    positive, negative = conditioning
    area = core.ConditioningSetArea().append(positive, 128, 64, 0, 0, 1.0)[0]
    other = core.ConditioningSetAreaPercentage().append(
        caption(CAPTIONS[1]), 1.0, 0.5, 0.0, 0.5, 1.0
    )[0]
    return core.ConditioningCombine().combine(area, other)[0], negative


def masked(conditioning, flux):
    positive, negative = conditioning
    mask = torch.zeros(1, 128, 128)
    mask[:, :, 64:] = 1.0
    one = core.ConditioningSetMask().append(positive, mask, "default", 1.0)[0]
    two = core.ConditioningSetMask().append(caption(CAPTIONS[1]), 1 - mask, "mask bounds", 1.0)[0]
    return core.ConditioningCombine().combine(one, two)[0], negative


def timed(conditioning, flux):
    """Another prompt in the second half of the run."""
    positive, negative = conditioning
    early = core.ConditioningSetTimestepRange().set_range(positive, 0.0, 0.5)[0]
    late = core.ConditioningSetTimestepRange().set_range(caption(CAPTIONS[1]), 0.5, 1.0)[0]
    return core.ConditioningCombine().combine(early, late)[0], negative


def averaged(conditioning, flux):
    positive, negative = conditioning
    return core.ConditioningAverage().addWeighted(positive, caption(CAPTIONS[1]), 0.6)[0], negative


def shortened(conditioning, flux):
    """A negative prompt with fewer tokens than the positive one."""
    positive, [(tokens, options)] = conditioning
    return positive, [[tokens[:, :7], options]]


CONDITIONINGS = {
    "ControlNet": with_control,
    "ControlNet for a part of the run": functools.partial(with_control, start=0.2, end=0.7),
    "two ControlNets": lambda conditioning, flux: with_control(
        with_control(conditioning, flux), flux
    ),
    "areas": regions,
    "masks": masked,
    "timestep ranges": timed,
    "averaged": averaged,
    "unequal prompts": shortened,
}


@pytest.fixture(scope="module")
def unconditioned(flux):
    """With the bare prompts."""
    return ksampler(flux)


@pytest.mark.goes_with("ControlNets, areas, masks, averaged prompts", "yes")
@pytest.mark.parametrize("name", CONDITIONINGS)
def test_conditionings(flux, unconditioned, name):
    made = CONDITIONINGS[name](prompts(), flux)
    plain, _ = assert_harmless(lambda wrap: ksampler(wrap(flux), made), flux)
    ends = name in ("ControlNet for a part of the run", "timestep ranges")
    assert_untouched(lambda wrap: ksampler(wrap(flux), made), served=not ends)
    assert not torch.equal(plain, unconditioned), "the conditioning did nothing"


def test_prompts_that_take_turns_have_lanes_of_their_own_at_level_prediction(flux):
    """No draft is made from the predictions of another prompt."""
    made = timed(prompts(), flux)
    fast = accelerate(flux, features(threshold=math.inf, level="prediction"))
    latent = ksampler(fast, made, steps=20)
    rows = [call.rows[0] for call in find(latent).calls]
    assert [row.lane for row in rows].count(1) == 1, "at the bound itself ComfyUI asks about both"
    for lane in (0, 2):
        assert [row.reason for row in rows if row.lane == lane][:4] == ["warmup"] * 3 + ["draft"]


def test_a_control_that_ends_has_lanes_of_its_own_at_level_prediction(flux):
    fast = accelerate(flux, features(threshold=math.inf, level="prediction"))
    latent = ksampler(fast, with_control(prompts(), flux, 0.0, 0.5), steps=20)
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


def scheduled_lora(conditioning, flux, keyframes):
    """The conditioning with a LoRA hook whose strength changes during the run."""
    weights = lora(flux, ("double_blocks.1.img_mlp.0", "single_blocks.5.linear2"), seed=5)
    hooks = comfy.hooks.create_hook_lora(weights, 1.0, 0.0)
    previous = None
    for keyframe in keyframes:
        make = nodes_hooks.CreateHookKeyframe().create_hook_keyframe
        (previous,) = make(*keyframe, previous)
    (hooks,) = nodes_hooks.SetHookKeyframes().set_hook_keyframes(hooks, previous)
    add = nodes_hooks.ConditioningSetProperties().set_properties
    return [add(prompt, 1.0, "default", hooks=hooks)[0] for prompt in conditioning]


def test_lora_hooks_with_a_schedule(flux):
    made = scheduled_lora(prompts(), flux, [(1.0, 0.0), (0.2, 0.6)])
    weight = flux.model.state_dict()["diffusion_model.single_blocks.5.linear2.weight"].clone()
    assert not torch.equal(ksampler(flux, made), ksampler(flux)), "the hooks did nothing"
    assert_harmless(lambda wrap: ksampler(wrap(flux), made), flux)
    assert torch.equal(
        flux.model.state_dict()["diffusion_model.single_blocks.5.linear2.weight"], weight
    )


CHANGES = {
    "a ControlNet": (lambda flux: with_control(prompts(), flux, 0.2, 0.7), [0.2, 0.7]),
    "a LoRA": (lambda flux: scheduled_lora(prompts(), flux, [(1.0, 0.0), (0.2, 0.6)]), [0.6]),
}


@pytest.mark.parametrize("level", ["prediction", "features"])
@pytest.mark.parametrize("name", CHANGES)
def test_no_draft_goes_across_a_change_that_is_known_beforehand(flux, name, level):
    make, places = CHANGES[name]
    fast = accelerate(flux, features(threshold=math.inf, level=level))
    report = find(ksampler(fast, make(flux), steps=20))
    first = {row.lane: call.sigma for call in reversed(report.calls) for row in call.rows}
    level_at = flux.get_model_object("model_sampling").percent_to_sigma
    starts = sorted({*first.values()}, reverse=True)
    assert len(starts) == 1 + len(places)
    for place, start in zip(places, starts[1:], strict=True):
        bound = level_at(place)  # two of these lie on the schedule itself
        known = [s for s in report.sigmas if s < bound * (0.999 if place == 0.7 else 1.001)]
        assert start == pytest.approx(known[0])


@pytest.mark.goes_with(
    "a LoRA, prompt or ControlNet that changes or ends during the run",
    "yes, and it gains less: no profile serves, and each skip is checked by itself",
)
@pytest.mark.parametrize("name", CHANGES)
def test_no_profile_serves_where_something_changes(flux, name):
    report = find(ksampler(accelerate(flux, SpecaConfig()), CHANGES[name][0](flux), steps=20))
    assert report.profile["why"] == "prompts, controls or LoRAs change on the way"
