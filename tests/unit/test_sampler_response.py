from itertools import pairwise

import pytest
import torch
from solvers import dpm_2, euler, heun, looking_back, slope, two_step

from speca_core.sampler_response import LAGS, SamplerResponse, measure_response

SIGMAS = [1.0, 0.9, 0.6, 0.2, 0.0]


def found(sampler, sigmas=SIGMAS):
    return measure_response(lambda model, x: sampler(model, x, sigmas), sigmas)


def flat(strides):
    return [stride for row in strides for stride in row]


def test_euler_moves_by_the_step_of_sigma():
    assert flat(found(euler).strides) == pytest.approx([-0.1, -0.3, -0.4, -0.2])


def test_a_multistep_solver_looks_back():
    expected = [(-0.1, 0.0), (-0.45, 0.15), (-0.6, 0.2), (-0.3, 0.1)]
    assert flat(found(two_step).strides) == pytest.approx(flat(expected))


def test_heun_goes_on_from_behind_a_full_step():
    solver = found(heun)
    assert solver.sigmas == pytest.approx((1.0, 0.9, 0.9, 0.6, 0.6, 0.2, 0.2))
    expected = [
        (-0.1, 0.0),
        (-0.05, 0.05),
        (-0.3, 0.0),
        (-0.15, 0.15),
        (-0.4, 0.0),
        (-0.2, 0.2),
        (-0.2, 0.0),
    ]
    assert flat(solver.strides) == pytest.approx(flat(expected), abs=1e-6)
    assert solver.feedback_gain == pytest.approx(1, rel=1e-3), (
        "the same addition at both turns of a step moves on from the right place"
    )


def test_a_turn_is_told_by_its_sigma():
    turn = found(heun).turn
    assert [turn(-1, 1.0), turn(0, 0.9), turn(1, 0.9 * (1 + 1e-7)), turn(2, 0.6)] == [0, 1, 2, 3]
    assert turn(2, 0.9) is None and turn(0, 0.901) is None, (
        "one that is past, and one that is not asked for"
    )
    assert turn(0, 0.2) == 5, "those before it were answered by others"


def test_dpm_2_asks_half_way_and_begins_the_step_anew():
    solver = found(dpm_2)
    assert solver.sigmas == pytest.approx((1.0, 0.95, 0.9, 0.75, 0.6, 0.4, 0.2))
    assert flat(solver.strides[:4]) == pytest.approx(
        [-0.05, 0, -0.1, 0.05, -0.15, 0, -0.3, 0.15], abs=1e-6
    )


def test_a_schedule_too_long_to_be_tried():
    asked = []

    def sampler(model, x):
        asked.append(len(x))

    assert [
        measure_response(sampler, [1 - i / steps for i in range(steps + 1)]) for steps in (500, 501)
    ] == [None, None] and len(asked) == 1


def test_the_echo_of_a_slope_too_much():
    solver = found(two_step)  # 1 at a step: 1/3 is to be added at the next, 1/9 at the one after it
    assert solver.feedback_gain == pytest.approx(1 / 3, rel=1e-3)
    assert found(euler).feedback_gain == 0 and SamplerResponse(
        (3.0, 2.0, 1.0), ((-1.0, 0.0), (-1.0, 0.5), (-1.0, -2.0))
    ).feedback_gain == pytest.approx(2)


def test_one_step():
    assert flat(found(two_step, [1.0, 0.0]).strides) == [-1.0]


def test_what_fades_is_cut_off_where_little_is_left():
    sigmas = [1 - i / 20 for i in range(21)]

    def momentum(decay):
        def sampler(model, x, sigmas):
            along = torch.zeros_like(x)
            for sigma, following in pairwise(sigmas):
                along = (
                    decay * along
                    + (1 - decay) * (x - model(x, torch.full((len(x),), sigma))) / sigma
                )
                x = x + (following - sigma) * along
            return x

        return sampler

    strides = found(momentum(0.4), sigmas).strides
    assert len(strides[0]) < LAGS and strides[-1][:3] == pytest.approx(
        [-0.03, -0.012, -0.0048], rel=1e-3
    )
    assert found(momentum(0.9), sigmas) is None, (
        "half of a step comes from further back than is kept"
    )


def test_a_schedule_that_begins_far_up_is_not_taken_for_noise():
    sigmas = [700.0 * (0.002 / 700) ** (i / 49) for i in range(50)] + [0.0]
    assert flat(found(euler, sigmas).strides)[-2:] == pytest.approx(
        [sigmas[-2] - sigmas[-3], -0.002]
    )


def wandering(model, x, sigmas):
    """Moves on its own by as much as cannot be seen in an image that is served 1 throughout."""
    start = x
    x = euler(model, x, sigmas)
    return x + 0.05 * (x == start)


def noisy(model, x, sigmas):
    return euler(model, x + 0.1 * torch.randn_like(x), sigmas) + torch.randn_like(x)


def idle(model, x, sigmas):
    return x


def thorough(model, x, sigmas):
    """Asks once to know, and twice more to be sure."""
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * sum(slope(model, x, sigma) for _ in range(3)) / 3
    return x


def thinking_it_over(model, x, sigmas):
    """Asks once more at the end, where nothing is left of the noise."""
    x = euler(model, x, sigmas)
    return x + 0.1 * (x - model(x, torch.zeros(len(x))))


def clamped(model, x, sigmas):
    return euler(lambda x, sigma: model(x, sigma).clamp(-0.2, 0.2), x, sigmas)


def blind(model, x, sigmas):
    """Moves by nothing it is served at the second step."""
    return x + sum(
        (model(x, torch.full((len(x),), s)) - x) * w
        for s, w in zip(sigmas, [0.1, 0.0, 0.1, 0.1], strict=False)
    )


def resonant(model, x, sigmas):
    """Twice as much of the slope before as of the newest: what cancels it doubles each step."""
    return looking_back(model, x, sigmas, [[1], [1, 2]])


@pytest.mark.parametrize(
    "sampler",
    [noisy, wandering, idle, thorough, thinking_it_over, clamped, blind, resonant],
    ids=lambda s: s.__name__,
)
def test_others_have_no_such_strides(sampler):
    assert found(sampler) is None
