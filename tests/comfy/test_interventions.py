"""What samplers, callbacks, guiders and ComfyUI's own nodes do on the way."""

import itertools

import comfy.conds
import comfy.model_patcher
import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_apg, nodes_model_advanced, nodes_model_patch, nodes_slg
from graphs import with_node
from models import CAPTIONS, CPU, caption, checked, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from test_foreign import IMAGES, LEVELS, STEPS, distances, fast, sample
from tiny import random


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


@pytest.fixture(scope="module")
def ordinary(flux):
    """How far the worst of four ordinary pictures is off; twice as far is 6 dB."""
    return max(distances(sample(fast(flux)), sample(flux)))


def stepping(changed):
    """Euler with options of its own."""

    def steps(model, x, sigmas, extra_args=None, callback=None, disable=None):
        options = {**extra_args, "model_options": changed(extra_args["model_options"])}
        for sigma, following in itertools.pairwise(sigmas):
            denoised = model(x, sigma.expand(len(x)), **options)
            x = x + (x - denoised) / sigma * (following - sigma)
        return x

    return comfy.samplers.KSAMPLER(steps)


def rescaled(options):
    def function(args):
        scale = 5.0 if float(args["sigma"].max()) < 0.6 else 1.0
        return args["uncond"] + scale * (args["cond"] - args["uncond"])

    return {**options, "sampler_cfg_function": function}


def before_guidance(options):
    def function(args):
        scale = 2.0 if float(args["sigma"].max()) < 0.6 else 0.5
        cond, uncond = args["conds_out"]
        return [uncond + scale * (cond - uncond), uncond]

    return comfy.model_patcher.set_model_options_pre_cfg_function(options, function)


def other_prompt(options):
    other = caption(CAPTIONS[1])[0][0]

    def function(apply, args):
        conds = dict(args["c"])
        if float(args["timestep"].max()) < 0.7:
            conds["c_crossattn"] = other.expand_as(conds["c_crossattn"])
        return apply(args["input"], args["timestep"], **conds)

    return {**options, "model_function_wrapper": function}


def inside(options):
    def patch(args):
        return args | {"img": 1.3 * args["img"]}

    made = comfy.model_patcher.create_model_options_clone(options)
    made["transformer_options"]["patches"] = {"post_input": [patch]}
    return made


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("changed", [rescaled, before_guidance, other_prompt, inside])
def test_a_sampler_with_functions_of_its_own_gets_the_plain_answers(flux, changed, level, caplog):
    sampler = stepping(changed)
    made = sample(fast(flux, level), sampler=sampler)
    assert torch.equal(made, sample(flux, sampler=sampler))
    assert caplog.text.count("or changes it. Nothing is drafted") == 1


@pytest.mark.parametrize("level", LEVELS)
def test_a_shift_of_another_family(flux, ordinary, level):
    """It tells the model a time a thousand times as large: what the blocks say is of another size
    at each step, and a head that normalises does not see that."""
    model = with_node(nodes_model_advanced.ModelSamplingSD3, 3.0)(flux)
    levels = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(levels, "simple", STEPS)
    made, plain = (sample(each, sigmas=sigmas) for each in (fast(model, level), model))
    assert max(distances(made, plain)) < 2 * ordinary


class Swapping(comfy.samplers.CFGGuider):
    """Lets the callback of a run at its prompts, as some packs do."""

    def sample(self, *args, **kwargs):
        def swap(step, denoised, x, total):
            if step == 6:
                self.conds["positive"][0]["model_conds"]["c_crossattn"] = comfy.conds.CONDRegular(
                    caption(CAPTIONS[1])[0][0]
                )

        return super().sample(*args, **{**kwargs, "callback": swap})


@pytest.mark.parametrize("level", LEVELS)
def test_a_callback_that_swaps_the_prompt(flux, ordinary, level):
    made = sample(fast(flux, level), Swapping)
    assert find(made).count("accepted")
    # 8 dB: 0.061 was measured where an ordinary run has 0.028.
    assert max(distances(made, sample(flux, Swapping))) < 2.5 * ordinary


class Counting:
    """A post-CFG function that counts its calls, and is stronger at some."""

    def __init__(self):
        self.calls = 0

    def __call__(self, args):
        self.calls += 1
        return args["denoised"] * (1.1 if 12 <= self.calls < 27 else 1.0)


def counting(model):
    made = model.clone()
    made.set_model_sampler_post_cfg_function(Counting())
    return made


NODES = {
    "a function that counts its calls": counting,
    "SLG in a window": with_node(nodes_slg.SkipLayerGuidanceDiT, 2.0, 0.3, 0.7, "1", "2,3"),
    "APG with momentum": with_node(nodes_apg.APG, 1.0, 5.0, -0.5),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NODES)
def test_functions_of_guidance(flux, ordinary, name, level):
    plain = sample(NODES[name](flux))
    made = sample(fast(NODES[name](flux), level))
    assert find(made).count("accepted")
    assert max(distances(made, plain)) < 2 * ordinary


def styled(model):
    """ComfyUI's own USO node, with a style for each image of the batch."""
    kit = nodes_model_patch.SigLIPMultiFeatProjModel(
        16, 2, 24, 128, True, device=CPU, dtype=torch.float32, operations=comfy.ops.manual_cast
    )
    for i, parameter in enumerate(kit.parameters()):
        parameter.copy_(0.2 * random(i, *parameter.shape))
    states = random(99, IMAGES, 24, 16, 24)
    vision = type("Vision", (), {"all_hidden_states": states})()
    vision.penultimate_hidden_states = states[:, -2]
    patch = comfy.model_patcher.ModelPatcher(kit, load_device=CPU, offload_device=CPU)
    return with_node(nodes_model_patch.USOStyleReference, patch, vision)(model)


@pytest.mark.parametrize("level", LEVELS)
def test_a_style_for_each_image(flux, level):
    """At CFG 1: it fits no batch with both prompts, with SpeCa or without."""
    worst = {
        name: max(distances(sample(fast(model, level), cfg=1.0), sample(model, cfg=1.0)))
        for name, model in {"without": flux, "with": styled(flux)}.items()
    }
    assert find(sample(accelerate(styled(flux), checked(level=level)), cfg=1.0)).count("accepted")
    assert worst["with"] < 2 * worst["without"]
