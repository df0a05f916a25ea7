import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speca_core.axis import SNR_SHARE, Schedule, falls
from speca_core.errors import ConfigError

SIGMAS = [1.0, 0.6, 0.2, 0.0]


@pytest.mark.parametrize(
    ("sigma", "position"),
    [(1.0, 0), (0.6, 1), (0.8, 0.5), (0.3, 1.75), (0.0, 3), (1.5, 0), (-1.0, 3)],
)
def test_position_is_interpolated_and_clamped(sigma, position):
    assert Schedule(SIGMAS).point(sigma).position == pytest.approx(position)


def test_a_sigma_that_went_through_float32_lands_on_its_index():
    import torch

    sigmas = torch.linspace(1, 0, 29)
    schedule = Schedule(sigmas.tolist())
    assert [schedule.point(float(s)).position for s in sigmas] == list(range(29))


def test_a_schedule_that_comes_back_to_a_sigma_has_it_at_two_places():
    restart = Schedule([1.0, 0.5, 0.0, 0.5, 0.0])
    assert [restart.point(0.5, after).position for after in (0, 1, 2, 3)] == [1, 1, 3, 3]
    assert [restart.point(0.25, after).position for after in (1, 2)] == [1.5, 2.5]
    assert restart.point(0.5, 2).last and not restart.point(0.5, 1).last
    # Behind its last place there is none: the first one is meant.
    assert restart.point(0.5, 4).position == 1


def test_rising_schedules_work_too():
    assert Schedule([0.0, 0.5, 1.0]).point(0.25).position == pytest.approx(0.5)


def test_progress_and_last_step():
    schedule = Schedule(SIGMAS)
    first, last = schedule.point(1.0), schedule.point(0.2)
    assert first.progress == 0 and not first.last
    assert last.progress == pytest.approx(2 / 3) and last.last
    assert schedule.point(0.1).last


def test_a_moment_belongs_to_the_step_that_it_is_in():
    schedule = Schedule([1.0, 0.5, 0.0])
    assert [schedule.point(sigma).step for sigma in (1.0, 0.5, 0.25, 0.0)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("sigmas", "expected"),
    [
        ([1.0, 0.5, 0.0], True),
        ([1.0, 0.5, 0.5, 0.0], False),
        ([0.5, 1.0], False),
        ([1.0, 1.0 - 1e-7], False),
    ],
)
def test_whether_sigmas_fall(sigmas, expected):
    assert falls(sigmas) == expected


@pytest.mark.parametrize("sigmas", [[], [1.0], [1.0, float("nan")], [float("inf"), 0.0]])
def test_impossible_schedules_are_refused(sigmas):
    with pytest.raises(ConfigError, match="expected at least two finite sigmas"):
        Schedule(sigmas)


def test_coordinate_by_hand():
    # Flow, 4 steps: log((1-s)/s) of 0.9, 0.8, 0.5, 0.2 is -2.197, -1.386, 0, 1.386; scaled so that
    # steps 1 and 3 stay: i = 2 is at 2.
    schedule = Schedule([0.9, 0.8, 0.5, 0.2, 0.0])
    first = 1 + 2 * (math.log(1 / 9) - math.log(1 / 4)) / (2 * math.log(4))
    assert [schedule.point(s).coordinate for s in (0.9, 0.8, 0.5, 0.2, 0.0)] == pytest.approx(
        [SNR_SHARE * first, 1, 2, 3, 4]
    )
    assert schedule.point(0.65).coordinate == pytest.approx(1.5)


def test_coordinate_of_models_with_variance_sigmas():
    schedule = Schedule([8.0, 4.0, 2.0, 1.0, 0.0], flow=False)  # log sigma is even in steps
    assert [schedule.point(s).coordinate for s in (8.0, 4.0, 2.0, 1.0)] == pytest.approx(
        [0, 1, 2, 3]
    )


@given(st.lists(st.floats(0.001, 1.0), min_size=3, max_size=40, unique=True), st.booleans())
def test_the_coordinate_rises_with_the_position(sigmas, flow):
    schedule = Schedule([*sorted(sigmas, reverse=True), 0.0], flow)
    places = [schedule.point(s) for s in schedule.sigmas]
    assert all(a.coordinate < b.coordinate for a, b in pairwise(places) if a.position < b.position)


@pytest.mark.parametrize("sigmas", [[1.0, 0.5, 0.0], [0.0, 0.3, 0.6, 1.0], [1.0, 0.5, 0.5, 0.0]])
def test_short_and_odd_schedules_count_steps(sigmas):
    schedule = Schedule(sigmas)
    assert schedule.point(sigmas[1]).coordinate == schedule.point(sigmas[1]).position
