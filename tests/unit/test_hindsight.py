from itertools import pairwise

import pytest
import torch

from speca_core import Session, SpecaConfig
from speca_core.budgets import Interval
from speca_core.forecasters import Newton
from speca_core.hindsight import TRUST, Hindsight
from speca_core.schedule import Schedule
from speca_core.session import EXIT
from speca_core.verifiers import Unverified

SIGMAS = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


class Ride:
    """One image (or more) whose sampler asks for predictions of given slopes."""

    def __init__(self, sigmas=SIGMAS):
        self.schedule = Schedule(sigmas)
        self.hindsight = Hindsight(self.schedule)

    def serve(self, sigma, *slopes, drafted=()):
        """The slopes that the sampler gets for those that the model gives."""
        x = torch.zeros(len(slopes), 1)
        denoised = x - sigma * torch.tensor(slopes)[:, None]
        served = self.hindsight.serve(self.schedule.moment(sigma), x, denoised, drafted)
        return [s / sigma for s in (x - served)[:, 0].tolist()]


def test_by_hand():
    # The model's slope grows by 10 each step: 100 110 120 130. Step 2 was served 121: equal strides, the next step takes 1 back, less
    # the caution for a repair of 1/130 of the slope.
    ride = Ride()
    places = [ride.schedule.moment(sigma).coordinate for sigma in SIGMAS]
    slopes = [100 + 10 * place for place in places]
    assert ride.serve(1.0, slopes[0]) == pytest.approx([slopes[0]])
    ride.serve(0.8, slopes[1])
    assert ride.serve(0.6, slopes[2] + 1, drafted={0}) == pytest.approx([slopes[2] + 1]), "a draft is served as it is"
    repair = ride.serve(0.4, slopes[3])[0] - slopes[3]
    assert repair == pytest.approx(-1.0 / (1 + (1 / slopes[3] / TRUST) ** 2), rel=1e-3)
    assert ride.serve(0.2, slopes[4]) == pytest.approx([slopes[4]]), "a streak is repaired once"


def test_images_have_accounts_of_their_own():
    ride = Ride()
    for sigma in SIGMAS[:2]:
        ride.serve(sigma, 100.0, 100.0)
    ride.serve(0.6, 101.0, 101.0, drafted={1})
    first, second = ride.serve(0.4, 100.0, 100.0)
    assert first == 100.0 and second == pytest.approx(99.0, rel=1e-3)


def test_large_repairs_are_made_in_part():
    ride = Ride()
    ride.serve(1.0, 1.0)
    ride.serve(0.8, 1.0 + TRUST, drafted={0})
    assert ride.serve(0.6, 1.0)[0] - 1 == pytest.approx(-TRUST / 2, rel=1e-4)


@pytest.mark.parametrize("sigmas", [[1.0, 0.5, 0.5, 0.2, 0.0], [0.2, 0.5, 0.8, 1.0]])
def test_nothing_is_repaired_where_sigma_does_not_name_the_step(sigmas):
    ride = Ride(sigmas)
    ride.serve(sigmas[0], 1.0)
    ride.serve(sigmas[1], 2.0, drafted={0})
    assert ride.serve(sigmas[2], 1.0) == pytest.approx([1.0]) and ride.hindsight.nbytes == 0


def test_a_prediction_asked_for_twice_counts_once():
    once, twice = Ride(), Ride()
    for ride, times in ((once, 1), (twice, 2)):
        ride.serve(1.0, 1.0)
        for _ in range(times):
            ride.serve(0.8, 1.0)
        for _ in range(times):
            ride.serve(0.6, 1.01, drafted={0})
    assert twice.serve(0.4, 1.0) == once.serve(0.4, 1.0)


def test_off_the_grid_and_at_the_last_sigma_nothing_is_changed():
    hindsight = Ride().hindsight
    for sigma in (0.7, 0.0):
        denoised = torch.ones(1, 2)
        assert hindsight.serve(hindsight.schedule.moment(sigma), torch.zeros(1, 2), denoised, ()) is denoised


def test_the_model_output_is_not_written_into():
    ride = Ride()
    x, denoised = torch.zeros(1, 1), torch.full((1, 1), -0.4)
    ride.serve(1.0, 1.0)
    ride.serve(0.8, 1.05, drafted={0})
    assert ride.hindsight.serve(ride.schedule.moment(0.6), x, denoised, ()) is not denoised and denoised.item() == pytest.approx(-0.4)


def euler(repair):
    """Integrate dx/dsigma = slope(sigma) with drafted slopes; returns the end of the path."""
    sigmas = [1 - i / 24 for i in range(25)]
    config = SpecaConfig(1.0, Newton(1, 0.0), Unverified(), Interval(interval=3, max_streak=9))
    session = Session(config, sigmas)
    x = torch.tensor([[5.0]])
    for sigma, following in pairwise(sigmas):
        session.arrive(torch.tensor(sigma), x)
        call = session.open_call(["a"], [0], [0])
        call.judge(call.draft_rows, None)
        slope = torch.tensor([[2.0 + sigma**3]])
        if call.full_rows:
            call.observe(EXIT, [0], [slope[0]])
        else:
            slope = call.forecast(EXIT, [0])[0][None]
        call.close(0.0)
        denoised = session.serve(x, x - sigma * slope, repairs=repair)
        x = x + (following - sigma) * (x - denoised) / sigma
    return x.item()


def test_repairs_bring_the_path_back():
    sigmas = [1 - i / 24 for i in range(25)]
    truth = 5.0 + sum((b - a) * (2.0 + a**3) for a, b in pairwise(sigmas))
    assert abs(euler(repair=True) - truth) < 0.25 * abs(euler(repair=False) - truth)
