"""Repair past drafts with what is known now.

A draft at step j was extrapolated from the anchors before it. As soon as the next call is computed, the same place can be *interpolated*
between anchors, several times more accurately. A first-order sampler (Euler) has meanwhile moved the latent by
(sigma_(j+1) - sigma_j) v_j, so the difference of the two estimates, times that stride, is a displacement delta that can be taken back:
the computed call is served v_i - delta / (sigma_(i+1) - sigma_i), and the step that the sampler makes anyway includes the repair.
"""

from collections.abc import Sequence

import torch

from .forecasters.newton import lagrange

ANCHORS = 3  # a parabola: two anchors before the streak and the one after it
TRUST = 0.1  # relative size of a repair at which half of it is made


class Hindsight:
    """The repair account of one lane, in the model's velocity v = (x - denoised) / sigma: the slope that the sampler follows."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = sigmas
        self.anchors: list[tuple[float, torch.Tensor]] = []
        self.drafts: list[tuple[float, float, torch.Tensor]] = []

    def drafted(self, step: int, coordinate: float, velocity: torch.Tensor) -> None:
        """A draft was served: `velocity` [...], at a step of the schedule."""
        self.drafts.append((coordinate, self.sigmas[step + 1] - self.sigmas[step], velocity))

    def computed(self, step: int, coordinate: float, velocity: torch.Tensor) -> torch.Tensor:
        """A call was computed.

        Args:
            step, coordinate: where.
            velocity: [...], float32.

        Returns:
            What is to be added to this velocity so that the sampler's step repairs the streak before it; zeros if there was none.
            A repair that is large against the velocity itself is made in part, 1 / (1 + (size / TRUST)^2): the model then reacts to
            the jump, and the next forecasts suffer from it.
        """
        self.anchors = [*self.anchors, (coordinate, velocity)][-ANCHORS:]
        drafts, self.drafts = self.drafts, []
        repair = torch.zeros_like(velocity)
        stride = self.sigmas[step + 1] - self.sigmas[step]
        if not drafts or len(self.anchors) < 2 or stride == 0:
            return repair
        places = [place for place, _ in self.anchors]
        for place, moved, served in drafts:
            repair.add_(served, alpha=-moved / stride)
            for weight, (_, anchor) in zip(lagrange(places, place), self.anchors, strict=True):
                repair.add_(anchor, alpha=weight * moved / stride)
        size = torch.linalg.vector_norm(repair) / torch.linalg.vector_norm(velocity).clamp_min(1e-12)
        return repair.div_(1 + (size / TRUST) ** 2)
