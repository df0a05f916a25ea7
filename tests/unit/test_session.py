"""The algorithm, driven by hand: a "model" whose feature is a known function of the position."""

import json
import math
from itertools import pairwise

import pytest
import torch

from speca_core import Session, SpecaConfig
from speca_core.anchors import HEAD_INPUT
from speca_core.budgets import Interval, Mask, Reason, Target, Threshold
from speca_core.forecasters import FORECASTERS, Newton, Reuse
from speca_core.report_json import write
from speca_core.tensors import join
from speca_core.verifiers import Embedded, LastBlock

STEPS = 20
# Log SNR even in steps, so that the coordinate is the position and arithmetic stays easy.
SIGMAS = [1 / (1 + math.exp((i - STEPS / 2) / 2)) for i in range(STEPS)] + [0.0]


def config(threshold=math.inf, **settings):
    settings = {
        "budget": Threshold(max_streak=4),
        "forecaster": Newton(1, 0.0),
        "verifier": LastBlock(),
    } | settings
    return SpecaConfig(threshold=threshold, **settings)


def open_call(session, sigma, lanes=("a",), images=None):
    """One prediction of one call."""
    prediction = session.predict_at(sigma)
    return prediction.open_call(lanes, images or [0] * len(lanes), list(range(len(lanes))))


class Toy:
    """A subject whose truth is a function of the place.

    `feature(coordinate, row)` is the truth; `errors(call, row)` is what the verifier says of a
    draft, None: there is no check.
    """

    def __init__(self, feature, errors=None):
        self.feature, self.errors = feature, errors

    def draft(self, call, rows):
        errors = [self.errors(call, row) for row in rows] if self.errors else None
        accepted, _ = call.judge(rows, errors)
        return accepted, call.forecast(HEAD_INPUT, accepted)

    def compute(self, call, rows):
        truth = [torch.tensor([float(self.feature(call.point.coordinate, row))]) for row in rows]
        call.observe(HEAD_INPUT, rows, truth)
        return truth


def play(session, feature, lanes=("a",), images=None, errors=None):
    """Sample with a `Toy`. Returns what each row was served, call by call."""
    served = []
    images = images or list(range(len(lanes)))
    for sigma in session.schedule.sigmas[:-1]:
        call = session.predict_at(sigma).open_call(lanes, images, [0] * len(lanes))
        served.append([out.item() for out in join(call.answer(Toy(feature, errors)))])
        call.close(0.01)
    return served


def test_infinite_tolerance_computes_warm_up_and_anchors_only():
    session = Session(config(), SIGMAS)
    play(session, lambda s, row: s)
    computed = [c.index for c in session.report.calls if c.rows[0].verdict == "computed"]
    # warm-up 0 1 2, then four drafts after each anchor, and the protected last step
    assert computed == [0, 1, 2, 7, 12, 17, 19]
    reasons = [session.report.calls[i].rows[0].reason for i in computed]
    assert reasons == ["warmup"] * 3 + ["max_streak"] * 3 + ["last_step"]


def test_lines_are_drafted_exactly_at_order_one():
    served = play(Session(config(forecaster=Newton(1, 0.0)), SIGMAS), lambda s, row: 3 * s - 1)
    assert served == [pytest.approx([3 * s - 1], abs=1e-4) for s in range(STEPS)]


def test_forecasts_never_become_anchors():
    # Order 0 serves the newest anchor; if drafts were anchors the last step before a full one would
    # drift.
    served = play(Session(config(forecaster=Reuse()), SIGMAS), lambda s, row: s)
    assert [v[0] for v in served[3:8]] == [2, 2, 2, 2, 7]


def test_a_rejected_draft_is_computed_in_the_same_call():
    session = Session(config(threshold=0.1, budget=Threshold(max_streak=4, give_up=0)), SIGMAS)
    served = play(session, lambda s, row: s * s, errors=lambda call, row: 0.5)
    # Nothing unverified was served.
    assert served == [pytest.approx([s * s], abs=1e-4) for s in range(STEPS)]
    assert session.report.count("accepted") == 0
    assert session.report.count("rejected") == STEPS - 3 - 1  # all but warm-up and the last step


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_not_finite_is_rejected_at_any_tolerance(error):
    session = Session(config(threshold=math.inf), SIGMAS)
    play(session, lambda s, row: s, errors=lambda call, row: error)
    assert session.report.count("accepted") == 0
    json.dumps(write(session.report), allow_nan=False)


def test_equality_passes():
    session = Session(config(threshold=0.1, budget=Threshold(decay=1.0, max_streak=4)), SIGMAS)
    play(session, lambda s, row: s, errors=lambda call, row: 0.1)
    assert session.report.count("rejected") == 0


def test_images_decide_for_themselves():
    session = Session(config(threshold=0.1), SIGMAS)
    play(
        session, lambda s, row: s, lanes=("easy", "hard"), errors=lambda call, row: (0.0, 1.0)[row]
    )
    verdicts = [
        {r.verdict for c in session.report.calls for r in c.rows if r.image == image}
        for image in (0, 1)
    ]
    assert verdicts == [{"computed", "accepted"}, {"computed", "rejected"}]


def test_an_image_is_the_same_alone_and_in_a_batch():
    errors = lambda call, row: (0.02, 0.3)[row % 2] * (call.states[row].streak + 1)  # noqa: E731
    together = play(
        Session(config(threshold=0.1), SIGMAS),
        lambda s, row: s + row,
        lanes=("a", "b"),
        errors=errors,
    )
    alone = play(
        Session(config(threshold=0.1), SIGMAS), lambda s, row: s, lanes=("a",), errors=errors
    )
    assert [row[0] for row in together] == [row[0] for row in alone]


def test_branches_of_one_image_decide_together():
    session = Session(config(threshold=0.1), SIGMAS)
    play(
        session,
        lambda s, row: s,
        lanes=("cond", "uncond"),
        images=[0, 0],
        errors=lambda call, row: (0.0, 1.0)[row],
    )
    rejected = [c for c in session.report.calls if c.rows[1].verdict == "rejected"]
    assert rejected and all(
        c.rows[0].verdict == "rejected" and c.rows[0].reason == "coupled" for c in rejected
    )


def test_a_new_lane_makes_its_image_compute():
    session = Session(config(), SIGMAS)
    for i, sigma in enumerate(SIGMAS[:5]):
        lanes = ["a"] if i < 4 else ["a", "late"]
        call = open_call(session, sigma, lanes)
        call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(1)] * len(call.full_rows))
        call.close(0.0)
    assert call.draft_rows == [] and call.full_rows == [0, 1]
    assert [r.reason for r in session.report.calls[-1].rows] == ["coupled", "warmup"]


def test_window():
    session = Session(config(start=0.5, end=0.75), SIGMAS)
    play(session, lambda s, row: s)
    drafted = [c.position for c in session.report.calls if c.rows[0].verdict == "accepted"]
    assert drafted and min(drafted) >= 0.5 * STEPS and max(drafted) <= 0.75 * STEPS


def test_the_same_sigma_twice_is_computed_and_replaces_its_anchor():
    session = Session(config(budget=Threshold(warmup=1), forecaster=Reuse()), SIGMAS)
    for value, sigma in ((1.0, SIGMAS[0]), (2.0, SIGMAS[0])):
        call = open_call(session, sigma)
        assert call.full_rows == [0]
        call.observe(HEAD_INPUT, [0], [torch.tensor([value])])
        call.close(0.0)
    assert session.report.calls[1].rows[0].reason == "repeated_sigma"
    assert open_call(session, SIGMAS[1]).forecast(HEAD_INPUT, [0])[0].item() == 2.0


@pytest.mark.parametrize(
    "forecaster", [forecaster() for forecaster in FORECASTERS.values()], ids=lambda f: f.name
)
def test_an_anchor_is_the_forecast_of_its_own_place_as_far_off_as_the_last_one_was(forecaster):
    """As Heun calls, each place twice. No check sees anything there: the error is what was measured
    the last time."""
    session = Session(
        config(threshold=0.1, budget=Threshold(warmup=4, decay=1.0), forecaster=forecaster), SIGMAS
    )

    def visit(step, value, check, error):
        """What the call is, with the check's error and the true one, if it is not drafted."""
        call = open_call(session, SIGMAS[step])
        forecast = call.forecast(HEAD_INPUT, [0])[0].item() if call.scorable([0]) else None
        rejected = call.judge(call.draft_rows, [check] * len(call.draft_rows))[1]
        if rejected or call.full_rows:
            call.score(call.scorable([0]), [error] * len(call.scorable([0])))
            call.observe(HEAD_INPUT, [0], [torch.tensor([value])])
        row = call.close(0.0).rows[0]
        return row.reason, forecast, row.error, row.hindcast

    for step in range(4):
        visit(step, float(step), None, 9.0)
    assert visit(3, 3.5, None, 0.2) == ("repeated_sigma", 3.0, None, 0.2)
    assert visit(4, 4.0, 9.0, 9.0)[0] == "rejected"
    assert visit(4, 4.5, 0.0, 0.05) == ("rejected", 4.0, 0.2, 0.05)
    assert visit(5, 5.0, 9.0, 9.0)[0] == "rejected"
    assert visit(5, 5.5, 0.0, 9.0) == ("draft", 5.0, 0.05, None)
    assert visit(5, 5.5, 0.5, 0.01) == ("rejected", 5.0, 0.5, 0.01)


def test_too_few_anchors_for_the_order():
    session = Session(config(budget=Threshold(warmup=1), forecaster=Newton(3, 0.0)), SIGMAS)
    play(session, lambda s, row: s)
    assert [c.rows[0].reason for c in session.report.calls[:4]] == [
        "warmup",
        "anchors",
        "anchors",
        "anchors",
    ]


def test_a_feature_of_another_shape_starts_the_lane_anew():
    session = Session(config(), SIGMAS)
    for i, sigma in enumerate(SIGMAS[:4]):
        call = open_call(session, sigma)
        call.observe(HEAD_INPUT, [0], [torch.zeros(2 if i < 3 else 3)])
    assert [a.shape[0] for a in session.lanes["a", 0].head_input.anchors] == [3]


def test_hindcast_is_offered_only_where_a_forecast_exists():
    session = Session(config(budget=Interval(interval=1)), SIGMAS)
    offered = []
    for sigma in SIGMAS[:4]:
        call = open_call(session, sigma)
        offered.append(call.scorable([0]))
        if offered[-1]:
            call.score([0], [0.25])
        call.observe(HEAD_INPUT, [0], [torch.zeros(1)])
        call.close(0.0)
    assert offered == [[], [], [0], [0]]
    assert [c.rows[0].hindcast for c in session.report.calls] == [None, None, 0.25, 0.25]


def test_the_embedded_pair_by_hand():
    session = Session(config(forecaster=Reuse(), verifier=Embedded()), SIGMAS)
    for sigma, value in zip(SIGMAS[:3], (0.0, 1.0, 4.0), strict=True):
        call = open_call(session, sigma)
        call.observe(HEAD_INPUT, [0], [torch.tensor([value])])
        call.close(0.0)
    call = open_call(session, SIGMAS[3])
    # The verifier's depth, though reuse needs one.
    assert len(session.lanes["a", 0].head_input.anchors) == 3
    low, high = call.embedded_pair([0])
    # The line and the parabola through 0, 1, 4.
    assert [low[0].item(), high[0].item()] == pytest.approx([7.0, 9.0], abs=1e-4)
    assert call.forecast(HEAD_INPUT, [0])[0].item() == 4.0


def test_observers_see_every_call():
    seen = []
    session = Session(config(), SIGMAS, observers=[seen.append])
    play(session, lambda s, row: s)
    assert seen == session.report.calls


def test_report_json():
    session = Session(config(threshold=0.1), SIGMAS, model="Flux")
    play(session, lambda s, row: s, errors=lambda call, row: 0.05 * (call.states[row].streak + 1))
    session.report.finished, session.report.seconds = True, 1.5
    report = json.loads(json.dumps(write(session.report), allow_nan=False))
    totals = report["totals"]
    assert (
        report["schema"] == 2
        and report["model"] == "Flux"
        and report["steps"] == STEPS
        and report["finished"]
    )
    assert totals["calls"] == STEPS == totals["rows"] == totals["computed"] + totals["accepted"]
    assert totals["rejected"] == session.report.count("rejected") > 0
    assert totals["drafted"] == totals["accepted"] + totals["rejected"]
    assert totals["acceptance_rate"] == pytest.approx(totals["accepted"] / totals["drafted"])
    assert report["level"] == "features"  # last_block needs them
    assert report["settings"] == config(threshold=0.1).to_dict()
    assert report["seconds"]["per_computed_call"] == report["seconds"]["per_accepted_call"] == 0.01
    assert set(report["calls"][0]["rows"][0]) == {
        "image",
        "branch",
        "verdict",
        "reason",
        "error",
        "tolerance",
        "hindcast",
        "surprise",
        "lane",
    }
    assert Mask(computed=json.dumps(report["mask"])).policy(0.1).computed_steps[:3] == (0, 1, 2)
    assert report["cache_bytes"] == 2 * 4  # two anchors of one float32
    assert f"{totals['accepted']} of {totals['rows']} evaluations skipped" in session.report.summary


def schedule(steps):
    return [1 / (1 + math.exp((i - steps / 2) / 2)) for i in range(steps)] + [0.0]


@pytest.mark.parametrize("steps", [20, 28, 50])
@pytest.mark.parametrize("speedup", [2.0, 2.5, 3.0, 4.0])
@pytest.mark.parametrize("calls_per_step", [1, 2])
def test_target_meets_its_number_of_evaluations(steps, speedup, calls_per_step):
    """Also where drafts are far off, and with samplers that call twice a step (second time between
    two sigmas)."""
    sigmas = schedule(steps)
    session = Session(config(threshold=0.01, budget=Target(speedup=speedup)), sigmas)
    for i in range(steps):
        for half in range(calls_per_step):
            sigma = sigmas[i] if half == 0 else (sigmas[i] + sigmas[i + 1]) / 2
            call = open_call(session, sigma)
            assert not call.judge(call.draft_rows, [1.0] * len(call.draft_rows))[1]
            call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(1)] * len(call.full_rows))
            call.close(0.0)
    total = steps * calls_per_step
    computed = total - session.report.count("accepted")
    # The plan is in whole calls, and at four calls per computation three of warm-up and the last
    # are most of a short schedule.
    assert abs(computed - total / speedup) <= max(1.0, 0.05 * total / speedup)


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [(3.5, "ccc" + 5 * "ddddc"), (2.0, "cccdcddcdcdcddcdcdcdcddcdcdc")],
    ids=["evenly", "first streak is a short one"],
)
def test_target_follows_its_plan(speedup, expected):
    """28 calls of which 8 or 14 are computed: 25 calls in 5 gaps of 5, or in 11 gaps of 2 and 3."""
    session = Session(config(budget=Target(speedup=speedup)), schedule(28))
    play(session, lambda s, row: s, errors=lambda call, row: 9.0)
    assert (
        "".join("d" if c.rows[0].verdict == "accepted" else "c" for c in session.report.calls)
        == expected
    )


@pytest.mark.parametrize("heun", [False, True])
def test_target_spaces_its_computations_evenly(heun):
    """Also behind more calls at the start than warm-up asks for: where a sampler comes to a place
    again, two more are computed first."""
    sigmas = schedule(50)
    session = Session(config(budget=Target(speedup=4.0), forecaster=Newton(2, 0.5)), sigmas)
    for sigma in [sigmas[0], *(s for s in sigmas[1:-1] for _ in range(2))] if heun else sigmas[:-1]:
        call = open_call(session, sigma)
        scorable = call.scorable(call.full_rows)
        call.score(scorable, [0.1] * len(scorable))
        call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(1)] * len(call.full_rows))
        call.close(0.0)
    verdicts = [c.rows[0].verdict for c in session.report.calls]
    places = [i for i, verdict in enumerate(verdicts) if verdict == "computed"]
    gaps = [b - a for a, b in pairwise(places[verdicts.index("accepted") - 1 : -1])]
    assert max(gaps) - min(gaps) <= 3, places


def test_deferred_serves_the_failed_draft_and_computes_the_next_call():
    session = Session(config(threshold=0.1, budget=Threshold(deferred=1, max_streak=4)), SIGMAS)
    play(session, lambda s, row: s, errors=lambda call, row: 0.5)
    verdicts = [c.rows[0].verdict for c in session.report.calls]
    assert verdicts[3:9] == ["accepted", "computed"] * 3
    assert session.report.calls[3].rows[0].error == 0.5


def test_branches_in_separate_calls_of_one_prediction_decide_together():
    session = Session(config(threshold=0.1), SIGMAS)
    for sigma in SIGMAS[:4]:
        prediction = session.predict_at(sigma)
        for branch, name in enumerate(("cond", "uncond")):
            call = prediction.open_call([name], [0], [branch])
            accepted, rejected = call.judge(call.draft_rows, [1.0] * len(call.draft_rows))
            assert not accepted
            call.observe(HEAD_INPUT, call.full_rows + rejected, [torch.zeros(1)])
            call.close(0.0)
    assert [(c.rows[0].verdict, c.rows[0].reason) for c in session.report.calls[-2:]] == [
        ("rejected", "rejected"),
        ("computed", "coupled"),
    ]


def test_what_is_asked_twice_in_a_prediction_has_two_lanes():
    """An extra pass with the same conditioning, even of another shape, must not get the first one's
    anchors."""
    session = Session(config(), SIGMAS)
    for sigma in SIGMAS[:4]:
        prediction = session.predict_at(sigma)
        for size in (2, 3):
            call = prediction.open_call(["a"], [0], [0])
            call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(size)] * len(call.full_rows))
            call.close(0.0)
    assert {key: lane.head_input.anchors[0].shape[0] for key, lane in session.lanes.items()} == {
        ("a", 0): 2,
        ("a", 1): 3,
    }
    assert [c.rows[0].verdict for c in session.report.calls[-2:]] == ["accepted"] * 2


def test_lanes_that_do_not_come_back_are_forgotten():
    """Context windows that shift at every step are new lanes each time: memory must not grow with
    the steps."""
    session = Session(config(), SIGMAS)
    for i, sigma in enumerate(SIGMAS[:-1]):
        call = open_call(session, sigma, ["stays", f"window {i}"])
        call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(1)] * len(call.full_rows))
        call.close(0.0)
    assert len(session.lanes) <= 4 and ("stays", 0) in session.lanes
    assert session.report.cache_bytes <= 4 * 2 * 4


def test_rows_that_cannot_be_told_apart_decide_together_and_keep_their_images():
    session = Session(config(), SIGMAS)
    for i, sigma in enumerate(SIGMAS[:5]):
        lanes = ["a", "b"] if i < 4 else ["a", "new"]
        call = session.predict_at(sigma).open_call(lanes, [0, 1], [0, 0], coupled=True)
        call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(1)] * len(call.full_rows))
        call.close(0.0)
    assert call.full_rows == [0, 1] and [r.image for r in session.report.calls[-1].rows] == [0, 1]


def test_a_verifier_that_needs_two_anchors_waits_for_them():
    # With one anchor two forecasts are the same one, and would always agree.
    session = Session(
        config(threshold=0.1, budget=Threshold(warmup=1), forecaster=Reuse(), verifier=Embedded()),
        SIGMAS,
    )
    for sigma in SIGMAS[:3]:
        call = open_call(session, sigma)
        call.observe(HEAD_INPUT, call.full_rows, [torch.zeros(1)] * len(call.full_rows))
        call.close(0.0)
    assert [c.rows[0].reason for c in session.report.calls] == ["warmup", "anchors", "draft"]


class Slopes:
    """A subject for one image: the slope of the path, as level prediction has it."""

    def __init__(self, slope):
        self.slope = slope

    def draft(self, call, rows):
        call.judge(rows, [0.0] * len(rows))
        return rows, call.forecast(HEAD_INPUT, rows)

    def compute(self, call, rows):
        if call.session.caching:
            call.observe(HEAD_INPUT, rows, [self.slope] * len(rows))
        return [self.slope] * len(rows)


def sample(session, truth, x, jumps=(), short_at=None):
    """Euler along `truth(sigma)` [images, ...], with all of the session as ComfyUI's side uses it;
    memory runs out at step `short_at`."""
    for i, (sigma, following) in enumerate(pairwise(SIGMAS)):
        if i in jumps:
            x = x + 10 * (-1) ** i  # the line through the last two places does not lead there
        prediction = session.predict(torch.tensor(sigma), x)
        if i == short_at:
            session.stop_caching()
            prediction = session.predict(torch.tensor(sigma), x)
        call = prediction.open_call([0], [0], [0])
        slope = join(call.answer(Slopes(truth(sigma)[0])))
        call.close(0.0)
        denoised = prediction.serve(x, x - sigma * slope)
        x = x + (x - denoised) / sigma * (following - sigma)
    return [call.rows[0].reason for call in session.report.calls]


def slope(sigma):
    return torch.tensor([[1.0 + 0.1 * sigma, -1.0]])


def test_a_latent_that_jumps_starts_anew():
    reasons = sample(Session(config(), SIGMAS), slope, torch.zeros(1, 2), jumps={9})
    assert (
        "draft" in reasons[:9]
        and reasons[9] == "jump"
        and reasons[10] == "anchors"
        and "draft" in reasons[11:]
    )


def test_a_target_goes_on_over_a_jump_behind_a_draft_but_not_over_noise():
    def reasons(*jumps):
        return sample(
            Session(config(budget=Target(speedup=4.0)), SIGMAS),
            slope,
            torch.zeros(1, 2),
            jumps=jumps,
        )

    plan = reasons()
    assert plan[8] == "draft" and reasons(9) == plan
    noisy = reasons(9, 10, 11, 12)
    assert noisy[:10] == plan[:10] and noisy[10:13] == ["jump"] * 3
    assert reasons(3)[3] == "jump", "no draft before it"


def test_after_memory_ran_out_nothing_is_kept_and_the_call_is_made_again():
    session = Session(config(), SIGMAS)
    reasons = sample(session, slope, torch.zeros(1, 2), short_at=9)
    assert len(reasons) == STEPS and session.report.out_of_memory == 9
    assert set(reasons[9:]) == {"memory"} and session.cache_bytes == 0
    numbers = [call.prediction for call in session.report.calls]
    assert numbers == [*range(1, 10), *range(11, STEPS + 2)], (
        "the tenth was dropped, and asked again"
    )


def test_the_first_reason_to_stop_stands():
    session = Session(config(), SIGMAS)
    session.stop(Reason.OTHER)
    session.stop_caching()
    assert session.stopped is Reason.OTHER


def test_the_report_says_where_anchors_were_kept():
    session = Session(config(), SIGMAS)
    assert write(session.report)["placement"] == "device"
    session.place_anchors_on(torch.device("cpu"))
    sample(session, slope, torch.zeros(1, 2))
    assert write(session.report)["placement"] == "host" and session.report.count("accepted")


def test_a_tap_of_another_shape_starts_all_taps_anew_and_keeps_what_this_pass_observed():
    session = Session(config(forecaster=Reuse()), SIGMAS)
    for i, sigma in enumerate(SIGMAS[:4]):
        call = open_call(session, sigma)
        for tap in ("block.0", "block.1", HEAD_INPUT):
            size = 3 if tap == "block.1" and i == 3 else 2
            call.observe(tap, [0], [torch.zeros(size)])
        call.close(0.0)
    kept = {tap: len(h.anchors) for tap, h in session.lanes["a", 0].histories.items()}
    assert kept == {"block.0": 1, "block.1": 1, HEAD_INPUT: 1}
