"""Repair past drafts with what is known now.

A draft was extrapolated from the anchors before it. As soon as the next prediction is computed, the same place can be
*interpolated* between anchors, several times more accurately. What the two estimates differ by has meanwhile moved the latent, by
strides that are known (`Solver`). The computed prediction is served such that the movement that the sampler makes anyway takes this drift
back. A sampler that looks back at slopes meets the repair again in its next turns; what follows is served such that it cancels there,
so that the latent stays where it belongs. All of it happens in the guided prediction, the one thing that the sampler follows, whatever
made it.
"""

from collections.abc import Collection

import torch

from .polynomial import lagrange
from .schedule import SAME_PLACE, Moment
from .solver import Solver

ANCHORS = 3  # a parabola: two anchors before the streak and the one after it
TRUST = 0.2  # relative size of a repair at which half of it is made


class Account:
    """What one image has been served, as the slope v = (x - denoised) / sigma that the sampler follows.

    A turn is counted as in `Solver`, a place is a coordinate, a slope is [...], float32.
    """

    def __init__(self, solver: Solver) -> None:
        self.strides = solver.strides
        self.anchors: list[tuple[float, torch.Tensor]] = []  # places and slopes
        self.drafts: dict[int, tuple[float, torch.Tensor]] = {}  # by turn
        self.off: dict[int, torch.Tensor] = {}  # what was served beside the best that is known, at turns that the sampler looks back at

    def drafted(self, turn: int, place: float, slope: torch.Tensor) -> torch.Tensor | None:
        """A draft is served: `slope`. Returns what is to be added to it; None if nothing.

        What will be known of it is the slope of the anchor at its place, if there is one already (Heun's second call there): that was
        known when it was drafted.
        """
        if all(abs(anchor[0] - place) > SAME_PLACE for anchor in self.anchors):
            self.drafts[turn] = place, slope
        return self._served(turn, self._cancelling(turn))

    def computed(self, turn: int, place: float, slope: torch.Tensor) -> torch.Tensor | None:
        """A prediction was computed: `slope`.

        Returns:
            What is to be added to it so that the sampler's movement repairs the streak before it; None if nothing.
            A repair that is large against the slope itself is made in part, 1 / (1 + (size / TRUST)^2): the model then reacts to
            the jump, and the next forecasts suffer from it.
        """
        kept = [anchor for anchor in self.anchors if abs(anchor[0] - place) > SAME_PLACE]
        self.anchors = [*kept, (place, slope)][-ANCHORS:]
        addition = self._cancelling(turn)
        drafts, self.drafts = self.drafts, {}
        if not drafts or len(self.anchors) < 2:
            return self._served(turn, addition)
        places = [anchor[0] for anchor in self.anchors]
        repair = torch.zeros_like(slope)
        errors = {}
        for earlier, (where, served) in drafts.items():
            errors[earlier] = error = served  # nobody needs it any more
            for weight, (_, anchor) in zip(lagrange(places, where), self.anchors, strict=True):
                error.sub_(anchor, alpha=weight)
            repair.sub_(error, alpha=self._drift(earlier, turn) / self.strides[turn][0])
        size = torch.linalg.vector_norm(repair) / torch.linalg.vector_norm(slope).clamp_min(1e-12)
        share = 1 / (1 + (size / TRUST) ** 2)
        for earlier, error in errors.items():
            self._served(earlier, error.mul_(share).add_(self.off.get(earlier, 0.0)))
        repair.mul_(share)
        return self._served(turn, repair if addition is None else repair.add_(addition))

    def _drift(self, turn: int, now: int) -> float:
        """How far the slope served at `turn` has moved the latent when the sampler has moved at `now`, per unit."""
        return sum(self.strides[n][n - turn] for n in range(turn, now + 1) if n - turn < len(self.strides[n]))

    def _cancelling(self, turn: int) -> torch.Tensor | None:
        """What is to be added at `turn`, so that what was served before it beside the best that is known has no effect there."""
        first, *further = self.strides[turn]
        seen = [(self.off[turn - lag], stride) for lag, stride in enumerate(further, 1) if turn - lag in self.off]
        if not seen:
            return None
        addition = torch.zeros_like(seen[0][0])
        for off, stride in seen:
            addition.sub_(off, alpha=stride / first)
        return addition

    def _served(self, turn: int, off: torch.Tensor | None) -> torch.Tensor | None:
        """Remember what was served at `turn` beside the best that is known, as far as the sampler looks back."""
        if off is not None:
            self.off[turn] = off
        oldest = turn + 2 - len(self.strides[0])
        self.off = {turn: off for turn, off in self.off.items() if turn >= oldest}
        return off

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        kept = [slope for _, slope in [*self.anchors, *self.drafts.values()]]
        return sum(slope.nbytes for slope in [*kept, *self.off.values()])


class Hindsight:
    """The repairs of one run."""

    def __init__(self, solver: Solver | None) -> None:
        self.solver = solver
        self.turn = -1  # the sampler's last one
        self.accounts: dict[int, Account] = {}

    def serve(self, moment: Moment, x: torch.Tensor, denoised: torch.Tensor, drafted: Collection[int]) -> torch.Tensor:
        """Serve a prediction such that the sampler's next movement repairs the drafts before it.

        Args:
            moment: of the prediction; if it is not one that the solver goes on to ask for, nothing is repaired.
            x: [images, ...] latents. denoised: [images, ...] the guided prediction; it is left as it is.
            drafted: indices of the images whose prediction is a draft.

        Returns:
            [images, ...] what the sampler gets.
        """
        turn = self.solver.turn(self.turn, moment.sigma) if self.solver else None
        if self.solver is None or turn is None:
            return denoised
        self.turn = turn
        served = denoised
        for image in range(len(x)):
            account = self.accounts.setdefault(image, Account(self.solver))
            slope = (x[image].float() - denoised[image].float()) / moment.sigma
            note = account.drafted if image in drafted else account.computed
            addition = note(turn, moment.coordinate, slope)
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
