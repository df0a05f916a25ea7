"""Repair past drafts with what is known now.

A draft at step j was extrapolated from the anchors before it. As soon as the next prediction is computed, the same place can be
*interpolated* between anchors, several times more accurately. What the two estimates differ by has meanwhile moved the latent, by
strides that are known (`Solver`). The computed prediction is served such that the step that the sampler makes anyway takes this drift
back. A sampler that looks back at slopes meets the repair again in its next steps; what follows is served such that it cancels there,
so that the latent stays where it belongs. All of it happens in the guided prediction, the one thing that the sampler follows, whatever
made it.
"""

from collections.abc import Collection

import torch

from .polynomial import lagrange
from .schedule import SAME_PLACE, Moment, Schedule
from .solver import Solver

ANCHORS = 3  # a parabola: two anchors before the streak and the one after it
TRUST = 0.2  # relative size of a repair at which half of it is made


class Account:
    """What one image has been served, as the slope v = (x - denoised) / sigma that the sampler follows."""

    def __init__(self, solver: Solver) -> None:
        self.strides = solver.strides
        self.anchors: list[tuple[float, torch.Tensor]] = []
        self.drafts: dict[int, tuple[float, torch.Tensor]] = {}
        self.off: dict[int, torch.Tensor] = {}  # what was served beside the best that is known, at steps that the sampler looks back at

    def drafted(self, moment: Moment, velocity: torch.Tensor) -> torch.Tensor | None:
        """A draft is served: `velocity` [...], float32. Returns what is to be added to it; None if nothing."""
        self.drafts[moment.step] = moment.coordinate, velocity
        return self._served(moment.step, self._cancelling(moment.step))

    def computed(self, moment: Moment, velocity: torch.Tensor) -> torch.Tensor | None:
        """A prediction was computed.

        Args:
            moment: where. velocity: [...], float32.

        Returns:
            What is to be added to this velocity so that the sampler's step repairs the streak before it; None if nothing.
            A repair that is large against the velocity itself is made in part, 1 / (1 + (size / TRUST)^2): the model then reacts to
            the jump, and the next forecasts suffer from it.
        """
        kept = [anchor for anchor in self.anchors if abs(anchor[0] - moment.coordinate) > SAME_PLACE]
        self.anchors = [*kept, (moment.coordinate, velocity)][-ANCHORS:]
        addition = self._cancelling(moment.step)
        drafts, self.drafts = self.drafts, {}
        if not drafts or len(self.anchors) < 2:
            return self._served(moment.step, addition)
        places = [place for place, _ in self.anchors]
        repair = torch.zeros_like(velocity)
        errors = {}
        for step, (place, served) in drafts.items():
            errors[step] = error = served  # nobody needs it any more
            for weight, (_, anchor) in zip(lagrange(places, place), self.anchors, strict=True):
                error.sub_(anchor, alpha=weight)
            repair.sub_(error, alpha=self._drift(step, moment.step) / self.strides[moment.step][0])
        size = torch.linalg.vector_norm(repair) / torch.linalg.vector_norm(velocity).clamp_min(1e-12)
        share = 1 / (1 + (size / TRUST) ** 2)
        for step, error in errors.items():
            self._served(step, error.mul_(share).add_(self.off.get(step, 0.0)))
        repair.mul_(share)
        return self._served(moment.step, repair if addition is None else repair.add_(addition))

    def _drift(self, step: int, now: int) -> float:
        """How far the slope served at `step` has moved the latent when the step from `now` is done, per unit."""
        return sum(self.strides[n][n - step] for n in range(step, now + 1) if n - step < len(self.strides[n]))

    def _cancelling(self, step: int) -> torch.Tensor | None:
        """What is to be added at `step`, so that what was served before it beside the best that is known has no effect there."""
        first, *further = self.strides[step]
        seen = [(self.off[step - lag], stride) for lag, stride in enumerate(further, 1) if step - lag in self.off]
        if not seen:
            return None
        addition = torch.zeros_like(seen[0][0])
        for off, stride in seen:
            addition.sub_(off, alpha=stride / first)
        return addition

    def _served(self, step: int, off: torch.Tensor | None) -> torch.Tensor | None:
        """Remember what was served at `step` beside the best that is known, as far as the next steps look back."""
        if off is not None:
            self.off[step] = off
        oldest = step + 2 - len(self.strides[0])
        self.off = {step: off for step, off in self.off.items() if step >= oldest}
        return off

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        kept = [velocity for _, velocity in [*self.anchors, *self.drafts.values()]]
        return sum(velocity.nbytes for velocity in [*kept, *self.off.values()])


class Hindsight:
    """The repairs of one run."""

    def __init__(self, schedule: Schedule, solver: Solver | None) -> None:
        self.schedule = schedule
        self.solver = solver
        self.accounts: dict[int, Account] = {}

    def serve(self, moment: Moment, x: torch.Tensor, denoised: torch.Tensor, drafted: Collection[int]) -> torch.Tensor:
        """Serve a prediction such that the sampler's next step repairs the drafts before it.

        Args:
            moment: of the prediction; off the schedule's grid, and at its last sigma, nothing is repaired.
            x: [images, ...] latents. denoised: [images, ...] the guided prediction; it is left as it is.
            drafted: indices of the images whose prediction is a draft.

        Returns:
            [images, ...] what the sampler gets.
        """
        if self.solver is None or not moment.on_grid or moment.step == self.schedule.steps:
            return denoised
        served = denoised
        for image in range(len(x)):
            account = self.accounts.setdefault(image, Account(self.solver))
            velocity = (x[image].float() - denoised[image].float()) / moment.sigma
            addition = account.drafted(moment, velocity) if image in drafted else account.computed(moment, velocity)
            if addition is not None:
                served = denoised.clone() if served is denoised else served
                served[image] -= moment.sigma * addition.to(served.dtype)
        return served

    def forget(self, image: int) -> None:
        """The image has jumped: what was drafted before it is past repair. Of repairs made, the sampler still sees the echo."""
        if account := self.accounts.get(image):
            account.anchors.clear()  # a repair needs two

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(account.nbytes for account in self.accounts.values())
