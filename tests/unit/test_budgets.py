import pytest

from speca_core import ConfigError
from speca_core.axis import Schedule
from speca_core.budgets import (
    BUDGETS,
    Accumulated,
    Hindcast,
    Interval,
    LaneState,
    Limits,
    Mask,
    Reason,
    Target,
    Threshold,
)
from speca_core.budgets.mask import read_mask

STEPS = 20  # where an account counts the error of the first draft as it is
SCHEDULE = Schedule([1 - i / STEPS for i in range(STEPS + 1)])


def state(step=10, streak=0, computed=5, schedule=SCHEDULE):
    return LaneState(
        schedule.point(schedule.sigmas[step]),
        distance=streak + 1.0,
        streak=streak,
        computed=computed,
        calls=step,
    )


limited = pytest.mark.parametrize(
    "budget",
    [b() for b in BUDGETS.values() if issubclass(b, Limits)],
    ids=lambda b: b.name,
)
every_budget = pytest.mark.parametrize(
    "budget", [b() for b in BUDGETS.values()], ids=lambda b: b.name
)


@limited
def test_limits(budget):
    policy = budget.policy(0.1)
    assert policy.decide(state(computed=budget.warmup - 1)) is Reason.WARMUP
    assert policy.decide(state(step=STEPS - 1)) is Reason.LAST_STEP
    assert policy.decide(state(streak=budget.max_streak)) is Reason.STREAK
    assert (
        type(budget)(protect_last=0).policy(0.1).decide(state(step=STEPS - 1))
        is not Reason.LAST_STEP
    )


@every_budget
def test_a_zero_threshold_drafts_nothing(budget):
    policy = budget.policy(0.0)
    assert all(policy.decide(state(step=s, computed=s)) is not Reason.DRAFT for s in range(STEPS))


@every_budget
def test_a_larger_threshold_never_tightens(budget):
    small, large = budget.policy(0.05), budget.policy(0.1)
    assert all(
        small.tolerance(state(step=s)) <= large.tolerance(state(step=s)) for s in range(STEPS)
    )


def test_threshold_tolerance_by_hand():
    policy = Threshold(decay=0.25, floor=0.0).policy(0.2)
    assert policy.tolerance(state(step=0)) == pytest.approx(0.2)
    assert policy.tolerance(state(step=10)) == pytest.approx(0.2 * 0.25**0.5)
    assert policy.tolerance(state(step=STEPS)) == pytest.approx(0.05)


def test_threshold_floor_is_a_fraction():
    assert Threshold(decay=0.01, floor=0.5).policy(0.2).tolerance(
        state(step=STEPS)
    ) == pytest.approx(0.1)


def test_threshold_min_streak_serves_unchecked():
    policy = Threshold(min_streak=2, max_streak=4).policy(0.1)
    assert policy.tolerance(state(streak=1)) == float("inf")
    assert policy.tolerance(state(streak=2)) < 1


def test_interval_counts_calls():
    policy = Interval(interval=3, max_streak=9).policy(0.1)
    assert [policy.decide(state(streak=s)) for s in range(3)] == [
        Reason.DRAFT,
        Reason.DRAFT,
        Reason.BUDGET,
    ]
    assert Interval(interval=1).policy(0.1).decide(state()) is Reason.BUDGET


def test_interval_three_with_the_default_cap_is_the_interval():
    assert Interval(interval=5, max_streak=2).policy(0.1).decide(state(streak=2)) is Reason.STREAK


def proven(policy):
    """A forecast of the lane has been scored."""
    policy.on_computed(state(), 0.0, rejected=None)
    return policy


def test_accumulated_counts_twice_what_an_unproven_verifier_says():
    policy = Accumulated(max_streak=9).policy(0.1)
    assert policy.tolerance(state()) == pytest.approx(0.05)
    policy.on_accepted(state(), 0.02)
    assert policy.tolerance(state(streak=1)) == pytest.approx((0.1 - 2 * 0.02) / 4)
    policy.on_computed(state(streak=1), 0.3, rejected=None)
    assert policy.tolerance(state()) == pytest.approx(0.1)


def test_accumulated_spends_until_nothing_is_left():
    policy = proven(Accumulated(max_streak=9).policy(0.1))
    assert policy.tolerance(state()) == pytest.approx(0.1)
    policy.on_accepted(state(), 0.04)
    assert policy.decide(state(streak=1)) is Reason.DRAFT
    # .06 is left, and the second draft's error counts twice.
    assert policy.tolerance(state(streak=1)) == pytest.approx(0.03)
    policy.on_accepted(state(streak=1), 0.03)
    assert policy.decide(state(streak=2)) is Reason.BUDGET
    policy.on_computed(state(streak=2), None, rejected=None)
    assert policy.tolerance(state()) == pytest.approx(0.1)


def test_accumulated_without_a_verifier_spends_nothing():
    policy = proven(Accumulated().policy(0.1))
    policy.on_accepted(state(), None)
    assert policy.tolerance(state(streak=1)) == pytest.approx(0.05)


def test_accumulated_counts_an_error_less_in_a_finer_schedule():
    # 32 = 2^5 times as many steps: 2^(5 * 1.2) = 64.
    fine = Schedule([1 - i / 640 for i in range(641)])
    policy = proven(Accumulated().policy(0.1))
    assert policy.tolerance(state(schedule=fine)) == pytest.approx(6.4)
    policy.on_accepted(state(schedule=fine), 1.92)
    assert policy.tolerance(state(streak=1, schedule=fine)) == pytest.approx((0.1 - 0.03) * 64 / 2)
    coarse = Schedule([1 - i / 10 for i in range(11)])
    assert proven(Accumulated().policy(0.1)).tolerance(
        state(step=4, schedule=coarse)
    ) == pytest.approx(0.1 / 2**1.2)


def test_a_target_lets_every_number_pass():
    policy = Target().policy(0.1)
    policy.on_accepted(state(), 5.0)
    assert policy.tolerance(state(streak=1)) == float("inf")


def test_accumulated_tries_no_draft_that_is_sure_to_fail():
    policy = Accumulated(max_streak=9, give_up=0).policy(0.1)
    policy.on_computed(state(), 0.9, rejected=None)
    assert policy.decide(state()) is Reason.DRAFT, (
        "what the verifier would say is not known before it has refused a draft"
    )
    policy.on_computed(state(), 0.6, rejected=0.3)  # it says half of what a draft is really off by
    assert policy.decide(state()) is Reason.BUDGET, "0.3 again is more than twice what passes"
    policy.on_computed(state(), 0.3, rejected=None)
    assert policy.decide(state()) is Reason.DRAFT, "0.15 may turn out to pass"
    policy.on_accepted(state(), 0.02)
    assert policy.decide(state(streak=1)) is Reason.BUDGET, "two steps away it is 0.6"


def test_rejections_in_a_row_earn_a_rest():
    policy = Accumulated(give_up=2).policy(0.1)
    reasons = []
    for _ in range(9):
        reasons.append(policy.decide(state()))
        policy.on_computed(state(), None, rejected=0.5 if reasons[-1] is Reason.DRAFT else None)
    # two tries, two at rest, one try (three in a row by now), three at rest
    assert [reason is Reason.BACKOFF for reason in reasons] == [
        False,
        False,
        True,
        True,
        False,
        True,
        True,
        True,
        False,
    ]


def test_an_accepted_draft_ends_the_row():
    policy = Accumulated(give_up=2).policy(0.1)
    for _ in range(5):
        policy.on_computed(state(), None, rejected=0.5)
        policy.on_accepted(state(), 0.01)
        policy.on_computed(state(), None, rejected=None)
    assert policy.decide(state()) is Reason.DRAFT


def test_giving_up_can_be_turned_off():
    policy = Accumulated(give_up=0).policy(0.1)
    for _ in range(20):
        policy.on_computed(state(), None, rejected=0.5)
    assert policy.decide(state()) is Reason.DRAFT


def test_hindcast_by_hand():
    policy = Hindcast(growth=2.0).policy(0.1)
    assert policy.decide(state()) is Reason.BUDGET, "nothing is known yet"
    policy.on_computed(state(streak=1), 0.08, rejected=None)  # 8 % at two steps: 2 % at one
    assert policy.decide(state(streak=0)) is Reason.DRAFT
    policy.on_accepted(state(streak=0), 0.001)  # 2 % spent, though the verifier found less
    # The second draft's error counts twice.
    assert policy.tolerance(state(streak=1)) == pytest.approx(0.04)
    assert policy.decide(state(streak=1)) is Reason.BUDGET  # 2 % + twice 8 % does not fit
    policy = Hindcast(growth=1.0).policy(0.1)
    policy.on_computed(state(streak=1), 0.04, rejected=None)
    policy.on_accepted(state(streak=0), None)
    assert policy.decide(state(streak=1)) is Reason.DRAFT  # 2 % + twice 4 % fits exactly
    policy.on_accepted(state(streak=1), 0.05)  # the verifier found more than expected
    assert policy.tolerance(state(streak=2)) == pytest.approx(-0.02 / 3)
    assert policy.decide(state(streak=2)) is Reason.BUDGET
    policy.on_computed(state(streak=2), None, rejected=None)
    assert policy.decide(state(streak=0)) is Reason.DRAFT, (
        "the scale is kept where there was no hindcast"
    )


def test_mask_by_hand_and_stretched():
    def computed(mask):
        policy = Mask(computed=mask).policy(0.1)
        return [
            step for step in range(STEPS) if policy.decide(state(step=step)) is not Reason.DRAFT
        ]

    assert computed('{"steps": 20, "computed": [0, 3, 9, 19]}') == [0, 3, 9, 19]
    assert computed("[0, 3, 9, 19]") == [0, 3, 9, 19]
    assert computed('{"steps": 39, "computed": [0, 6, 18, 38]}') == [0, 3, 9, 19]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "0 1 2",
        "{}",
        "[]",
        "[0, -1]",
        '{"steps": 3, "computed": [3]}',
        "[0.5, 1]",
        "[true, 5]",
        '"x"',
        "[[1]]",
        "null",
        "[" * 9999,
        "[5000]",
    ],
)
def test_bad_masks_say_what_is_expected(bad):
    with pytest.raises(ConfigError, match="expected JSON like"):
        read_mask(bad)
    with pytest.raises(ConfigError):
        Mask(computed=bad)
