"""SpeCa Calibrate: what is tried on the model is kept, and serves."""

import math

import pytest
import torch
from comfy.model_management import InterruptProcessingException
from models import CAPTIONS, caption, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.calibration import (
    USUAL,
    Calibration,
    TrialResult,
    best_lead,
    counts_of,
)
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import STORE, ProfileStore
from speca_pack.nodes.runtime.trial_runs import Recipe
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.errors import SpecaError
from test_learned import told

STEPS, SEEDS = 8, (1, 2)


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def recipe(model, sampler="euler", **changed):
    about = {"steps": STEPS, "cfg": 1.0, "sampler": sampler, "scheduler": "simple"} | changed
    prompts = caption(CAPTIONS[0]), caption("")
    return Recipe(model, *prompts, torch.zeros(1, 16, 16, 16), **about)


def evaluations(model, work):
    """How many rows the model computed for some work."""
    rows = 0

    def count(_, inputs):
        nonlocal rows
        rows += len(inputs[0])

    counter = model.model.diffusion_model.register_forward_pre_hook(count)
    try:
        work()
    finally:
        counter.remove()
    return rows


@pytest.fixture(scope="module")
def calibrated(flux, tmp_path_factory):
    """(store, curve) of the trained Flux."""
    store = ProfileStore(tmp_path_factory.mktemp("calibrated"))
    return store, Calibration(recipe(flux), SEEDS, store).run()


def test_the_profile_knows_the_trials(flux, calibrated):
    store, curve = calibrated
    (profile,) = told(store)
    assert [share for share, *_ in profile["trials"]] == [point.share for point in curve]
    assert profile["runs"] == len(SEEDS)
    fast = accelerate(flux, SpecaConfig(threshold=0.2), profiles=store)
    latent = sample_flux(fast, steps=STEPS, cfg=1.0)
    assert find(latent).profile["state"] == "served"
    assert find(latent).count("accepted") > 0


def test_the_curve_is_what_was_measured(flux, calibrated):
    """Fewer steps, measured again from outside."""
    _, curve = calibrated
    plain = [recipe(flux).sample(flux, seed) for seed in SEEDS]
    ratios = []
    for point in curve:
        steps = round(STEPS * point.share)
        fewer = [recipe(flux).sample(flux, seed, steps) for seed in SEEDS]
        offs = [((a - b).norm() / b.norm()).log() for a, b in zip(fewer, plain, strict=True)]
        assert point.fewer == pytest.approx(float(torch.stack(offs).mean().exp()), rel=1e-4)
        ratios.append(point.calibrated / point.fewer)
    assert 0 < math.prod(ratios) < 1  # nearer, over all speeds: two pictures say no more
    assert [point.calibrated for point in curve] == sorted(point.calibrated for point in curve)


def test_an_interrupted_calibration_goes_on(flux, tmp_path):
    store, work = ProfileStore(tmp_path), recipe(flux, cfg=1.5)
    done = []

    def stop(finished, _):
        done.append(finished)
        if finished == 5:
            raise InterruptProcessingException

    with pytest.raises(InterruptProcessingException):
        Calibration(work, SEEDS, store, stop).run()
    assert told(store) == []
    rest = evaluations(flux, Calibration(work, SEEDS, store).run)
    whole = evaluations(flux, Calibration(work, SEEDS, store).run)  # nothing is left over
    # Rows of two prompts: of the plain runs, and of three trials at the slowest two speeds.
    assert whole - rest >= 2 * 2 * STEPS
    assert len(told(store)) == 1


def test_progress_ends_where_it_said(flux, tmp_path):
    seen = []
    Calibration(
        recipe(flux, cfg=1.25), SEEDS, ProfileStore(tmp_path), lambda *at: seen.append(at)
    ).run()
    assert [done for done, _ in seen] == list(range(len(seen)))
    assert {whole for _, whole in seen} == {len(seen)}


@pytest.mark.parametrize("change", [{"sampler": "euler_ancestral"}, {"model": "foreign"}], ids=str)
def test_where_nothing_can_be_learned_it_says_so_before_a_step_is_made(flux, tmp_path, change):
    model = flux
    if "model" in change:
        model = flux.clone()
        model.set_model_sampler_cfg_function(lambda args: args["cond"])
        change = {}

    def calibrate():
        with pytest.raises(SpecaError, match="nothing can be learned"):
            Calibration(recipe(model, **change), SEEDS, ProfileStore(tmp_path)).run()

    assert evaluations(model, calibrate) == 0


def test_a_model_that_has_gone_through_speca_is_refused(flux, nodes):
    """Its "fewer steps" would be accelerated, too."""
    with pytest.raises(SpecaError, match=r"has gone through SpeCa.*Connect that one"):
        by_node(accelerate(flux, SpecaConfig()), nodes)


def test_a_lead_must_be_better_for_every_picture():
    def runs(*offs):
        return [TrialResult(seed, off, 1.0, 1, {}) for seed, off in enumerate(offs)]

    usual = runs(1.0, 1.0)
    assert best_lead({USUAL: usual, 1: runs(0.5, 0.5)}) == 1
    assert best_lead({USUAL: usual, 1: runs(0.1, 0.95)}) == USUAL
    assert best_lead({USUAL: usual, 1: runs(0.8, 0.8), 3: runs(0.7, 0.7)}) == 3


def by_node(model, nodes, seed=3, pictures=1):
    """The node's picture and text."""
    latent = {"samples": torch.zeros(1, 16, 16, 16)}
    inputs = model, caption(CAPTIONS[0]), caption(""), latent, seed, pictures
    return nodes["SpeCaCalibrate"].execute(*inputs, STEPS, 1.0, "euler", "simple").result


def test_the_node_draws_its_curve_and_keeps_it_where_the_default_looks(flux, nodes):
    picture, text = by_node(flux, nodes, seed=2**64 - 1, pictures=2)  # the next seed is 0
    assert picture.shape[0] == 1 and picture.shape[-1] == 3 and float(picture.std()) > 0.05
    assert len(text.splitlines()) == 1 + len(counts_of(STEPS))
    assert len(told(STORE)) == 1
