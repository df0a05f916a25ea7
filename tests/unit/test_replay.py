"""Replaying a run under other settings: by hand, on a path whose errors follow the law."""

import json
import math

import pytest
import torch
from test_session import SIGMAS, STEPS, config

from speca_core import Session, SpecaConfig
from speca_core.anchors import HEAD_INPUT
from speca_core.budgets import Accumulated, Target, Threshold
from speca_core.error_laws import Clock, Rates, laws_of, reach
from speca_core.errors import ConfigError
from speca_core.replay import PSNR, psnr_band, replay
from speca_core.report import CallRecord, RowRecord, RunReport
from speca_core.report_json import read, write
from speca_core.verifiers import NoCheck

RATE = 0.01  # error of a draft per square step of reach
RATIO = 1.5  # hindcast / error
FULL, DRAFT = 0.1, 0.01  # seconds


def record(
    rate=lambda place, lane: RATE, lanes=(0,), ratio=lambda place: RATIO, known=None, **settings
):
    """Run a session on a model whose errors follow the law exactly; coordinates are steps (see
    SIGMAS).

    known: of the report, before the run begins.
    """

    class Lawful:
        def errors(self, call, rows, factor=1.0):
            place = call.point.coordinate
            anchors = [call.lanes[row].head_input.coordinates for row in rows]
            return [
                factor * rate(place, row) * reach(place, known)
                for row, known in zip(rows, anchors, strict=True)
            ]

        def draft(self, call, rows):
            checked = call.session.config.verifier.name != "none"
            accepted, _ = call.judge(rows, self.errors(call, rows) if checked else None)
            return accepted, accepted

        def compute(self, call, rows):
            scorable = call.scorable(rows)
            call.score(scorable, self.errors(call, scorable, ratio(call.point.coordinate)))
            call.observe(HEAD_INPUT, rows, [torch.zeros(1)] * len(rows))
            return rows

    session = Session(config(**settings), SIGMAS, model="Flux")
    vars(session.report).update(known or {})
    for sigma in SIGMAS[:-1]:
        prediction = session.predict_at(sigma)
        call = prediction.open_call(list(lanes), list(lanes), [0] * len(lanes))
        call.answer(Lawful())
        drafts, computed = len(call.draft_rows), len(call.full_rows) + len(call.rejected_rows)
        call.close((DRAFT * drafts + FULL * computed) / len(lanes))
    session.report.finished = True
    session.report.seconds = sum(call.seconds for call in session.report.calls) + 0.5
    return read(json.loads(json.dumps(write(session.report))))


def rows_of(report):
    return [[(row.verdict, row.reason) for row in call.rows] for call in report.calls]


def test_reach_grows_with_the_distances_and_shrinks_with_the_anchors():
    assert reach(7.0, (2.0, 4.0, 5.0)) == 2 * 3
    assert reach(7.0, (2.0, 1.0, 5.0)) == pytest.approx(2 * 6 / 4**0.4)
    assert reach(7.0, (5.0,)) == 2 * 3  # the missing anchor lies one step further back


def test_the_law_is_found_again():
    law = laws_of(record(threshold=0.1))[0]
    assert [law.estimate.at(place) for place in (0.0, 5.5, 30.0)] == pytest.approx(
        [RATE] * 3, rel=1e-3
    )
    assert [law.truth.at(place) for place in (0.0, 5.5, 30.0)] == pytest.approx(
        [RATE * RATIO] * 3, rel=1e-3
    )
    assert law.ratio == pytest.approx(RATIO, rel=1e-3)


def test_between_known_places_the_logarithm_is_interpolated():
    law = Rates([(1.0, 0.01), (3.0, 0.04)])
    assert [law.at(s) for s in (0.0, 1.0, 2.0, 3.0, 9.0)] == pytest.approx(
        [0.01, 0.01, 0.02, 0.04, 0.04]
    )
    assert Rates([]).at(1.0) == 0.0


def test_a_replay_under_the_same_settings_is_the_run():
    """Also where the check sees now more, now less of the truth: a place where both were measured
    has both."""
    rates = {
        "rate": lambda place, lane: RATE * (1 + 0.8 * math.sin(place)),
        "ratio": lambda place: RATIO * (2 if place % 2 < 1 else 0.5),
    }
    report = record(threshold=0.05, budget=Accumulated(), **rates)
    verdicts = [row.verdict for call in report.calls for row in call.rows]
    assert {"accepted", "rejected", "computed"} == set(verdicts)
    replayed = replay(report, report.settings)
    assert rows_of(replayed) == rows_of(report)
    for found, recorded in zip(replayed.calls, report.calls, strict=True):
        for key in ("error", "hindcast"):
            measured = getattr(recorded.rows[0], key)
            assert measured is None or getattr(found.rows[0], key) == pytest.approx(
                measured, rel=1e-3
            ), (recorded.index, key)


def test_the_band_of_psnr_by_hand():
    report = record(threshold=0.1, lanes=(0, 1), rate=lambda place, lane: RATE * (1 + lane))
    counted = [0.0, 0.0]
    for image in range(2):
        place = 0
        for row in (call.rows[image] for call in report.calls):
            place = place + 1 if row.verdict == "accepted" else 0
            counted[image] += 20 / STEPS * place * row.error if place else 0.0
    level = -20 * math.log10(RATIO * max(counted) / STEPS)  # of the worst picture
    assert psnr_band(report, report) == pytest.approx((level + PSNR[0], level + PSNR[1]), rel=1e-3)


def test_there_is_no_band_where_nothing_was_drafted_or_checked():
    assert psnr_band(record(threshold=0.0), record(threshold=0.0)) is None
    unchecked = record(verifier=NoCheck(), budget=Target(speedup=2.0))
    assert unchecked.count("accepted") and psnr_band(unchecked, unchecked) is None


@pytest.mark.parametrize("threshold", [0.0, 0.015, 0.03, 0.06, 0.1, 0.3])
@pytest.mark.parametrize(
    "budget", [Threshold(max_streak=4), Accumulated(max_streak=6), Target(speedup=2.5)]
)
def test_where_the_law_holds_the_prediction_is_the_outcome(threshold, budget):
    def rate(place, lane):
        return RATE * (1 + lane) * 1.03**place

    before = record(rate, lanes=(0, 1), threshold=0.1, budget=Accumulated())
    after = record(rate, lanes=(0, 1), threshold=threshold, budget=budget)
    predicted = replay(before, after.settings)
    assert rows_of(predicted) == rows_of(after)
    assert predicted.seconds == pytest.approx(after.seconds, rel=0.01)
    assert predicted.plain_seconds == pytest.approx(after.plain_seconds, rel=0.01)


def test_the_same_settings_give_the_same_run():
    before = record(threshold=0.06)
    again = replay(before, before.settings)
    assert rows_of(again) == rows_of(before) and again.seconds == pytest.approx(before.seconds)


def test_hindcasts_alone_tell_the_rate_too():
    plain = record(threshold=0.0)
    assert plain.count("accepted") == 0
    # No draft was checked, so the ratio is unknown and taken as 1: the rate is that of the
    # hindcasts.
    assert laws_of(plain)[0].estimate.at(9.0) == pytest.approx(RATE * RATIO, rel=1e-3)
    assert replay(plain, config(threshold=0.2).to_dict()).count("accepted") > 0


def test_an_unverified_run_follows_its_budget():
    before = record(threshold=0.5, verifier=NoCheck(), budget=Threshold(max_streak=2))
    longer = replay(before, {**before.settings, "budget": Threshold(max_streak=4).to_dict()})
    assert longer.count("accepted") > before.count("accepted") and longer.count("rejected") == 0


def test_seconds_go_with_the_rows():
    clock = Clock(record(lanes=(0, 1), threshold=0.1))
    assert clock.seconds(2, drafts=0, computed=2) == pytest.approx(FULL)
    assert clock.seconds(2, drafts=2, computed=0) == pytest.approx(DRAFT)
    assert clock.seconds(2, drafts=2, computed=1) == pytest.approx(DRAFT + FULL / 2)


def test_mixed_calls_cost_what_mixed_calls_cost():
    report = record(lambda place, lane: RATE * (1 + lane), lanes=(0, 1), threshold=0.1)
    mixed = [
        call
        for call in report.calls
        if {row.verdict for row in call.rows} == {"accepted", "rejected"}
    ]
    assert mixed
    for call in mixed:
        call.seconds *= 1.4
    clock = Clock(report)
    assert clock.seconds(2, drafts=2, computed=1) == pytest.approx(
        1.4 * (DRAFT + FULL / 2), rel=1e-3
    )
    assert clock.seconds(2, drafts=2, computed=2) == pytest.approx(DRAFT + FULL, rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"verifier": {"name": "embedded"}}, "verifier"),
        ({"forecaster": {"name": "reuse"}}, "forecaster"),
        ({"hindsight": False}, "hindsight"),
        ({"threshold": 7.0}, "threshold"),
        ({"budget": {"name": "accumulated", "warmup": 0}}, "warmup"),
        ({"budget": {"name": "nonsense"}}, "nonsense"),
    ],
)
def test_what_cannot_be_told_is_refused(changed, word):
    before = record(threshold=0.1)
    with pytest.raises(ConfigError, match=word):
        replay(before, before.settings | changed)


def test_an_empty_record_is_refused():
    empty = Session(config(threshold=0.1), SIGMAS).report
    assert len(empty.calls) == 0 < STEPS
    with pytest.raises(ConfigError, match="no calls"):
        replay(empty, empty.settings)


def test_half_the_trust_is_half_the_threshold():
    less = record(threshold=0.2, known={"trust": 0.5})
    assert rows_of(less) == rows_of(record(threshold=0.1)) != rows_of(record(threshold=0.2))
    assert rows_of(replay(less, less.settings)) == rows_of(less)


@pytest.mark.parametrize(("told", "read_as"), [(math.nan, 0), (math.inf, 1), (-1, 0), (0.5, 0.5)])
def test_trust_is_a_share_whatever_a_report_says(told, read_as):
    assert read(write(record(threshold=0.2)) | {"trust": told}).trust == read_as


def test_watched_predictions_are_computed_again():
    watched = record(threshold=0.2, known={"watched": 6})
    assert [rows[0][0] for rows in rows_of(watched)].index("accepted") == 6
    assert rows_of(replay(watched, watched.settings)) == rows_of(watched)


def test_predictions_may_be_numbered_from_zero():
    recorded = record(threshold=0.1)
    for call in recorded.calls:
        call.prediction -= 1
    again = replay(recorded, recorded.settings)
    assert [c.rows[0].verdict for c in again.calls] == [c.rows[0].verdict for c in recorded.calls]


def test_the_same_settings_give_the_same_verdicts_where_all_rows_decide_together():
    session = Session(SpecaConfig(0.1), [1.0 - i / 20 for i in range(21)])
    for step in range(20):
        prediction = session.predict_at(1.0 - step / 20)
        call = prediction.open_call(["a", "b", "c"], [0, 1, 2], [0, 0, 0], coupled=True)
        errors = [0.03, 0.2 if step % 4 == 3 else 0.03, 0.03]
        _, rejected = call.judge(call.draft_rows, [errors[row] for row in call.draft_rows])
        computed = sorted(call.full_rows + rejected)
        call.observe(HEAD_INPUT, computed, [torch.zeros(1)] * len(computed))
        call.close(0.1)
    recorded = read(json.loads(json.dumps(write(session.report))))
    assert recorded.coupled
    again = replay(recorded, recorded.settings)
    assert all(len({row.verdict == "accepted" for row in call.rows}) == 1 for call in again.calls)


def test_a_place_that_the_sampler_visits_twice_has_an_error_of_its_own():
    def row(verdict, error=None, hindcast=None):
        return [RowRecord(0, 0, verdict, "", error, 1.0, hindcast)]

    calls = [
        (0, row("computed")),
        (1, row("computed")),
        (1, row("computed", hindcast=0.5)),
        (2, row("accepted", 0.1)),
        (3, row("computed")),
    ]
    calls += [
        (3, row("computed", hindcast=0.3)),
        (4, row("computed")),
        (4, row("computed", hindcast=0.1)),
        (4, row("accepted", 0.2)),
    ]
    made = [
        CallRecord(i, SIGMAS[place], place, 1.0, rows, i + 1)
        for i, (place, rows) in enumerate(calls)
    ]
    report = RunReport("", config().to_dict(), STEPS, made, sigmas=SIGMAS)
    law = laws_of(report)[0]
    assert law.revisit == 0.3 and len(law.estimate.places) == 1
