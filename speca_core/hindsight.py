"""Repair past drafts with what is known now.

A draft at step j was extrapolated from the anchors before it. As soon as the next prediction is computed, the same place can be
*interpolated* between anchors, several times more accurately. A first-order sampler (Euler) has meanwhile moved the latent by
(sigma_(j+1) - sigma_j) v_j, so the difference of the two estimates, times that stride, is a displacement delta that can be taken back:
the computed prediction is served as v_i - delta / (sigma_(i+1) - sigma_i), and the step that the sampler makes anyway includes the
repair. All of it happens in the guided prediction, the one thing that the sampler follows, whatever made it.
"""

from collections.abc import Collection

import torch

from .polynomial import lagrange
from .schedule import SAME_PLACE, Moment, Schedule

ANCHORS = 3  # a parabola: two anchors before the streak and the one after it
TRUST = 0.2  # relative size of a repair at which half of it is made


class Account:
    """What one image has been served, as the slope v = (x - denoised) / sigma that the sampler follows."""

    def __init__(self) -> None:
        self.anchors: list[tuple[float, torch.Tensor]] = []
        self.drafts: dict[int, tuple[float, float, torch.Tensor]] = {}

    def drafted(self, moment: Moment, moved: float, velocity: torch.Tensor) -> None:
        """A draft was served: `velocity` [...], along which sigma moves by `moved`."""
        self.drafts[moment.step] = moment.coordinate, moved, velocity

    def computed(self, moment: Moment, moved: float, velocity: torch.Tensor) -> torch.Tensor | None:
        """A prediction was computed.

        Args:
            moment: where. moved: what sigma moves by in this step. velocity: [...], float32.

        Returns:
            What is to be added to this velocity so that the sampler's step repairs the streak before it; None if there was none.
            A repair that is large against the velocity itself is made in part, 1 / (1 + (size / TRUST)^2): the model then reacts to
            the jump, and the next forecasts suffer from it.
        """
        kept = [anchor for anchor in self.anchors if abs(anchor[0] - moment.coordinate) > SAME_PLACE]
        self.anchors = [*kept, (moment.coordinate, velocity)][-ANCHORS:]
        drafts, self.drafts = self.drafts, {}
        if not drafts or len(self.anchors) < 2:
            return None
        places = [place for place, _ in self.anchors]
        repair = torch.zeros_like(velocity)
        for place, stride, served in drafts.values():
            repair.add_(served, alpha=-stride / moved)
            for weight, (_, anchor) in zip(lagrange(places, place), self.anchors, strict=True):
                repair.add_(anchor, alpha=weight * stride / moved)
        size = torch.linalg.vector_norm(repair) / torch.linalg.vector_norm(velocity).clamp_min(1e-12)
        return repair.div_(1 + (size / TRUST) ** 2)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(velocity.nbytes for _, velocity in self.anchors) + sum(velocity.nbytes for _, _, velocity in self.drafts.values())


class Hindsight:
    """The repairs of one run; for samplers that go from sigma_i to sigma_(i+1) along (x - denoised) / sigma_i, one prediction per step."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.accounts: dict[int, Account] = {}

    def serve(self, moment: Moment, x: torch.Tensor, denoised: torch.Tensor, drafted: Collection[int]) -> torch.Tensor:
        """Serve a prediction such that the sampler's next step repairs the drafts before it.

        Args:
            moment: of the prediction; off the schedule's grid, and on schedules that do not fall step by step, nothing is repaired.
            x: [images, ...] latents. denoised: [images, ...] the guided prediction; it is left as it is.
            drafted: indices of the images whose prediction is a draft.

        Returns:
            [images, ...] what the sampler gets.
        """
        if not (self.schedule.falls and moment.on_grid and moment.step < self.schedule.steps):
            return denoised
        moved = self.schedule.sigmas[moment.step + 1] - moment.sigma
        served = denoised
        for image in range(len(x)):
            account = self.accounts.setdefault(image, Account())
            velocity = (x[image].float() - denoised[image].float()) / moment.sigma
            if image in drafted:
                account.drafted(moment, moved, velocity)
            elif (repair := account.computed(moment, moved, velocity)) is not None:
                served = denoised.clone() if served is denoised else served
                served[image] -= moment.sigma * repair.to(served.dtype)
        return served

    def forget(self, image: int) -> None:
        """The image has jumped: what was drafted before it is past repair."""
        self.accounts.pop(image, None)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(account.nbytes for account in self.accounts.values())
