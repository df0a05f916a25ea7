"""The run's noise schedule as a coordinate axis.

A forecast is an extrapolation along some axis. Counting calls is wrong as soon as a sampler calls
the model twice per step, and sigma itself is unevenly spaced; the *position* on the run's own
schedule handles both: sigma_i lies at i, a sub-step lies between. Features bend least along a blend
of that position with the log signal-to-noise ratio: the *coordinate* (docs/adr/0003-coordinate.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from .errors import ConfigError

# Coordinates closer than this are one place: a second call at the same sigma replaces the first.
SAME_PLACE = 1e-6
SAME_SIGMA = 1e-5  # relative: a float32 sigma that went to the device and back
# Of the log signal-to-noise ratio in the coordinate; .25 to .5 measured alike, 0 and 1 worse.
SNR_SHARE = 0.25


@dataclass(frozen=True)
class SchedulePoint:
    """Where on the schedule a call sits.

    Attributes:
        sigma: noise level of the call.
        position: in steps, 0 .. steps.
        coordinate: where forecasts are made, in steps on average; rises with the position.
        steps: of the whole schedule.
    """

    sigma: float
    position: float
    coordinate: float
    steps: int

    @property
    def progress(self) -> float:
        """position / steps, 0 .. 1."""
        return self.position / self.steps

    @property
    def last(self) -> bool:
        """The call belongs to the schedule's last step."""
        return self.position >= self.steps - 1

    @property
    def step(self) -> int:
        """The step of the schedule this call belongs to; `steps` at the schedule's last sigma."""
        return int(self.position)


class Schedule:
    """Sigmas of one run, usually falling, of length steps + 1.

    Args:
        sigmas: noise levels.
        flow: the model is a flow model, sigma the share of noise (0..1); otherwise sigma is noise
            over signal.

    Raises:
        ConfigError: fewer than two sigmas, or one that is not finite.
    """

    def __init__(self, sigmas: Sequence[float], flow: bool = True) -> None:
        if len(sigmas) < 2 or not all(map(math.isfinite, sigmas)):
            raise ConfigError(
                f"the schedule is {list(sigmas)}; expected at least two finite sigmas. "
                "Use a scheduler with at least one step."
            )
        self.sigmas = tuple(float(s) for s in sigmas)
        self.steps = len(sigmas) - 1
        self._coordinates = blended(self.sigmas, flow)

    def point(self, sigma: float, after: float = 0.0) -> SchedulePoint:
        """The point of a call at `sigma`; sigmas off the grid are interpolated, sigmas off the ends
        are clamped. Where the schedule comes to a sigma more than once, the first place from the
        step of position `after` on is meant."""
        position = self._position(sigma, after)
        step = min(int(position), self.steps - 1)
        coordinate = self._coordinates[step] + (position - step) * (
            self._coordinates[step + 1] - self._coordinates[step]
        )
        return SchedulePoint(sigma, position, coordinate, self.steps)

    def _position(self, sigma: float, after: float) -> float:
        # Grid points first: such a sigma must land exactly on its index.
        nearest = min(self.sigmas, key=lambda known: abs(known - sigma))
        places = [float(i) for i, known in enumerate(self.sigmas) if known == nearest]
        if not math.isclose(nearest, sigma, rel_tol=SAME_SIGMA, abs_tol=1e-8):
            between = [
                i + (a - sigma) / (a - b)
                for i, (a, b) in enumerate(pairwise(self.sigmas))
                if min(a, b) < sigma < max(a, b)
            ]
            places = between or places
        return next((place for place in places if place >= int(after)), places[0])


def falls(sigmas: Sequence[float]) -> bool:
    """Whether sigmas fall step by step: each is at one place, and the path goes one way."""
    return all(a - b > SAME_SIGMA * abs(a) for a, b in pairwise(sigmas))


def blended(sigmas: Sequence[float], flow: bool) -> list[float]:
    """Coordinate of each grid point: c_i = (1 - a) i + a (1 + (N - 2) (L_i - L_1) / (L_(N-1) -
    L_1)), a = SNR_SHARE, L = log SNR / 2.

    The blend is scaled so that it counts steps on average. Schedules that do not fall step by step,
    and those of fewer than three steps, are counted in steps alone.
    """
    count = len(sigmas) - 1
    steps = [float(i) for i in range(count + 1)]
    if count < 3 or any(a <= b for a, b in pairwise(sigmas)):
        return steps
    clipped = [min(max(s, 1e-4), 0.9995) if flow else max(s, 1e-4) for s in sigmas]
    levels = [math.log((1 - s) / s) if flow else -math.log(s) for s in clipped]
    span = levels[count - 1] - levels[1]
    if span <= 0:
        return steps
    scaled = [1 + (count - 2) * (level - levels[1]) / span for level in levels[:count]]
    blend = [(1 - SNR_SHARE) * i + SNR_SHARE * s for i, s in zip(steps, scaled, strict=False)]
    return [*blend, blend[-1] + 1.0]  # a last sigma of 0 has no log SNR


def lagrange(coordinates: Sequence[float], at: float) -> list[float]:
    """Weights of the polynomial through some points: w_i = prod_(j != i) (at - s_j) / (s_i - s_j).

    Args:
        coordinates: distinct places.
        at: where the polynomial is evaluated.

    Returns:
        One weight per coordinate; they sum to 1.
    """
    return [prod((at - b) / (a - b) for b in coordinates if b != a) for a in coordinates]
