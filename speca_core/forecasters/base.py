"""What a forecaster is."""

from collections.abc import Sequence
from typing import ClassVar, Protocol


class Forecaster(Protocol):
    """A forecast is a weighted sum of anchors; a forecaster chooses the weights.

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

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """Weights of the anchors for a forecast at position `at`.

        Args:
            coordinates: distinct positions of the anchors, oldest first; at least `min_anchors`, at most `depth`.
            at: position of the forecast, in steps.

        Returns:
            One weight per coordinate. They sum to 1, so a constant feature is forecast exactly.
        """
        ...

    def to_dict(self) -> dict[str, object]: ...
