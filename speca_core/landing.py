"""Landing: a run with a path model is served such that the sampler arrives at the best estimate of
the plain run's next latent.

Everything that was computed so far says where the plain run would be now, and where it goes. The
slope that takes the sampler from its latent to there, by its own strides, is served: a draft
follows the forecast, and a computed turn also takes back what the drafts before it did wrong
(hindsight).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from .anchors import HEAD_INPUT, FeatureHistory
from .axis import SchedulePoint
from .lane import START, Lane
from .path_model import PathModel
from .tensors import weighted_sum


class Landing:
    """The landings of one run.

    Args:
        path: what is known of it.
    """

    def __init__(self, path: PathModel) -> None:
        self.path = path
        self.lags = max(len(strides) for strides in path.response.strides) - 1
        self.served: dict[int, dict[int, torch.Tensor]] = {}  # slopes, by image and turn

    def serve(
        self,
        point: SchedulePoint,
        x: torch.Tensor,
        denoised: torch.Tensor,
        drafted: Collection[int],
        lanes: Mapping[int, Lane],
    ) -> torch.Tensor:
        """Serve a prediction.

        Args:
            point: of the prediction; its coordinate is the turn.
            x: [images, ...] latents.
            denoised: [images, ...] the guided prediction; it is left as it is.
            drafted: indices of the images whose prediction is a draft.
            lanes: by image.

        Returns:
            [images, ...] what the sampler gets. An image that has had no draft yet gets its own.
        """
        turn, served = int(point.coordinate), denoised
        for image, lane in lanes.items():
            if turn == 0:
                lane.histories[START] = FeatureHistory(1, lane.histories[HEAD_INPUT].store)
                lane.histories[START].record(0.0, x[image])
            turns, anchors = lane.turns, lane.course
            slope = None
            computed = image not in drafted
            has_drafted = len(turns) < turn + computed
            # A draft's own slope is the right one, unless the sampler also looks at earlier ones.
            if anchors and has_drafted and (computed or self.lags):
                slope = self._slope(turns, turn, anchors, self.served.get(image, {}))
                served = denoised.clone() if served is denoised else served
                served[image] = x[image] - point.sigma * slope.to(x.dtype)
            if self.lags:
                if slope is None:
                    slope = (x[image].float() - denoised[image].float()) / point.sigma
                kept = {**self.served.get(image, {}), turn: slope}
                self.served[image] = {t: s for t, s in kept.items() if t > turn - self.lags}
        return served

    def _slope(
        self,
        turns: tuple[int, ...],
        turn: int,
        anchors: Sequence[torch.Tensor],
        served: Mapping[int, torch.Tensor],
    ) -> torch.Tensor:
        """The slope to serve at `turn`, float32: one weighted sum."""
        first, *further = self.path.response.strides[turn]
        weights = self.path.movement_weights(turns, turn)
        terms = [(w / first, anchor.float()) for w, anchor in zip(weights, anchors, strict=True)]
        for lag, stride in enumerate(further, 1):
            if turn - lag in served:
                terms.append((-stride / first, served[turn - lag]))
        return weighted_sum([w for w, _ in terms], [tensor for _, tensor in terms])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(slope.nbytes for slopes in self.served.values() for slope in slopes.values())
