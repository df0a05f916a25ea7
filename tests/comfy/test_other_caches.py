"""SpeCa on a model that has another cache, or something that looks like one."""

import logging

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_easycache
from graphs import assert_harmless, ksampler, left_behind, with_node
from models import features, trained_flux
from speca_pack.nodes.runtime.attach import KEY, accelerate
from speca_pack.speca_core import ConfigError, UnsupportedModel


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


with_easy_cache = with_node(nodes_easycache.EasyCacheNode, 0.2, 0.15, 0.95, False)
with_lazy_cache = with_node(nodes_easycache.LazyCacheNode, 0.2, 0.15, 0.95, False)


def with_tea_cache(model):
    """How TeaCache, MagCache and First Block Cache get in: a function in place of the model's, from
    a module of their name."""
    model = model.clone()

    def unet_wrapper_function(apply, options):
        return apply(options["input"], options["timestep"], **options["c"])

    unet_wrapper_function.__qualname__ = "TeaCache.apply_teacache.<locals>.unet_wrapper_function"
    model.set_model_unet_function_wrapper(unet_wrapper_function)
    return model


@pytest.mark.parametrize("cache", [with_easy_cache, with_tea_cache], ids=["EasyCache", "TeaCache"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_cache_below_is_refused_before_sampling(flux, cache, order):
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
            ksampler(both)
    finally:
        hook.remove()
    assert not calls and not left_behind(flux)


def test_a_cache_above_is_warned_about(flux, caplog):
    with caplog.at_level(logging.WARNING, "speca"):
        latent = ksampler(accelerate(with_lazy_cache(flux), features()))
    assert "skips calls, unchecked" in caplog.text and torch.isfinite(latent).all()


def test_whatever_answers_in_the_models_place_is_noticed(flux):
    """A cache that nobody knows by name: the call comes back, but the model's head has not run."""
    model, kept = accelerate(flux, features()), []

    def nameless(executor, *args, **kwargs):
        if len(kept) < 3:
            kept.append(executor(*args, **kwargs))
        return kept[-1]

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "mine", nameless)
    with pytest.raises(UnsupportedModel, match="did not run to its head"):
        ksampler(model)
    assert not left_behind(flux) and KEY not in model.model_options["transformer_options"]


def test_a_function_in_place_of_the_model_that_is_no_cache(flux):
    model = flux.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, options: apply(options["input"], options["timestep"], **options["c"])
    )
    assert_harmless(lambda wrap: ksampler(wrap(model)), flux)
