from itertools import pairwise

import pytest
import torch
from solvers import dpm_2, euler, heun, three_step, two_step

from speca_core import Session, SpecaConfig
from speca_core.anchors import HEAD_INPUT
from speca_core.axis import Schedule
from speca_core.budgets import Interval
from speca_core.correction import TRUST, DeferredCorrection
from speca_core.forecasters import Newton
from speca_core.sampler_response import measure_response
from speca_core.verifiers import NoCheck

SIGMAS = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


def response_of(sampler, sigmas):
    return measure_response(lambda model, x: sampler(model, x, sigmas), sigmas)


class Ride:
    """One image (or more) whose sampler asks for predictions of given slopes."""

    def __init__(self, sigmas=SIGMAS, sampler=euler):
        self.schedule = Schedule(sigmas)
        self.hindsight = DeferredCorrection(response_of(sampler, sigmas))

    def serve(self, sigma, *slopes, drafted=()):
        """The slopes that the sampler gets for those that the model gives."""
        x = torch.zeros(len(slopes), 1)
        denoised = x - sigma * torch.tensor(slopes)[:, None]
        served = self.hindsight.serve(self.schedule.point(sigma), x, denoised, drafted)
        return [s / sigma for s in (x - served)[:, 0].tolist()]


def test_by_hand():
    # The model's slope grows by 10 each step: 100 110 120 130. Step 2 was served 121: equal
    # strides, the next step takes 1 back, less the caution for a repair of 1/130 of the slope.
    ride = Ride()
    places = [ride.schedule.point(sigma).coordinate for sigma in SIGMAS]
    slopes = [100 + 10 * place for place in places]
    assert ride.serve(1.0, slopes[0]) == pytest.approx([slopes[0]])
    ride.serve(0.8, slopes[1])
    assert ride.serve(0.6, slopes[2] + 1, drafted={0}) == pytest.approx([slopes[2] + 1]), (
        "a draft is served as it is"
    )
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


def test_what_the_sampler_is_not_known_to_ask_is_not_changed():
    ride = Ride()
    ride.serve(1.0, 1.0)
    ride.serve(0.8, 1.05, drafted={0})
    for sigma in (0.7, 0.8, 0.0):
        denoised = torch.ones(1, 2)
        assert (
            ride.hindsight.serve(ride.schedule.point(sigma), torch.zeros(1, 2), denoised, ())
            is denoised
        )
    assert ride.serve(0.6, 1.0)[0] < 1.0, "and nothing is lost"


def test_what_others_answered_is_passed_over():
    ride = Ride(sampler=heun)
    for sigma, slope, drafted in ((1.0, 1.0, ()), (0.8, 1.0, ()), (0.8, 1.0, ()), (0.6, 1.05, {0})):
        ride.serve(sigma, slope, drafted=drafted)
    assert ride.serve(0.4, 1.0)[0] < 1.0, "turns 4 and 6 were not seen"


def test_what_was_known_when_it_was_drafted_is_not_repaired():
    """Heun's second call at a place is served from the first one's anchor; its slope is another
    where the answer depends on the latent."""
    ride = Ride(sampler=heun)
    for sigma, slope, drafted in ((1.0, 1.0, ()), (0.8, 1.0, ()), (0.8, 1.05, {0})):
        ride.serve(sigma, slope, drafted=drafted)
    assert ride.serve(0.6, 1.0) == pytest.approx([1.0], abs=1e-6)


def test_the_model_output_is_not_written_into():
    ride = Ride()
    x, denoised = torch.zeros(1, 1), torch.full((1, 1), -0.4)
    ride.serve(1.0, 1.0)
    ride.serve(0.8, 1.05, drafted={0})
    assert ride.hindsight.serve(
        ride.schedule.point(0.6), x, denoised, ()
    ) is not denoised and denoised.item() == pytest.approx(-0.4)


def integrated(sampler, repair):
    """Where a sampler ends on slopes that are drafted but for every third."""
    sigmas = [1 - i / 24 for i in range(25)]
    config = SpecaConfig(
        1.0, Newton(1, 0.0), NoCheck(), Interval(interval=3, warmup=6, max_streak=9)
    )
    session = Session(config, sigmas, response=response_of(sampler, sigmas) if repair else None)

    def model(x, sigma):
        prediction = session.predict(sigma[0], x)
        call = prediction.open_call(["a"], [0], [0])
        call.judge(call.draft_rows, None)
        slope = truth(sigma)[:, None]
        if call.full_rows:
            call.observe(HEAD_INPUT, [0], [slope[0]])
        else:
            slope = call.forecast(HEAD_INPUT, [0])[0][None]
        call.close(0.0)
        return prediction.serve(x, x - sigma * slope)

    return sampler(model, torch.tensor([[5.0]]), sigmas).item()


def truth(sigma):
    return 2.0 + sigma**3


@pytest.mark.parametrize(
    "sampler", [euler, two_step, three_step, heun, dpm_2], ids=lambda s: s.__name__
)
def test_repairs_bring_the_path_back(sampler):
    sigmas = [1 - i / 24 for i in range(25)]
    plain = sampler(lambda x, sigma: x - sigma * truth(sigma), torch.tensor([[5.0]]), sigmas).item()
    assert abs(integrated(sampler, repair=True) - plain) < 0.25 * abs(
        integrated(sampler, repair=False) - plain
    )


@pytest.mark.parametrize("sampler", [two_step, three_step, heun, dpm_2], ids=lambda s: s.__name__)
@pytest.mark.parametrize("drafted", [[7], [7, 8], [7, 8, 9], [7, 9], [7, 8, 11, 13]], ids=str)
def test_a_sampler_that_looks_back_ends_where_it_would_have(sampler, drafted):
    """The repair is seen again at the next turn and would drive the latent off once more; what
    follows cancels it there, be it drafted or computed. The slopes are a parabola, which
    interpolation meets, and so large that repairs are made in full. Heun drafts nothing where it
    has just computed."""
    sigmas = [1 - i / 15 for i in range(16)]
    ride = Ride(sigmas, sampler)
    latents, plain = [], []

    def exact(x, sigma):
        plain.append(x.item())
        return x - sigma * (1000.0 + ride.schedule.point(sigma.item()).coordinate ** 2)

    def model(x, sigma):
        turn = len(latents)
        latents.append(x.item())
        moment = ride.schedule.point(sigma.item())
        slope = 1000.0 + moment.coordinate**2 + (turn in drafted) * 0.1 * turn
        return ride.hindsight.serve(moment, x, x - sigma * slope, {0} if turn in drafted else ())

    start = torch.zeros(1, 1, dtype=torch.float64)
    end, expected = (sampler(m, start, sigmas).item() for m in (model, exact))
    assert abs(latents[drafted[0] + 1] - plain[drafted[0] + 1]) > 0.02, "the draft does harm"
    assert end == pytest.approx(expected, abs=1e-3)
    repaired = [turn for turn in range(6, len(plain)) if turn - 1 not in drafted]
    assert [latents[i] for i in repaired] == pytest.approx([plain[i] for i in repaired], abs=1e-3)


@pytest.mark.parametrize("size", [1.0, 0.2])
def test_what_a_sampler_looks_back_at_is_cancelled_also_after_a_jump_and_for_a_repair_made_in_part(
    size,
):
    """The draft at 4 is off by `size` and moves the latent by 23 - 16 of 12 parts until the repair
    at 5, which is made by a share. What was not repaired is seen once more, at 6, by 5 parts; the
    repair itself never again."""
    share = 1 / (1 + (7 / 23 * size / TRUST) ** 2)
    sigmas = [1 - i / 12 for i in range(13)]
    ride = Ride(sigmas, three_step)
    latents = []

    def model(x, sigma):
        latents.append(x.item())
        i = sigmas.index(sigma[0].item())
        if i == 7:
            ride.hindsight.forget(0)
        served = ride.hindsight.serve(
            ride.schedule.point(sigmas[i]),
            x,
            x - sigma * (1 + size * (i == 4)),
            {0} if i == 4 else (),
        )
        account = ride.hindsight.images[0]
        kept = [
            *(v for _, v in account.anchors),
            *(v for _, v in account.drafts.values()),
            *account.residuals.values(),
        ]
        assert len(account.residuals) <= 2 and ride.hindsight.nbytes == 4 * len(kept)
        return served

    end = three_step(model, torch.zeros(1, 1, dtype=torch.float64), sigmas)
    moved = [b - a for a, b in pairwise([*latents, end.item()])]
    assert moved[6:] == pytest.approx(
        [-(1 + (1 - share) * size * 5 / 12) / 12, *[-1 / 12] * 5], abs=1e-6
    )


def test_nothing_is_repaired_across_a_jump():
    for forgotten in (2, 3):  # before the draft, and behind it
        ride = Ride()
        for i, sigma in enumerate(SIGMAS[:4]):
            if i == forgotten:
                ride.hindsight.forget(0)
            assert ride.serve(
                sigma, 100.0 + (i == 2), drafted={0} if i == 2 else ()
            ) == pytest.approx([100.0 + (i == 2)]), forgotten


def test_without_a_solver_nothing_is_repaired():
    hindsight = DeferredCorrection(None)
    for sigma, drafted in zip(SIGMAS, [(), (), {0}, (), ()], strict=False):
        denoised = torch.rand(1, 2)
        assert (
            hindsight.serve(Schedule(SIGMAS).point(sigma), torch.zeros(1, 2), denoised, drafted)
            is denoised
        )
    assert hindsight.nbytes == 0
