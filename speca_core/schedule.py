"""The run's noise schedule as a coordinate axis.

A forecast is an extrapolation along some axis. Counting calls is wrong as soon as a sampler calls the model twice per step, and
sigma itself is unevenly spaced; the *position* on the run's own schedule handles both: sigma_i lies at i, a sub-step lies between.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError


@dataclass(frozen=True)
class Moment:
    """Where on the schedule a call sits.

    Attributes:
        sigma: noise level of the call.
        position: coordinate in steps, 0 .. steps.
        progress: position / steps, 0 .. 1.
        stride: |sigma_i - sigma_(i+1)| of the step this call belongs to, relative to the mean step (mean 1 over a run).
        last: the call belongs to the schedule's last step.
    """

    sigma: float
    position: float
    progress: float
    stride: float
    last: bool


class Schedule:
    """Sigmas of one run, usually falling, of length steps + 1.

    Raises:
        ConfigError: fewer than two sigmas, or one that is not finite.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        if len(sigmas) < 2 or not all(map(math.isfinite, sigmas)):
            raise ConfigError(
                f"the schedule is {list(sigmas)}; expected at least two finite sigmas. Use a scheduler with at least one step."
            )
        self.sigmas = tuple(float(s) for s in sigmas)
        self.steps = len(sigmas) - 1
        self._mean_stride = sum(abs(a - b) for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)) / self.steps

    def moment(self, sigma: float) -> Moment:
        """The moment of a call at `sigma`; sigmas off the grid are interpolated, sigmas off the ends are clamped."""
        position = self._position(sigma)
        step = min(int(position), self.steps - 1)
        stride = abs(self.sigmas[step] - self.sigmas[step + 1])
        relative = stride / self._mean_stride if self._mean_stride else 1.0
        return Moment(sigma, position, position / self.steps, relative, position >= self.steps - 1)

    def _position(self, sigma: float) -> float:
        # Grid points first: a float32 sigma that went to the device and back must land exactly on its index.
        nearest = min(range(self.steps + 1), key=lambda i: abs(self.sigmas[i] - sigma))
        if math.isclose(self.sigmas[nearest], sigma, rel_tol=1e-5, abs_tol=1e-8):
            return float(nearest)
        for i, (a, b) in enumerate(zip(self.sigmas, self.sigmas[1:], strict=False)):
            if min(a, b) < sigma < max(a, b):
                return i + (a - sigma) / (a - b)
        return float(nearest)
