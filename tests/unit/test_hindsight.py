from itertools import pairwise

import pytest
import torch

from speca_core import Session, SpecaConfig
from speca_core.budgets import Interval
from speca_core.forecasters import Newton
from speca_core.hindsight import TRUST, Hindsight
from speca_core.session import EXIT
from speca_core.verifiers import Unverified

SIGMAS = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


def test_by_hand():
    # The true slope is 100 everywhere; step 2 was served 101, so the latent moved by -0.2 too much (stride -0.2 times 1).
    account = Hindsight(SIGMAS)
    assert account.computed(0, 0.0, torch.tensor([100.0])).item() == 0
    account.computed(1, 1.0, torch.tensor([100.0]))
    account.drafted(2, 2.0, torch.tensor([101.0]))
    repair = account.computed(3, 3.0, torch.tensor([100.0])).item()
    # Equal strides: the next step takes back exactly 1, less the caution for a repair of 1 % of the slope.
    assert repair == pytest.approx(-1.0 / (1 + (0.01 / TRUST) ** 2), rel=1e-4)
    assert account.computed(4, 4.0, torch.tensor([100.0])).item() == 0, "a streak is repaired once"


def test_what_was_served_right_is_left_alone():
    account = Hindsight(SIGMAS)
    account.computed(0, 0.0, torch.tensor([0.0]))
    account.computed(1, 1.0, torch.tensor([1.0]))
    account.drafted(2, 2.0, torch.tensor([4.0]))
    assert account.computed(3, 3.0, torch.tensor([9.0])).item() == pytest.approx(0.0, abs=1e-5)


def test_large_repairs_are_made_in_part():
    account = Hindsight(SIGMAS)
    account.computed(0, 0.0, torch.tensor([1.0]))
    account.drafted(1, 1.0, torch.tensor([1.0 + TRUST]))
    assert account.computed(2, 2.0, torch.tensor([1.0])).item() == pytest.approx(-TRUST / 2, rel=1e-4)


def test_nothing_to_repair_where_the_sampler_does_not_move():
    account = Hindsight([1.0, 0.5, 0.5])
    account.computed(0, 0.0, torch.zeros(1))
    account.drafted(0, 0.5, torch.ones(1))
    assert account.computed(1, 1.0, torch.zeros(1)).item() == 0


def euler(repair):
    """Integrate dx/dsigma = slope(sigma) with drafted slopes; returns the end of the path."""
    sigmas = [1 - i / 24 for i in range(25)]
    config = SpecaConfig(1.0, Newton(1, 0.0), Unverified(), Interval(interval=3, max_streak=9))
    session = Session(config, sigmas)
    x = torch.tensor([[5.0]])
    for sigma, following in pairwise(sigmas):
        call = session.open_call(["a"], [0], [0], sigma)
        call.judge(call.draft_rows, None)
        slope = torch.tensor([[2.0 + sigma**3]])
        if call.full_rows:
            call.observe(EXIT, [0], [slope[0]])
        else:
            slope = call.forecast(EXIT, [0])[0][None]
        denoised = x - sigma * slope
        if repair:
            denoised = call.repair(x, denoised)
        call.close(0.0)
        x = x + (following - sigma) * (x - denoised) / sigma
    return x.item()


def test_repairs_bring_the_path_back():
    sigmas = [1 - i / 24 for i in range(25)]
    truth = 5.0 + sum((b - a) * (2.0 + a**3) for a, b in pairwise(sigmas))
    assert abs(euler(repair=True) - truth) < 0.25 * abs(euler(repair=False) - truth)


def test_off_the_grid_and_at_sigma_zero_nothing_is_changed():
    session = Session(SpecaConfig(), SIGMAS)
    for sigma in (0.7, 0.0):
        call = session.open_call(["a"], [0], [0], sigma)
        denoised = torch.ones(1, 2)
        assert call.repair(torch.zeros(1, 2), denoised) is denoised
