"""Landing: a run with a path model is served such that the sampler arrives at the best estimate of
the plain run's next latent.

Everything that was computed so far says where the plain run would be now, and where it goes. The
slope that takes the sampler from its latent to there, by its own strides, is served: a draft
follows the forecast, and a computed turn also takes back what the drafts before it did wrong
(hindsight).

The strides also say where the sampler arrives next. A latent that is further from there than the
whole movement is long has jumped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from .anchors import HEAD_INPUT, FeatureHistory
from .axis import SchedulePoint
from .courses import WINDOW
from .jumps import TINY, lengths
from .lane import START, Lane
from .path_model import PathModel
from .tensors import weighed, weighted_sum


class Landing:
    """The landings of one run.

    Args:
        path: what is known of it.

    Attributes:
        store: where tensors are kept; None: where the latents are.
    """

    def __init__(self, path: PathModel) -> None:
        self.path = path
        self.store: torch.device | None = None
        self.drawn: torch.Tensor | None = None  # see `Session.draw`
        self.lags = max(len(strides) for strides in path.response.strides) - 1
        self.served: dict[int, torch.Tensor] = {}  # slopes [images, ...] float32, by turn
        # Where the sampler arrives next, and how far it moves there: [images, ...], [images].
        self._next: tuple[torch.Tensor, torch.Tensor] | None = None

    def observe(self, sigma: torch.Tensor, x: torch.Tensor) -> tuple[float, set[int]]:
        """The sampler asks at `x`; see `JumpDetector.observe`."""
        numbers, foreseen = [sigma.reshape(1)], self._next
        self._next = None
        if foreseen is not None and foreseen[0].shape == x.shape:
            arrival, moved = foreseen
            miss = weighed(arrival.sub_(x.to(arrival.device)), self.drawn)
            misses = lengths(miss) / moved.clamp_min(TINY)
            numbers.append(misses.to(sigma.device))
        level, *ratios = torch.cat(numbers).tolist()
        return level, {image for image, miss in enumerate(ratios) if not miss <= 1}

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
        before = {at: slopes.to(x.device) for at, slopes in self.served.items()}
        for image, lane in lanes.items():
            if turn == 0:
                lane.histories[START] = FeatureHistory(1, lane.histories[HEAD_INPUT].store)
                lane.histories[START].record(0.0, x[image])
            computed = image not in drafted
            has_drafted = len(lane.turns) <= turn
            # A draft's own slope is the right one, unless the sampler also looks at earlier ones.
            if lane.on_course and has_drafted and (computed or self.lags):
                earlier = {at: slopes[image] for at, slopes in before.items()}
                served = denoised.clone() if served is denoised else served
                weights, slopes = self._slope(lane.turns, turn, lane.course, earlier)
                weights = [1.0, *(-point.sigma * weight for weight in weights)]
                weighted_sum(weights, [x[image], *slopes], served[image])
        slope = x.to(torch.float32, copy=True).sub_(served).div_(point.sigma)
        self._foresee(turn, x, slope)
        return served

    def _foresee(self, turn: int, x: torch.Tensor, slope: torch.Tensor) -> None:
        """Remember where the sampler goes from `x`, being served `slope` [images, ...]."""
        self.served[turn] = slope.to(self.store or slope.device)
        strides = [*enumerate(self.path.response.strides[turn])]
        if all(turn - lag in self.served or not stride for lag, stride in strides):
            terms = [(stride, self.served[turn - lag]) for lag, stride in strides if stride]
            movement = torch.empty_like(self.served[turn])
            weighted_sum([w for w, _ in terms], [slopes for _, slopes in terms], movement)
            moved = lengths(weighed(movement, self.drawn))
            self._next = movement.add_(x.to(movement.device)), moved
        self.served = {at: kept for at, kept in self.served.items() if at > turn - self.lags}

    def _slope(
        self,
        turns: tuple[int, ...],
        turn: int,
        anchors: Sequence[torch.Tensor],
        served: Mapping[int, torch.Tensor],
    ) -> tuple[list[float], list[torch.Tensor]]:
        """The slope to serve at `turn`: of which tensors it is the sum, and with which weights."""
        first, *further = self.path.response.strides[turn]
        weights = self.path.movement_weights(turns, turn)
        terms = [(w / first, anchor) for w, anchor in zip(weights, anchors, strict=True)]
        for lag, stride in enumerate(further, 1):
            if turn - lag in served:
                terms.append((-stride / first, served[turn - lag]))
        return [w for w, _ in terms], [tensor for _, tensor in terms]

    def foreseen(self, latents: torch.Tensor) -> int:
        """Bytes that a run of such latents will hold, the lanes' anchors and a repair included."""
        kept = 1 + WINDOW + 1  # the first latent, the anchors, what was said before the repair
        own = 1 + self.lags  # where the sampler arrives, and what it was served
        return kept * latents.nbytes + 4 * (own * latents.numel() + len(latents))

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(kept.nbytes for kept in (*self.served.values(), *(self._next or ())))
