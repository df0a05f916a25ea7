import pytest

from speca_core.budgets import BUDGETS, Accumulated, Interval, Outlook, Reason, Threshold
from speca_core.schedule import Schedule

SCHEDULE = Schedule([1 - i / 20 for i in range(21)])


def outlook(step=10, streak=0, computed=5):
    return Outlook(SCHEDULE.moment(SCHEDULE.sigmas[step]), distance=streak + 1.0, streak=streak, computed=computed, calls=step)


every_budget = pytest.mark.parametrize("budget", [b() for b in BUDGETS.values()], ids=lambda b: b.name)


@every_budget
def test_limits(budget):
    ledger = budget.ledger(0.1)
    assert ledger.grant(outlook(computed=budget.warmup - 1)) is Reason.WARMUP
    assert ledger.grant(outlook(step=19)) is Reason.LAST_STEP
    assert ledger.grant(outlook(streak=budget.max_streak)) is Reason.STREAK
    assert type(budget)(protect_last=0).ledger(0.1).grant(outlook(step=19)) is not Reason.LAST_STEP


@every_budget
def test_a_zero_threshold_drafts_nothing(budget):
    ledger = budget.ledger(0.0)
    assert all(ledger.grant(outlook(step=s, computed=s)) is not Reason.DRAFT for s in range(20))


@every_budget
def test_a_larger_threshold_never_tightens(budget):
    small, large = budget.ledger(0.05), budget.ledger(0.1)
    assert all(small.tolerance(outlook(step=s)) <= large.tolerance(outlook(step=s)) for s in range(20))


def test_threshold_tolerance_by_hand():
    ledger = Threshold(decay=0.25, floor=0.0).ledger(0.2)
    assert ledger.tolerance(outlook(step=0)) == pytest.approx(0.2)
    assert ledger.tolerance(outlook(step=10)) == pytest.approx(0.2 * 0.25**0.5)
    assert ledger.tolerance(outlook(step=20)) == pytest.approx(0.05)


def test_threshold_floor_is_a_fraction():
    assert Threshold(decay=0.01, floor=0.5).ledger(0.2).tolerance(outlook(step=20)) == pytest.approx(0.1)


def test_threshold_min_streak_serves_unchecked():
    ledger = Threshold(min_streak=2, max_streak=4).ledger(0.1)
    assert ledger.tolerance(outlook(streak=1)) == float("inf")
    assert ledger.tolerance(outlook(streak=2)) < 1


def test_interval_counts_calls():
    ledger = Interval(interval=3, max_streak=9).ledger(0.1)
    assert [ledger.grant(outlook(streak=s)) for s in range(3)] == [Reason.DRAFT, Reason.DRAFT, Reason.BUDGET]
    assert Interval(interval=1).ledger(0.1).grant(outlook()) is Reason.BUDGET


def test_interval_three_with_the_default_cap_is_the_interval():
    assert Interval(interval=5, max_streak=2).ledger(0.1).grant(outlook(streak=2)) is Reason.STREAK


def test_accumulated_spends_until_nothing_is_left():
    ledger = Accumulated(max_streak=9).ledger(0.1)
    assert ledger.tolerance(outlook()) == pytest.approx(0.1)
    ledger.served(outlook(), 0.06)
    assert ledger.grant(outlook(streak=1)) is Reason.DRAFT
    assert ledger.tolerance(outlook(streak=1)) == pytest.approx(0.04)
    ledger.served(outlook(streak=1), 0.04)
    assert ledger.grant(outlook(streak=2)) is Reason.BUDGET
    ledger.computed(outlook(streak=2), None)
    assert ledger.tolerance(outlook()) == pytest.approx(0.1)


def test_accumulated_without_a_verifier_spends_nothing():
    ledger = Accumulated().ledger(0.1)
    ledger.served(outlook(), None)
    assert ledger.tolerance(outlook(streak=1)) == pytest.approx(0.1)
