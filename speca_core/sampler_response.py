"""How a sampler responds to the predictions that it is served: a linear map, found by trying it.

Samplers that add no noise are linear in what they are served, whatever their order. In slopes
v = (x - denoised) / sigma:

    x_(n+1) = x_n + s_n0 v_n + s_n1 v_(n-1) + ...

x_n is the latent at which they ask for the n-th time, once or twice per step. Euler has s_n0 alone,
the step of sigma; multistep samplers look back at a few more. Heun takes Euler's step, asks there,
and moves on: half of a step along the slope found there, half of it back along the one before.
Sampling latents of which each is served one unit slope, at a turn of its own, gives all strides at
once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any

import torch

from .axis import SAME_SIGMA, falls

STEPS = 500  # the most that are tried; what it costs grows with their square
TURNS = 2  # per step; of Heun++'s three two hardly move it, and cancelling an echo there is costly
LAGS = 8  # slopes that a turn may look at; with some samplers older ones fade, but never end
EXACT = 0.01  # share of a turn's movement that may be missing from its strides
ROUNDED = 1e-6  # of the largest latent: what float32 leaves of it
MOST_GAIN = 3.0  # see `feedback_gain`; most samplers' is below 1.5


class LongStep(Enum):
    """Where one long step of a sampler goes, by the slopes that it sees."""

    EULER = "along the newest"
    HEUN = "along the newest, once the step before has been taken along the mean of its two"
    MULTISTEP = "along a line through the newest two, as DPM-Solver++(2M)'s does"


@dataclass(frozen=True)
class SamplerResponse:
    """How a sampler responds on one schedule, turn by turn; a turn is one prediction asked for.

    Attributes:
        sigmas: where it asks, noise levels.
        strides: of each turn s_n0, s_n1, ..., newest first, as many for each; how far the latent
            moves per unit of slope.
        long_step: strides do not tell it: those of UniPC, which corrects its past steps, look like
            a multistep sampler's.
    """

    sigmas: tuple[float, ...]
    strides: tuple[tuple[float, ...], ...]
    long_step: LongStep = LongStep.EULER

    @property
    def again(self) -> tuple[bool, ...]:
        """Of each turn, whether it asks at the level of the turn before, as Heun's second does."""
        pairs = pairwise(self.sigmas)
        return False, *(math.isclose(low, high, rel_tol=SAME_SIGMA) for high, low in pairs)

    def turn(self, last: int, sigma: float) -> int | None:
        """The first turn after `last` at which it asks at `sigma`; None if there is none. Other
        packs may have answered those between."""
        later = range(last + 1, len(self.sigmas))
        return next(
            (turn for turn in later if math.isclose(self.sigmas[turn], sigma, rel_tol=SAME_SIGMA)),
            None,
        )

    def onward(self, sigmas: Sequence[float]) -> SamplerResponse:
        """The same, with Euler's steps after it: through these noise levels, and to none."""
        none = (0.0,) * (len(self.strides[0]) - 1)
        steps = [(low - high, *none) for high, low in pairwise([*sigmas, 0.0])]
        return replace(self, sigmas=(*self.sigmas, *sigmas), strides=(*self.strides, *steps))

    @property
    def feedback_gain(self) -> float:
        """An error of 1 in a slope is seen again in later turns: the largest addition there that
        cancels it."""
        strides = torch.tensor(self.strides, dtype=torch.float64)
        shares = (strides / strides[:, :1]).unbind(1)
        seen = torch.stack(
            [torch.diag(share[lag:], -lag) for lag, share in enumerate(shares[: len(strides)])]
        ).sum(0)
        one = torch.eye(len(strides), dtype=torch.float64)
        return float((torch.linalg.solve_triangular(seen, one, upper=False) - one).abs().max())


Sampler = Callable[[Callable[..., torch.Tensor], torch.Tensor], torch.Tensor | None]


def measure_response(sample: Sampler, sigmas: Sequence[float]) -> SamplerResponse | None:
    """Find a sampler's strides.

    Args:
        sample: runs the sampler with a model, called as model(x, sigma, ...), from latents
            [images, 1, 1, 1], on any device; returns the last latents, or None if it failed.
        sigmas: the schedule, steps + 1 values.

    Returns:
        None if there are no such strides: the schedule does not fall step by step, or has more than
        `STEPS`; the sampler adds noise, asks more than twice per step, or is not linear; or
        cancelling a correction's echo takes too much.
    """
    if not falls(sigmas) or len(sigmas) > STEPS + 1:
        return None
    most = TURNS * (len(sigmas) - 1)
    slopes = torch.cat(
        [torch.eye(most), torch.ones(1, most), torch.zeros(1, most)]
    )  # [images, turns]: one each, all, none
    latents: list[torch.Tensor] = []
    asked: list[float] = []

    def model(x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
        slope = slopes[:, min(len(asked), most - 1)]
        asked.append(float(sigma.reshape(-1)[0]))
        latents.append(x.reshape(-1).to("cpu", copy=True))
        return x - asked[-1] * slope.reshape(x.shape).to(x.device)

    last = sample(model, torch.zeros(len(slopes), 1, 1, 1))
    turns = len(asked)
    if last is None or not 0 < turns <= most:
        return None
    found = torch.stack([*latents, last.reshape(-1).cpu()])  # [turns + 1, images]
    moved = found.diff(dim=0)
    each, everything, nothing = moved[:, :turns], moved[:, most], moved[:, most + 1]
    seen = torch.arange(turns)[:, None] - torch.arange(LAGS)  # [turns, lags]: which slope
    strides = each.gather(1, seen.clamp_min(0)) * (seen >= 0)
    odd = (strides.sum(1) - everything).abs() + nothing.abs()
    if not bool(
        (odd <= EXACT * strides.abs().sum(1) + ROUNDED * found.abs().max()).all()
        and strides[:, 0].all()
    ):
        return None
    used = (
        int((strides.abs() > EXACT * strides.abs().sum(1, keepdim=True)).any(0).nonzero().max()) + 1
    )
    response = SamplerResponse(tuple(asked), tuple(tuple(row[:used]) for row in strides.tolist()))
    return response if response.feedback_gain <= MOST_GAIN else None
