"""What SpeCa costs besides the blocks it saves: counted in the real ComfyUI, so that the numbers
are the same on every machine."""

import dataclasses
import math
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise

import comfy.ops
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from conftest import PACK, load
from models import build, checked, features, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core import SpecaConfig, tensors
from speca_pack.speca_core.forecasters import Spline
from speca_pack.speca_core.tensors import relative_error
from speca_pack.speca_core.verifiers import VERIFIERS
from tiny import TINY

counting, Forced = load(PACK / "benchmarks/counting.py"), load(PACK / "benchmarks/forced.py").Forced

C = None  # a computed prediction; numbers are drafts, of which so many images are rejected
PATTERN = [C, C, C, 0, 0, C, 1, 2, 0, C]
IMAGES, LANES = 2, 4
every_verifier = pytest.mark.parametrize("verifier", VERIFIERS)
# Two stacks; no wrapper of its own; video; tuples of streams.
SOME = [name for name in ("flux", "sd3", "wan", "ltxav") if name in TINY]
SMALL = 1024  # bytes: errors, norms, sigmas


@pytest.fixture(scope="module")
def model():
    models = {}
    return lambda name: (
        models.setdefault(name, None) or models.update({name: build(name)}) or models[name]
    )


def sample(model, name, verifier="embedded", pattern=PATTERN, **settings):
    """(report, costs of each prediction) of a run that follows the pattern."""
    costs = []

    def meter():
        costs.append(counting.Counting(counting.OURS))
        return costs[-1]

    config = features(verifier=VERIFIERS[verifier](), budget=Forced(pattern, IMAGES), **settings)
    report = find(
        sample_tiny(accelerate(counting.metered(model, meter), config), name, steps=len(pattern))
    )
    assert report.finished and len(report.calls) == len(pattern), "one call makes a prediction"
    return report, [counted.costs for counted in costs]


@pytest.mark.parametrize("name", SOME)
@every_verifier
def test_waits_for_the_device(model, name, verifier):
    """One for sigma, in each prediction; one for the errors of a draft; one for the hindcast of a
    computed call that has one.

    Each is a value that Python decides by: where on the schedule this is, whether the draft passes,
    how far off forecasts are.
    """
    report, costs = sample(model(name), name, verifier)
    for call, cost in zip(report.calls, costs, strict=True):
        checked = any(row.error is not None for row in call.rows)
        scored = any(row.hindcast is not None for row in call.rows)
        expected = Counter({"jumps.py": 1, "subject.py": checked, "call.py": scored})
        assert Counter(place.split(":")[0] for place in cost.waits) == +expected
    assert any(len({row.verdict for row in call.rows}) == 2 for call in report.calls) == (
        verifier != "none"
    ), "a mixed call was among them"


def test_waits_at_level_prediction(model):
    report, costs = sample(model("flux"), "flux", level="prediction")
    for call, cost in zip(report.calls, costs, strict=True):
        checked = any(row.error is not None for row in call.rows)
        scored = any(row.hindcast is not None for row in call.rows)
        assert len(cost.waits) == 1 + checked + scored


def test_waits_under_foreign_guidance(model):
    """One more to see whether the prompts are the same, and one for the scale of guidance."""
    foreign = model("flux").clone()
    foreign.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    report, costs = sample(foreign, "flux", level="prediction")
    for call, cost in zip(report.calls[1:], costs[1:], strict=True):
        checked = any(row.error is not None for row in call.rows)
        scored = any(row.hindcast is not None for row in call.rows)
        assert len(cost.waits) == 1 + checked + scored + 2


@contextmanager
def blocks_counted(model):
    """Counts how often each of a model's blocks runs."""
    ran, module = Counter(), model.model.diffusion_model
    stacks = [getattr(module, path) for path in family_of(module).stacks]
    blocks = [
        (path, i, block)
        for path, stack in zip(family_of(module).stacks, stacks, strict=True)
        for i, block in enumerate(stack)
    ]
    hooks = [
        block.register_forward_hook(lambda *_, key=(path, i): ran.update([key]))
        for path, i, block in blocks
    ]
    try:
        yield [(path, i) for path, i, _ in blocks], ran
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("name", SOME)
@every_verifier
def test_a_draft_runs_the_verifiers_block_and_no_other(model, name, verifier):
    pattern = [C, C, C, 0]
    with blocks_counted(model(name)) as (blocks, ran):
        sample(model(name), name, verifier, pattern)
    drafted = {"first": {blocks[0]}, "last": {blocks[-1]}}.get(VERIFIERS[verifier].block, set())
    assert ran == {block: 3 + (block in drafted) for block in blocks}


# Bytes of tiny Flux's stream in all lanes: 16 tokens, 64 channels, float32.
TAP = LANES * 16 * 64 * 4
LAST = LANES * (16 + 6) * 64 * 4  # its last block reads the text's tokens, too
# Small beside a stream in a real model; here as large.
OUTPUT = LANES * 4 * math.prod(TINY["flux"].latent)
HINDSIGHT = 5 * OUTPUT // 2  # slopes of the images: three anchors and the drafts in between
# The images' latents, how far they have moved, and before, and off the slope, and the new slope.
PATH = 5 * OUTPUT // 2
# Latents of two places; the slope, half of that, is kept from the call's end to the next one's
# beginning.
KEPT_PATH = OUTPUT
SHOWN = OUTPUT // 2  # the newest prediction without its repair, until the next one is asked for


def test_bytes_of_a_draft(model):
    """A forecast is summed up at its place in the batch; three are made for the embedded check,
    never two at a time.

    Of outputs, which are small beside streams in a real model: guidance copies two and mixes two
    half ones, their difference, and hindsight's slopes, two half ones.
    """
    report, costs = sample(model("flux"), "flux")
    drafts = [
        cost
        for call, cost in zip(report.calls, costs, strict=True)
        if {row.verdict for row in call.rows} == {"accepted"}
    ]
    assert len(drafts) == 3
    for cost in drafts:
        assert cost.allocated <= 3 * TAP + 5 * OUTPUT + PATH + SMALL
        assert cost.peak <= 2 * TAP + OUTPUT + KEPT_PATH // 2 + SMALL
    _, unchecked = sample(model("flux"), "flux", "none")
    assert unchecked[3].allocated <= TAP + OUTPUT + PATH + SMALL


LATENT = math.prod(TINY["flux"].latent) * 4  # bytes, of one image
KERNELS, TEMPORARIES = (
    17,
    4,
)  # of a draft of two images by default; 26 and 12 before sums were fused
# Without a profile, and with its check; 54 and 30 before.
KERNELS_CHECKED, TEMPORARIES_CHECKED = 35, 12


def test_large_tensors_of_a_draft(model):
    """What a draft takes at the default level: its forecast, what is served, its slope, and where
    the sampler will arrive."""
    costs = []

    def meter():
        costs.append(counting.Counting(counting.OURS, LATENT))
        return costs[-1]

    metered = counting.metered(model("flux"), meter)
    sample_tiny(accelerate(metered, SpecaConfig()), "flux", steps=12)  # to learn
    for config, kernels, temporaries in (
        (SpecaConfig(0.2), KERNELS, TEMPORARIES),
        (checked(0.5), KERNELS_CHECKED, TEMPORARIES_CHECKED),
    ):
        costs.clear()
        report = find(sample_tiny(accelerate(metered, config), "flux", steps=12))
        calls = zip(report.calls, costs, strict=True)
        drafts = [c.costs for call, c in calls if all(r.verdict == "accepted" for r in call.rows)]
        assert drafts
        assert max(cost.kernels for cost in drafts) == kernels
        assert max(cost.temporaries for cost in drafts) == temporaries


# Of any tensor, at a draft and at a computed turn: the path model solves in float64 on the host,
# for about one and two milliseconds, and remembers that for the next image and run.
OF_A_DRAFT, OF_A_TURN = 150, 350
ON_THE_HOST = "courses", "path_model", "plans"  # their numbers are there already


def test_what_a_profile_costs(model):
    """A run that teaches takes one copy of some numbers of the slope at each step."""
    costs = []

    def meter():
        costs.append(counting.Counting(counting.OURS, LATENT))
        return costs[-1]

    def waits(cost):
        return [place for place in cost.waits if not place.startswith(ON_THE_HOST)]

    metered = counting.metered(model("flux"), meter)
    sample_tiny(accelerate(metered, SpecaConfig()), "flux", steps=12)
    for taught in [counted.costs for counted in costs][1:]:
        assert (taught.operations, taught.kernels, len(waits(taught))) == (4, 3, 1)
    costs.clear()
    report = find(sample_tiny(accelerate(metered, SpecaConfig(0.2)), "flux", steps=12))
    first, *others = zip(report.calls, [counted.costs for counted in costs], strict=True)
    for call, cost in others:  # the first one searches the plan
        assert cost.operations <= (OF_A_TURN if call.computed else OF_A_DRAFT)
        assert len(waits(cost)) == (2 if call.computed else 1)
    assert {call.computed for call, _ in others} == {True, False}
    assert len(waits(first[1])) == 1


def test_bytes_of_a_computed_prediction(model):
    """The anchor; from the third on a hindcast, which is a forecast and what guidance makes of two
    outputs; and hindsight."""
    report, costs = sample(model("flux"), "flux")
    assert report.calls[2].rows[0].hindcast is None and report.calls[5].rows[0].hindcast is not None
    assert all(cost.allocated <= TAP + OUTPUT + PATH + SMALL for cost in costs[:3])
    assert costs[5].allocated <= 4 * TAP + 7 * OUTPUT + PATH + SMALL


@pytest.mark.parametrize(("verifier", "taps"), [("first_block", TAP), ("last_block", LAST)])
def test_bytes_of_the_block_checks(model, verifier, taps):
    """Their tap is kept besides the exit, once; a draft forecasts it besides the exit."""
    report, costs = sample(model("flux"), "flux", verifier)
    assert all(cost.allocated <= TAP + taps + OUTPUT + PATH + SMALL for cost in costs[1:3])
    assert costs[3].allocated <= 3 * (TAP + taps) + 5 * OUTPUT + PATH + SMALL
    assert report.cache_bytes == 3 * (TAP + taps) + HINDSIGHT + KEPT_PATH + SHOWN


def test_errors_are_measured_without_a_float32_copy_of_the_streams(monkeypatch):
    """Parts of at most PART numbers: two in float32, their difference, and small change."""
    truth = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    forecast = (1.5 * truth).to(torch.bfloat16)
    whole = relative_error(forecast, truth)
    monkeypatch.setattr(tensors, "PART", 1024)
    with counting.Counting() as costs:
        parts = relative_error(forecast, truth)
    assert costs.peak <= 3 * 4 * 1024 + SMALL < truth.nbytes
    torch.testing.assert_close(parts, whole)


def tally(cost):
    return cost.operations, cost.allocated, len(cost.waits)


def test_costs_do_not_grow_with_steps(model):
    cycle = [C, 0, 0]
    _, costs = sample(model("flux"), "flux", pattern=[C, C, C, *(cycle * 8)])
    assert {tally(cost) for cost in costs[4::3]} == {tally(costs[4])}, "drafts"
    assert {tally(cost) for cost in costs[9::3]} == {tally(costs[9])}, "computed"


def test_costs_do_not_grow_with_the_depth_of_the_model(model, monkeypatch):
    deep = dataclasses.replace(
        TINY["flux"], unet=TINY["flux"].unet | {"depth": 6, "depth_single_blocks": 9}
    )
    _, costs = sample(model("flux"), "flux")
    monkeypatch.setitem(TINY, "flux", deep)
    _, more = sample(build("flux"), "flux")
    assert [tally(cost) for cost in more] == [tally(cost) for cost in costs]


def test_one_more_anchor_is_one_more_addition_and_one_more_tap_kept(model):
    pattern = [C] * 6 + [0]
    runs = {
        anchors: sample(model("flux"), "flux", "none", pattern, forecaster=Spline(anchors=anchors))
        for anchors in (3, 4, 5)
    }
    drafts = [costs[-1] for _, costs in runs.values()]
    assert [b.operations - a.operations for a, b in pairwise(drafts)] == [LANES] * 2
    assert len({cost.allocated for cost in drafts}) == 1
    kept = [report.cache_bytes for report, _ in runs.values()]
    assert [b - a for a, b in pairwise(kept)] == [TAP] * 2


def test_nothing_is_patched_outside_of_a_call(model):
    module = model("flux").model.diffusion_model

    def state():
        return {
            name: (set(vars(part)), list(part._modules), len(part._forward_hooks))
            for name, part in module.named_modules()
        }

    before, seen = state(), []
    config = features(budget=Forced(PATTERN, IMAGES))
    sample_tiny(
        accelerate(model("flux"), config),
        "flux",
        steps=len(PATTERN),
        callback=lambda *_: seen.append(state()),
    )
    assert seen == [before] * len(PATTERN)


class NoVram(ModelPatcher):
    """As ComfyUI loads under --novram: weights stay where they are and go to the device one layer
    at a time, when it is used."""

    def load(self, device_to=None, lowvram_model_memory=0, **rest):
        super().load(device_to, lowvram_model_memory=0.1, **rest | {"full_load": False})


@pytest.mark.parametrize("name", ["flux", "wan"])
@every_verifier
def test_a_draft_moves_no_weights_of_skipped_blocks(name, verifier, monkeypatch):
    """Counted where ComfyUI brings a layer's weights to the device."""
    plain = build(name)
    offloaded = NoVram(plain.model, plain.load_device, plain.offload_device)
    module = plain.model.diffusion_model
    names = {part: place for place, part in module.named_modules()}
    stacks = tuple(f"{path}." for path in family_of(module).stacks)
    moved, predictions, cast = Counter(), [], comfy.ops.cast_bias_weight

    def counted(layer, *args, **kwargs):
        moved[names[layer]] += sum(
            tensor.nbytes
            for tensor in (layer.weight, getattr(layer, "bias", None))
            if tensor is not None
        )
        return cast(layer, *args, **kwargs)

    @contextmanager
    def meter():
        moved.clear()
        yield
        predictions.append(
            Counter({place: size for place, size in moved.items() if place.startswith(stacks)})
        )

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", counted)
    config = features(verifier=VERIFIERS[verifier](), budget=Forced([C, C, C, 0], IMAGES))
    sample_tiny(accelerate(counting.metered(offloaded, meter), config), name, steps=4)
    full, draft = predictions[1], predictions[3]
    layers = {
        place
        for part, place in names.items()
        if place.startswith(stacks) and getattr(part, "weight", None) is not None
    }
    assert set(full) == layers and all(full.values()), "a full call moves all"
    checked = {
        "first": f"{stacks[0]}0.",
        "last": f"{stacks[-1]}{len(getattr(module, stacks[-1][:-1])) - 1}.",
    }.get(VERIFIERS[verifier].block)
    assert draft == {
        place: size for place, size in full.items() if checked and place.startswith(checked)
    }


def test_the_giants_of_the_benchmark_have_their_published_size():
    """Built without memory, from ComfyUI's classes; billions of parameters as the models' makers
    give them."""
    published = {
        "Flux": 12,
        "Flux2": 4,
        "QwenImage": 20,
        "ZImage": 6,
        "SD3": 8.1,
        "HunyuanVideo": 13,
    }
    giants = load(PACK / "benchmarks/giants.py").GIANTS
    assert len({giant.name for giant in giants}) == len(giants) == 10
    for giant in giants:
        module = giant.build(torch.device("meta")).model.diffusion_model
        size = published.get(giant.config) or (14 if "14B" in giant.name else 1.4)
        assert sum(parameter.numel() for parameter in module.parameters()) / 1e9 == pytest.approx(
            size, rel=0.05
        ), giant.name
        assert family_of(module).stacks
