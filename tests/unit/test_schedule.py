import pytest

from speca_core.errors import ConfigError
from speca_core.schedule import Schedule

SIGMAS = [1.0, 0.6, 0.2, 0.0]


@pytest.mark.parametrize(("sigma", "position"), [(1.0, 0), (0.6, 1), (0.8, 0.5), (0.3, 1.75), (0.0, 3), (1.5, 0), (-1.0, 3)])
def test_position_is_interpolated_and_clamped(sigma, position):
    assert Schedule(SIGMAS).moment(sigma).position == pytest.approx(position)


def test_a_sigma_that_went_through_float32_lands_on_its_index():
    import torch

    sigmas = torch.linspace(1, 0, 29)
    schedule = Schedule(sigmas.tolist())
    assert [schedule.moment(float(s)).position for s in sigmas] == list(range(29))


def test_rising_schedules_work_too():
    assert Schedule([0.0, 0.5, 1.0]).moment(0.25).position == pytest.approx(0.5)


def test_progress_stride_and_last_step():
    schedule = Schedule(SIGMAS)  # strides .4 .4 .2, mean 1/3
    first, last = schedule.moment(1.0), schedule.moment(0.2)
    assert first.progress == 0 and first.stride == pytest.approx(1.2) and not first.last
    assert last.progress == pytest.approx(2 / 3) and last.stride == pytest.approx(0.6) and last.last
    assert schedule.moment(0.1).last


def test_a_flat_schedule_has_no_preferred_stride():
    assert Schedule([1.0, 1.0]).moment(1.0).stride == 1.0


@pytest.mark.parametrize("sigmas", [[], [1.0], [1.0, float("nan")], [float("inf"), 0.0]])
def test_impossible_schedules_are_refused(sigmas):
    with pytest.raises(ConfigError, match="expected at least two finite sigmas"):
        Schedule(sigmas)
