"""Whatever comes in: a clear error before sampling, or what the plain model does with it. Never a
hang, never a silent fallback."""

import functools
import itertools
import json
import math
import urllib.error
from types import SimpleNamespace

import comfy.sample
import comfy.samplers
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import TINY, build, features
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core import ConfigError, SpecaConfig
from speca_pack.speca_core.budgets import BUDGETS, Threshold
from speca_pack.speca_core.forecasters import FORECASTERS
from speca_pack.speca_core.verifiers import VERIFIERS
from test_nodes import widget_values
from test_server import finish, graph
from tiny import random

# Drafts whatever is finite.
EAGER = {"threshold": math.inf, "budget": Threshold(warmup=1, max_streak=3)}
WAYS = {name: features(**EAGER, verifier=verifier()) for name, verifier in VERIFIERS.items()} | {
    "prediction": features(**EAGER, level="prediction")
}
each_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def flux():
    return build("flux")


def conditioning(seed, text=TINY["flux"].text):
    return [[random(seed, 1, *text), TINY["flux"].extra(seed)]]


def sample(
    model,
    sigmas=(1.0, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0),
    noise=None,
    sampler="euler",
    positive=None,
    negative=None,
):
    noise = random(3, 1, 16, 8, 8) if noise is None else noise
    positive, negative = (
        conditioning(seed) if given is None else given
        for seed, given in ((1, positive), (2, negative))
    )
    return comfy.sample.sample_custom(
        model,
        noise,
        3.0,
        comfy.samplers.sampler_object(sampler),
        torch.tensor(sigmas),
        positive,
        negative,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=3,
    )


def outcome(function, *args, **kwargs):
    """What a function gives: a value, or the exception."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


def same(a, b):
    """Two outcomes: both the same kind of error with the same message, or equal latents, NaN equal
    to NaN."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b) and str(a) == str(b)
    return torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0))


# --- the node ---------------------------------------------------------------------------------

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(widget=st.sampled_from(sorted(widget_values())), value=anything)
def test_any_value_of_any_widget_is_taken_or_explained(nodes, flux, widget, value):
    made = outcome(
        nodes["SpeCaAccelerate"].execute, model=flux, **(widget_values() | {widget: value})
    )
    if isinstance(made, Exception):
        assert isinstance(made, ConfigError) and (
            "expected" in str(made) or "Choose" in str(made) or "has no setting" in str(made)
        )
    else:
        assert made.result[0].model is flux.model


# --- latents ----------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_a_latent_that_is_not_finite_gives_what_the_plain_model_gives(flux, way, bad):
    noise = random(1, 1, 16, 8, 8)
    noise[0, 0, 0, 0] = bad
    plain = sample(flux, noise=noise)
    latent = sample(accelerate(flux, WAYS[way]), noise=noise)
    assert torch.equal(latent.isfinite(), plain.isfinite())
    if WAYS[way].verifier.name != "none":
        assert find(latent).count("accepted") == 0, "nothing that is not finite passes a check"
        assert same(latent, plain)


@each_way
def test_a_picture_that_is_not_finite_does_not_touch_the_others(flux, way):
    noise = random(1, 2, 16, 8, 8)
    alone = sample(accelerate(flux, WAYS[way]), noise=noise[:1])
    noise[1] = float("nan")
    together = sample(accelerate(flux, WAYS[way]), noise=noise)
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)


@each_way
@pytest.mark.parametrize("shape", [(0, 16, 16, 16), (1, 16, 1, 1), (1, 16, 3, 5)])
def test_latents_of_odd_shapes(flux, way, shape):
    plain = outcome(sample, flux, noise=random(1, *shape))
    latent = outcome(sample, accelerate(flux, WAYS[way]), noise=random(1, *shape))
    if isinstance(plain, Exception):
        assert same(latent, plain)
    else:
        assert latent.shape == plain.shape and latent.isfinite().all()


# --- schedules --------------------------------------------------------------------------------

SCHEDULES = {
    "empty": [],
    "no step": [1.0],
    "one step": [1.0, 0.0],
    "nowhere": [0.5, 0.5],
    "the same twice": [1.0, 0.7, 0.7, 0.4, 0.2, 0.0],
    "rising": [0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
    "up and down": [1.0, 0.5, 0.8, 0.4, 0.6, 0.2, 0.0],
    "not to zero": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5],
    "beyond the range": [14.0, 7.0, 3.0, 1.0, 0.5, 0.0],
    "zeros": [0.0, 0.0, 0.0],
    "nearly nothing": [1e-6, 1e-7, 1e-8, 0.0],
}


@pytest.fixture(scope="module")
def plain_and_off(flux):
    """The plain model's outcome, and that of threshold 0."""
    return functools.lru_cache(None)(
        lambda schedule, sampler: [
            outcome(sample, model, SCHEDULES[schedule], sampler=sampler)
            for model in (flux, accelerate(flux, features(threshold=0.0)))
        ]
    )


@pytest.mark.parametrize(
    ("way", "sampler"),
    [*((way, "euler") for way in WAYS), ("embedded", "heun"), ("embedded", "dpmpp_2m")],
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_odd_schedules_end_as_with_the_plain_model(flux, plain_and_off, way, sampler, schedule):
    plain, off = plain_and_off(schedule, sampler)
    assert same(off, plain)
    latent = outcome(sample, accelerate(flux, WAYS[way]), SCHEDULES[schedule], sampler=sampler)
    if isinstance(plain, Exception):
        assert same(latent, plain)
    else:
        assert torch.equal(latent.isfinite(), plain.isfinite())


@pytest.mark.parametrize("bad", [[1.0, float("nan"), 0.0], [float("inf"), 1.0, 0.0]])
def test_a_schedule_that_is_not_finite_is_refused_before_sampling(flux, bad):
    calls = []
    hook = flux.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(ConfigError, match="expected at least two finite sigmas"):
            sample(accelerate(flux, features()), bad)
    finally:
        hook.remove()
    assert not calls


# --- conditioning -----------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ([], None),
        (None, []),
        ([], []),
        (conditioning(1, (0, 32)), None),
        (None, conditioning(2, (9, 32))),
    ],
)
def test_odd_conditionings_end_as_with_the_plain_model(flux, way, positive, negative):
    plain = outcome(sample, flux, positive=positive, negative=negative)
    assert same(
        outcome(
            sample, accelerate(flux, features(threshold=0.0)), positive=positive, negative=negative
        ),
        plain,
    )
    latent = outcome(sample, accelerate(flux, WAYS[way]), positive=positive, negative=negative)
    if isinstance(plain, Exception):
        assert same(latent, plain)
    else:
        assert torch.equal(latent.isfinite(), plain.isfinite())


# --- workflows on a server --------------------------------------------------------------------

WRONG = {
    "nothing": None,
    "text": "many",
    "negative": -1,
    "huge": 1e9,
    "nan": float("nan"),
    "list": [],
    "object": {"a": 1},
    "true": True,
    "a latent": ["6", 0],
}
# Of each prompt another, so that none comes from the cache: old versions leave out its outputs.
SEEDS = itertools.count()
WIDGETS = [widget for widget in graph()["7"]["inputs"] if widget != "model"]


def run(address, prompt):
    """What the server makes of a prompt: ("refused", message), ("error", message) or ("success",
    settings of the run)."""
    prompt["8"]["inputs"]["seed"] = next(SEEDS)
    try:
        entry = finish(address, prompt)
    except urllib.error.HTTPError as refused:
        return "refused", f"{refused.code} {refused.read().decode()}"
    if entry["status"]["status_str"] == "success":
        return "success", json.loads(entry["outputs"]["9"]["speca_report"][0])["settings"]
    (error,) = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
    return "error", f"{error['node_type']}: {error['exception_message']}"


@pytest.mark.parametrize("wrong", [*WRONG, "absent"])
def test_wrong_values_in_a_workflow_are_refused_or_explained_or_right(comfy, wrong):
    """Of each widget. What runs ran with what was asked for; nothing hangs, and the server works
    on."""
    for widget in WIDGETS:
        prompt = graph()
        prompt["6"]["inputs"] |= {"width": 64, "height": 64}
        prompt["8"]["inputs"]["steps"] = 2
        value = prompt["7"]["inputs"].pop(widget) if wrong == "absent" else WRONG[wrong]
        if wrong != "absent":
            prompt["7"]["inputs"][widget] = value
        kind, _, knob = widget.partition(".")
        how, what = run(comfy, prompt)
        if how == "refused":
            assert what.startswith("400") and kind in what, widget
        elif how == "error":
            assert (
                what.startswith("SpeCaAccelerate: ")
                and (knob or kind) in what
                and "expected" in what
            ), (widget, what)
        else:
            used = (
                what[kind][knob]
                if knob
                else what[kind]["name"]
                if isinstance(what[kind], dict)
                else what[kind]
            )
            assert used == (bool(value) if isinstance(used, bool) else value), (
                "ComfyUI takes the truth of anything for a switch"
            )
    assert run(comfy, graph())[0] == "success"


def test_a_prompt_names_only_what_it_changes(comfy):
    prompt = graph()
    model = prompt["7"]["inputs"]["model"]
    prompt["7"]["inputs"] = {"model": model, "threshold": 0.3, "budget": "target"}
    assert run(comfy, prompt) == (
        "success",
        SpecaConfig(threshold=0.3, budget=BUDGETS["target"]()).to_dict(),
    )
    prompt["7"]["inputs"] = {"model": model, "threshold": 0.06}
    assert run(comfy, prompt) == ("success", SpecaConfig().to_dict())


def accelerated(nodes, flux, monkeypatch, **sent):
    """The node as a server runs it, for a prompt with these inputs."""
    node = nodes["SpeCaAccelerate"]
    hidden = SimpleNamespace(unique_id="7", prompt={"7": {"inputs": sent}})
    monkeypatch.setattr(node, "hidden", hidden, raising=False)
    return node.execute(model=flux, threshold=sent["threshold"])


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({}, None),
        ({"model": ["2", 0], "budget": "target", "budget.speedup": 3.0}, None),
        ({"knob_of_tomorrow": 3}, "knob_of_tomorrow"),
        ({"forecaster": "newton", "forecaster.ordre": 1}, "forecaster.ordre"),
        ({"forecaster": "newton", "budget.speedup": 1, "start": 0.1}, "budget.speedup"),
    ],
)
def test_what_the_node_does_not_have_is_named_and_runs(
    nodes, flux, monkeypatch, caplog, sent, named
):
    """As a prompt of a later version may send it, or one with a slip of the pen."""
    accelerated(nodes, flux, monkeypatch, threshold=0.1, **sent)
    told = [record.getMessage() for record in caplog.records if "prompt" in record.getMessage()]
    assert told == ([f"SpeCa: the prompt sets {named}; the node has no such."] if named else [])


@pytest.mark.parametrize("sent", ["Newton", "taylor; choose one of", 3])
def test_an_unknown_choice_is_named_as_it_was_sent(comfy, sent):
    prompt = graph()
    prompt["7"]["inputs"]["forecaster"] = sent
    how, what = run(comfy, prompt)
    assert how == "error" and f"forecaster is {sent!r}; expected one of learned" in what, what


def test_a_choice_may_come_from_another_node(comfy):
    """A combo that is fed by a link has no settings in the prompt: they are the defaults."""
    prompt = graph()
    prompt["20"] = {"class_type": "PrimitiveString", "inputs": {"value": "taylor"}}
    prompt["7"]["inputs"]["forecaster"] = ["20", 0]
    how, used = run(comfy, prompt)
    assert how == "success" and used["forecaster"] == FORECASTERS["taylor"]().to_dict()
