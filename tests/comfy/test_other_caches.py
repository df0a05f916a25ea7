"""SpeCa on a model that has another cache, or something that looks like one."""

import logging

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_easycache, nodes_slg
from graphs import assert_harmless, ksampler, left_behind, with_node
from models import build, checked, features, sample_flux, trained_flux
from speca_pack.nodes.runtime import skipping
from speca_pack.nodes.runtime.attach import KEY, accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.nodes.runtime.subjects.prediction import PredictionRun
from speca_pack.speca_core import ConfigError, SpecaConfig, UnsupportedModel
from speca_pack.speca_core.budgets import Reason


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


@pytest.mark.goes_with(
    "EasyCache, TeaCache",
    "no: SpeCa stops the run with an error before the first step. Bypass one of the two nodes",
)
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


@pytest.mark.goes_with("LazyCache", "it runs, and the log warns. Bypass one of the two nodes")
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


def test_it_is_said_once_also_in_a_run_that_has_stopped_before(caplog):
    run = PredictionRun(SpecaConfig(), build("flux").model, [1.0, 0.5, 0.0], True, None)
    run.session.stop(Reason.MEMORY)
    for _ in range(3):
        run.stand_aside()
    assert caplog.text.count("another cache is on this model") == 1


def test_a_function_in_place_of_the_model_that_is_no_cache(flux):
    model = flux.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, options: apply(options["input"], options["timestep"], **options["c"])
    )
    assert_harmless(lambda wrap: ksampler(wrap(model)), flux)


STEPS = 20


def with_block_reuse(model):
    """A forecaster in the blocks' replacements, under a name that says nothing: from its fourth
    step on it hands on, at every second one, what the blocks gave the last time."""
    model, state = model.clone(), {"step": -1, "kept": {}}

    def stepping(executor, *args, **kwargs):
        state["step"] += 1
        return executor(*args, **kwargs)

    def begin(executor, *args, **kwargs):
        state.update(step=-1, kept={})
        return executor(*args, **kwargs)

    def patch(place):
        def spectrum(args, extra):
            key = (place, args["img"].shape)
            if state["step"] >= 3 and state["step"] % 2 and key in state["kept"]:
                return dict(state["kept"][key])
            state["kept"][key] = extra["original_block"](args)
            return dict(state["kept"][key])

        return spectrum

    for kind in ("double_block", "single_block"):
        for i in range(len(getattr(model.model.diffusion_model, f"{kind}s"))):
            model.set_model_patch_replace(patch((kind, i)), "dit", kind, i)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "mine", begin)
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "mine", stepping)
    return model


def with_reusing_function(model):
    """Every second call is answered without the model, from its fourth on."""
    model, calls = model.clone(), []

    def reusing(apply, options):
        calls.append(
            apply(options["input"], options["timestep"], **options["c"])
            if len(calls) % STEPS < 3 or len(calls) % 2
            else calls[-1]
        )
        return calls[-1]

    model.set_model_unet_function_wrapper(reusing)
    return model


def with_reusing_wrapper(model):
    """The same around the diffusion model."""
    model, calls = model.clone(), []

    def reusing(executor, *args, **kwargs):
        reuses = len(calls) % STEPS >= 3 and len(calls) % 2
        calls.append(calls[-1] if reuses else executor(*args, **kwargs))
        return calls[-1]

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "mine", reusing)
    return model


@pytest.mark.parametrize(
    ("other", "level"),
    [
        (with_block_reuse, "prediction"),
        (with_block_reuse, "features"),
        (with_reusing_function, "prediction"),
        (with_reusing_function, "features"),
        # At level features a run ends that did not come to the model's head; see above.
        (with_reusing_wrapper, "prediction"),
    ],
)
def test_another_forecaster_is_found_by_what_it_does(flux, monkeypatch, caplog, other, level):
    """From where it is seen to skip, and from the start of the next run, the picture is its own."""
    monkeypatch.setattr(skipping, "_known", set())
    alone = ksampler(other(flux), steps=STEPS)
    config = SpecaConfig(level=level)
    both = accelerate(other(flux), config)
    first = ksampler(both, steps=STEPS)
    assert "answers without running the model's blocks" in caplog.text
    reasons = [row.reason for call in find(first).calls for row in call.rows]
    assert reasons[-1] == "other_cache" and reasons[0] != "other_cache"
    caplog.clear()
    second = ksampler(accelerate(other(flux), config), steps=STEPS)
    report = find(second)
    assert "drafts nothing beside it" in caplog.text
    assert {row.reason for call in report.calls for row in call.rows} == {"other_cache"}
    assert torch.equal(second, alone)


@pytest.mark.parametrize("level", ["prediction", "features"])
def test_another_forecaster_is_found_though_it_skips_where_we_would_draft(flux, monkeypatch, level):
    """Each at every second call, one at the odd and one at the even ones: neither saw the other,
    and the picture was 11 dB worse than that of an ordinary model."""
    monkeypatch.setattr(skipping, "_known", set())
    prompt = "a small yellow triangle left of a big blue square on white stripes"
    made = sample_flux(accelerate(with_block_reuse(flux), checked(level=level)), prompt, seed=3)
    assert {row.reason for row in find(made).calls[-1].rows} == {"other_cache"}
    assert torch.equal(made, sample_flux(with_block_reuse(flux), prompt, seed=3))


def with_skipped_layers(model):
    """SLG from half of the steps on: its extra pass leaves blocks out on purpose."""
    how = {"double_layers": "1", "single_layers": "1", "scale": 2.0}
    place = {"start_percent": 0.3, "end_percent": 1.0}
    return nodes_slg.SkipLayerGuidanceDiT.execute(model, **how, **place).result[0]


def with_a_lora_of_blocks(model):
    """A replacement that runs its block."""
    model = model.clone()

    def louder(args, extra):
        made = extra["original_block"](args)
        return {"img": 1.01 * made["img"], "txt": made["txt"]}

    model.set_model_patch_replace(louder, "dit", "double_block", 0)
    return model


@pytest.mark.parametrize("patch", [with_skipped_layers, with_a_lora_of_blocks])
def test_who_runs_the_blocks_is_no_other_forecaster(flux, patch, caplog):
    model = accelerate(patch(flux), SpecaConfig(level="features"))
    report = find(ksampler(model, steps=STEPS))
    assert report.count("accepted") and "another cache" not in caplog.text


def test_who_may_skip_is_watched_before_drafts_but_not_in_a_run_that_teaches(flux, tmp_path):
    """Nor with what it has taught: a what-if of that run has drafts from its second call on."""
    model, store = with_a_lora_of_blocks(flux), ProfileStore(tmp_path)
    runs = [
        find(sample_flux(accelerate(model, config, profiles=store)))
        for config in (SpecaConfig(), SpecaConfig(), checked())
    ]
    assert [run.profile and run.profile["state"] for run in runs] == ["learning", "served", None]
    assert [run.watched for run in runs] == [0, 0, 6]
