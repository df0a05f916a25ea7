"""What a forecaster is."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch

from ..settings import Settings
from ..tensors import weighted_sum


class Forecaster(Protocol):
    """A forecaster extrapolates anchors.

    Attributes:
        name: key in the table, shown in the node.
        help: one line for the widget's tooltip.
        min_anchors: fewest anchors from which it will forecast.
        depth: how many anchors it can use; no more are kept.
    """

    name: ClassVar[str]
    help: ClassVar[str]

    @property
    def min_anchors(self) -> int: ...

    @property
    def depth(self) -> int: ...

    def forecast(
        self, coordinates: Sequence[float], anchors: Sequence[torch.Tensor], at: float
    ) -> torch.Tensor:
        """The feature expected at the coordinate `at`.

        Args:
            coordinates: distinct places of the anchors, in steps, oldest first; at least
                `min_anchors`, at most `depth`.
            anchors: computed features, all of one shape and dtype.
            at: place of the forecast, in steps.

        Returns:
            Shape and dtype of the anchors, on their device. Constant features are forecast exactly.
        """
        ...

    def to_dict(self) -> dict[str, object]: ...


class Linear(Settings):
    """Base of the forecasters that are weighted sums, with weights that depend on places alone."""

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """One weight per coordinate for a forecast at `at`, both in steps. They sum to 1."""
        raise NotImplementedError

    def forecast(
        self, coordinates: Sequence[float], anchors: Sequence[torch.Tensor], at: float
    ) -> torch.Tensor:
        """The weighted sum; see `Forecaster.forecast`."""
        return weighted_sum(self.weights(coordinates, at), anchors)
