"""Anchors: features that were really computed, and where on the schedule."""

from collections.abc import Sequence

import torch

from .axis import SAME_PLACE

HEAD_INPUT = "head_input"  # the tap that every lane has: what the model's head consumes


class FeatureHistory:
    """The newest `depth` anchors of one tap of one lane, oldest first.

    Raw features are kept, not derivative ladders: nearly every published forecaster is a weighted
    sum of a few anchors, and differences of nearly equal bfloat16 tensors are mostly rounding
    noise.

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
        """Keep a copy of `feature` (any shape, dtype, device) as the anchor at the coordinate `at`.

        The copy is essential: blocks write into their residual stream in place. An anchor at the
        same place is replaced.
        """
        both = zip(self.coordinates, self.anchors, strict=True)
        kept = [(s, f) for s, f in both if abs(s - at) > SAME_PLACE]
        kept = [*kept, (at, feature.to(self.store or feature.device, copy=True))][-self.depth :]
        self.device = feature.device
        self.coordinates = tuple(s for s, _ in kept)
        self.anchors = tuple(f for _, f in kept)

    def restart(self, at: float) -> None:
        """Keep nothing but the anchor at the coordinate `at`, if there is one."""
        both = zip(self.coordinates, self.anchors, strict=True)
        kept = [(s, f) for s, f in both if abs(s - at) <= SAME_PLACE]
        self.coordinates = tuple(s for s, _ in kept)
        self.anchors = tuple(f for _, f in kept)

    def has(self, at: float) -> bool:
        """Whether there is an anchor at the coordinate `at`."""
        return any(abs(s - at) <= SAME_PLACE for s in self.coordinates)

    def anchor_at(self, at: float) -> torch.Tensor:
        """The anchor at the coordinate `at`, where `has(at)`, on the features' device."""
        both = zip(self.coordinates, self.anchors, strict=True)
        (anchor,) = (f for s, f in both if abs(s - at) <= SAME_PLACE)
        return anchor.to(self.device)

    def at_hand(self, count: int) -> Sequence[torch.Tensor]:
        """The newest `count` anchors, on the features' device for as long as they are used."""
        return tuple(anchor.to(self.device) for anchor in self.anchors[-count:])

    @property
    def nbytes(self) -> int:
        """Memory held by the anchors, in bytes."""
        return sum(a.nbytes for a in self.anchors)
