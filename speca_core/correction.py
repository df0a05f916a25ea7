"""Hindsight: deferred correction of past drafts.

A draft was extrapolated from the anchors before it. Once the next prediction is computed, the same
place can be *interpolated* between anchors, several times more accurately. The difference of the
two estimates has meanwhile moved the latent, by strides that are known (`SamplerResponse`). So the
computed prediction is served such that the sampler's next movement takes that displacement back. A
sampler that looks back at earlier slopes meets the correction again in its next turns; later
predictions are served such that it cancels there. All of it happens in the guided prediction, the
one thing that the sampler follows, whatever made it.
"""

from collections.abc import Collection

import torch

from .axis import SAME_PLACE, SchedulePoint, lagrange
from .sampler_response import SamplerResponse

ANCHORS = 3  # a parabola: two anchors before the streak and the one after it
TRUST = 0.2  # relative size of a correction at which half of it is made


class ImageCorrection:
    """What one image was served, as the slope v = (x - denoised) / sigma that the sampler follows.

    A turn is counted as in `SamplerResponse`, a place is a coordinate, a slope is [...] float32.

    Attributes:
        anchors: places and slopes.
        drafts: places and slopes, by turn.
        residuals: served slope minus the best later estimate of it, at the turns that the sampler
            looks back at.
    """

    def __init__(self, response: SamplerResponse) -> None:
        self.strides = response.strides
        self.anchors: list[tuple[float, torch.Tensor]] = []
        self.drafts: dict[int, tuple[float, torch.Tensor]] = {}
        self.residuals: dict[int, torch.Tensor] = {}

    def drafted(self, turn: int, place: float, slope: torch.Tensor) -> torch.Tensor | None:
        """A draft is served: `slope`. Returns what to add to it; None if nothing.

        A draft at the place of an anchor, as in Heun's second call there, is not corrected later:
        the anchor was known when it was drafted.
        """
        if all(abs(anchor[0] - place) > SAME_PLACE for anchor in self.anchors):
            self.drafts[turn] = place, slope
        return self._served(turn, self._compensation(turn))

    def computed(self, turn: int, place: float, slope: torch.Tensor) -> torch.Tensor | None:
        """A prediction was computed: `slope`.

        Returns:
            What to add to it so that the sampler's movement corrects the streak before it; None if
            nothing. Of a correction that is large against the slope itself only a part is made,
            1 / (1 + (size / TRUST)^2): the model would react to the jump, and the next forecasts
            would suffer.
        """
        kept = [anchor for anchor in self.anchors if abs(anchor[0] - place) > SAME_PLACE]
        self.anchors = [*kept, (place, slope)][-ANCHORS:]
        addition = self._compensation(turn)
        drafts, self.drafts = self.drafts, {}
        if not drafts or len(self.anchors) < 2:
            return self._served(turn, addition)
        places = [anchor[0] for anchor in self.anchors]
        correction = torch.zeros_like(slope)
        errors = {}
        for earlier, (where, served) in drafts.items():
            errors[earlier] = error = served  # nobody needs it any more
            for weight, (_, anchor) in zip(lagrange(places, where), self.anchors, strict=True):
                error.sub_(anchor, alpha=weight)
            moved = self._displacement(earlier, turn)
            correction.sub_(error, alpha=moved / self.strides[turn][0])
        norm = torch.linalg.vector_norm
        size = norm(correction) / norm(slope).clamp_min(1e-12)
        share = 1 / (1 + (size / TRUST) ** 2)
        for earlier, error in errors.items():
            self._served(earlier, error.mul_(share).add_(self.residuals.get(earlier, 0.0)))
        correction.mul_(share)
        return self._served(turn, correction if addition is None else correction.add_(addition))

    def _displacement(self, turn: int, now: int) -> float:
        """How far the slope served at `turn` has moved the latent after turn `now`, per unit."""
        lags = range(now - turn + 1)
        return sum(
            self.strides[turn + lag][lag] for lag in lags if lag < len(self.strides[turn + lag])
        )

    def _compensation(self, turn: int) -> torch.Tensor | None:
        """What to add at `turn`, so that earlier residuals have no effect there."""
        first, *further = self.strides[turn]
        seen = [
            (self.residuals[turn - lag], stride)
            for lag, stride in enumerate(further, 1)
            if turn - lag in self.residuals
        ]
        if not seen:
            return None
        addition = torch.zeros_like(seen[0][0])
        for residual, stride in seen:
            addition.sub_(residual, alpha=stride / first)
        return addition

    def _served(self, turn: int, residual: torch.Tensor | None) -> torch.Tensor | None:
        """Remember the residual of `turn`, as far as the sampler looks back. Returns it."""
        if residual is not None:
            self.residuals[turn] = residual
        oldest = turn + 2 - len(self.strides[0])
        self.residuals = {turn: kept for turn, kept in self.residuals.items() if turn >= oldest}
        return residual

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        kept = [slope for _, slope in [*self.anchors, *self.drafts.values()]]
        return sum(slope.nbytes for slope in [*kept, *self.residuals.values()])


class DeferredCorrection:
    """The corrections of one run.

    Args:
        response: of the sampler; None: nothing is corrected.
        store: where slopes are kept; None: where the latents are.
    """

    def __init__(self, response: SamplerResponse | None, store: torch.device | None = None) -> None:
        self.response = response
        self.store = store
        self.turn = -1  # the sampler's last one
        self.images: dict[int, ImageCorrection] = {}

    def serve(
        self,
        point: SchedulePoint,
        x: torch.Tensor,
        denoised: torch.Tensor,
        drafted: Collection[int],
    ) -> torch.Tensor:
        """Serve a prediction such that the sampler's next movement corrects the drafts before it.

        Args:
            point: of the prediction; if the sampler was not expected to ask here, nothing is
                corrected.
            x: [images, ...] latents.
            denoised: [images, ...] the guided prediction; it is left as it is.
            drafted: indices of the images whose prediction is a draft.

        Returns:
            [images, ...] what the sampler gets.
        """
        turn = self.response.turn(self.turn, point.sigma) if self.response else None
        if self.response is None or turn is None:
            return denoised
        self.turn = turn
        served = denoised
        for image in range(len(x)):
            correction = self.images.setdefault(image, ImageCorrection(self.response))
            slope = (x[image].float() - denoised[image].float()).div_(point.sigma)
            note = correction.drafted if image in drafted else correction.computed
            addition = note(turn, point.coordinate, slope.to(self.store or slope.device))
            if addition is not None:
                served = denoised.clone() if served is denoised else served
                served[image].sub_(addition.to(served), alpha=point.sigma)
        return served

    def forget(self, image: int) -> None:
        """The image has jumped: its drafts are past correction. The sampler still sees the echo of
        corrections that were made."""
        if correction := self.images.get(image):
            correction.anchors.clear()  # a correction needs two

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(correction.nbytes for correction in self.images.values())
