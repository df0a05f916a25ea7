"""SpeCa with every guider, with samplers in a row, and with a latent to start from."""

import math

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras import (
    nodes_custom_sampler,
    nodes_differential_diffusion,
    nodes_mahiro,
    nodes_perpneg,
)
from graphs import (
    assert_harmless,
    assert_untouched,
    custom_sampler,
    empty_latent,
    ksampler,
    prompts,
    with_node,
)
from models import CAPTIONS, build, caption, checked, features, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from tiny import random

import nodes as core


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


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


@pytest.mark.goes_with(
    "other guiders: DualCFG, PerpNeg", "yes. No profile serves where a node makes the guidance"
)
@pytest.mark.parametrize("name", GUIDERS)
def test_guiders(flux, name):
    def graph(wrap):
        model = wrap(flux)
        return custom_sampler(GUIDERS[name](model, *prompts()).result[0], model)

    _, latent = assert_harmless(graph, flux)
    assert find(latent).trust == 1  # ComfyUI's own do not go by what they get
    assert_untouched(graph, served=name in ("BasicGuider", "CFGGuider", "CFG 1"))


def test_split_sigmas_through_two_samplers(flux):
    """The schedule's two halves in two samplers that share one model; each is a run of its own."""

    def graph(wrap):
        model = wrap(flux)
        sigmas = nodes_custom_sampler.BasicScheduler.execute(model, "simple", 20, 1.0).result[0]
        high, low = nodes_custom_sampler.SplitSigmas.execute(sigmas, 10).result
        euler = nodes_custom_sampler.KSamplerSelect.execute("euler").result[0]
        sample = nodes_custom_sampler.SamplerCustom.execute
        half = sample(model, True, 5, 3.0, *prompts(), euler, high, empty_latent()).result[0]
        return sample(model, False, 5, 3.0, *prompts(), euler, low, half).result[0]["samples"]

    assert_harmless(graph, flux)


@pytest.mark.goes_with("KSampler Advanced, split sigmas", "yes")
def test_advanced_samplers_hand_noise_on(flux):
    def graph(wrap):
        model, sampler = wrap(flux), core.KSamplerAdvanced()
        settings = 5, 20, 3.0, "euler", "simple", *prompts()
        half = sampler.sample(model, "enable", *settings, empty_latent(), 0, 10, "enable")[0]
        return sampler.sample(model, "disable", *settings, half, 10, 10000, "disable")[0]["samples"]

    assert_harmless(graph, flux)
    assert_untouched(graph)


@pytest.mark.goes_with(
    "two models for one video (Wan 2.2)",
    "yes, with a SpeCa node after each loader. The first one has no profile: its skips are checked",
)
def test_two_experts():
    """Wan 2.2: one model for the noisy half of the schedule and another one for the rest, each with
    its own SpeCa node."""
    high, low = build("wan", 0), build("wan", 1)
    noise = random(7, 1, 16, 3, 4, 4)
    conditioning = [[[random(seed, 1, 6, 32), {}]] for seed in (1, 2)]

    def graph(wrap):
        sampler, latent = core.KSamplerAdvanced(), {"samples": 0 * noise}
        settings = 7, 20, 3.0, "euler", "simple", *conditioning
        half = sampler.sample(wrap(high), "enable", *settings, latent, 0, 10, "enable")[0]
        last = sampler.sample(wrap(low), "disable", *settings, half, 10, 10000, "disable")[0]
        return last["samples"]

    assert_harmless(graph, high, low, config=features(threshold=1.0), max_distance=1.0)
    assert_untouched(graph)


@pytest.fixture(scope="module")
def picture(flux):
    """A latent to start from."""
    return ksampler(flux, seed=9)


@pytest.mark.goes_with("inpainting", "yes. With Differential Diffusion no profile serves")
@pytest.mark.parametrize("differential", [False, True])
def test_inpainting(flux, picture, differential):
    """The noise mask mixes the known picture in after every call; with DifferentialDiffusion the
    mask itself changes."""
    soft = torch.linspace(0, 1, 128).expand(1, 128, 128)
    latent = core.SetLatentNoiseMask().set_mask(
        {"samples": picture}, soft if differential else (soft > 0.5).float()
    )[0]
    patch = with_node(nodes_differential_diffusion.DifferentialDiffusion, 1.0)
    model = patch(flux) if differential else flux
    assert_harmless(lambda wrap: ksampler(wrap(model), latent=latent, steps=14), flux)
    assert_untouched(
        lambda wrap: ksampler(wrap(model), latent=latent, steps=14), served=not differential
    )


@pytest.mark.goes_with(
    "image to image, as in a second pass after upscaling", "yes. Fewer steps leave less to skip"
)
@pytest.mark.parametrize("denoise", [0.4, 0.7])
def test_image_to_image(flux, picture, denoise):
    def graph(wrap):
        return ksampler(wrap(flux), latent={"samples": picture}, denoise=denoise)

    assert_harmless(graph, flux)
    assert_untouched(graph)


def test_a_prediction_may_be_asked_for_without_options(flux):
    """ComfyUI's own default for a guider's options is none."""

    class Terse(comfy.samplers.CFGGuider):
        def __call__(self, x, timestep, *_, **__):
            return self.outer_predict_noise(x, timestep)

    def sample(model):
        guider = Terse(model)
        guider.set_conds(*prompts())
        guider.set_cfg(1.0)
        noise = comfy.sample.prepare_noise(torch.zeros(1, 16, 16, 16), 1)
        sigmas = torch.linspace(1, 0, 9)
        sampler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True)

    assert find(sample(accelerate(flux, checked(threshold=1.0)))).count("accepted") > 0


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "res_multistep_cfg_pp"])
@pytest.mark.parametrize("level", ["prediction", "features"])
def test_a_sampler_that_listens_to_the_model_hears_it(flux, sampler, level, caplog):
    """CFG++ goes by the model's answer to one prompt, and errors grow from step to step."""
    fast = accelerate(flux, features(threshold=math.inf, level=level))
    assert torch.equal(
        ksampler(fast, cfg=1.5, sampler=sampler),
        ksampler(flux, cfg=1.5, sampler=sampler),
    )
    assert caplog.text.count("goes by the model's answer to each prompt") == 1
    rescaled = with_node(nodes_mahiro.Mahiro)(flux)
    fast = accelerate(rescaled, features(threshold=math.inf, level="prediction"))
    latent = ksampler(fast)
    assert find(latent).count("accepted") > 0, "a patch of the model is not a wish of the sampler"
