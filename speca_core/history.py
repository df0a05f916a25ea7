"""Anchors: what was really computed, and where on the schedule."""

from collections.abc import Sequence

import torch

from .schedule import SAME_PLACE

PART = 1 << 22  # numbers that are summed at a time: 16 MB of float32


class FeatureHistory:
    """The newest `depth` anchors of one tap of one lane, oldest first.

    Raw features are kept, not derivative ladders: nearly every published forecaster is one weighted sum of a few anchors, and
    differences of nearly equal bfloat16 tensors would be mostly rounding noise.

    Args:
        depth: anchors kept.
        store: where they are kept; None: where the features are.
    """

    def __init__(self, depth: int, store: torch.device | None = None) -> None:
        self.depth = depth
        self.store = store
        self.device: torch.device | None = None  # of the newest feature
        self.coordinates: tuple[float, ...] = ()
        self.anchors: tuple[torch.Tensor, ...] = ()

    def record(self, at: float, feature: torch.Tensor) -> None:
        """Keep a copy of `feature` (any shape and dtype, on any device) as the anchor at the coordinate `at`.

        The copy is essential: blocks write into their residual stream in place. An anchor at the same place is replaced.
        """
        kept = [(s, f) for s, f in zip(self.coordinates, self.anchors, strict=True) if abs(s - at) > SAME_PLACE]
        kept = [*kept, (at, feature.to(self.store or feature.device, copy=True))][-self.depth :]
        self.device = feature.device
        self.coordinates = tuple(s for s, _ in kept)
        self.anchors = tuple(f for _, f in kept)

    def has(self, at: float) -> bool:
        """Whether there is an anchor at the coordinate `at`."""
        return any(abs(s - at) <= SAME_PLACE for s in self.coordinates)

    def anchor_at(self, at: float) -> torch.Tensor:
        """The anchor at the coordinate `at`, where `has(at)`, on the features' device."""
        (anchor,) = (f for s, f in zip(self.coordinates, self.anchors, strict=True) if abs(s - at) <= SAME_PLACE)
        return anchor.to(self.device)

    def at_hand(self, count: int) -> tuple[torch.Tensor, ...]:
        """The newest `count` anchors on the features' device: those kept elsewhere are copied there for as long as they are used."""
        return tuple(anchor.to(self.device) for anchor in self.anchors[-count:])

    @property
    def nbytes(self) -> int:
        """Memory held by the anchors, in bytes."""
        return sum(a.nbytes for a in self.anchors)


def weighted_sum(weights: Sequence[float], anchors: Sequence[torch.Tensor]) -> torch.Tensor:
    """sum_i weights[i] * anchors[i], accumulated in float32, returned in the anchors' dtype and shape.

    Anchors have one dimension or more. They are read part by part, so that no temporary is as large as an anchor: a video's fills
    hundreds of MB. A zero weight skips its anchor.
    """
    terms = [(w, a) for w, a in zip(weights, anchors, strict=True) if w != 0.0]
    if not terms:
        return torch.zeros_like(anchors[-1])
    if len(terms) == 1 and terms[0][0] == 1.0:
        return terms[0][1]
    result = torch.empty_like(anchors[-1])
    size = max(1, PART * len(result) // max(1, result.numel()))
    for begin in range(0, len(result), size):
        part = slice(begin, begin + size)
        total = terms[0][1][part].to(torch.float32, copy=True).mul_(terms[0][0])
        for weight, anchor in terms[1:]:
            total.add_(anchor[part], alpha=weight)
        result[part] = total
    return result
