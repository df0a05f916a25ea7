"""What a verifier is."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

import torch

from ..history import PART
from ..knobs import Settings

Runs = Literal["first", "last", "none"]

EPSILON = 1e-8  # keeps 0/0 finite; far below the norm of any real feature in float32


class Verifier(Protocol):
    """A verifier says what a draft is compared with, and how far off it is.

    Attributes:
        name: key in the table, shown in the node.
        help: one line for the widget's tooltip.
        runs: the block that a draft really computes. "first": its true input is known, so if every row is rejected the same pass
            goes on with the second block and nothing is wasted. "last": its input is a forecast too. "none": no block runs.
        depth: how many anchors it can use itself.
        min_anchors: fewest anchors with which it can judge.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    runs: ClassVar[Runs]
    depth: ClassVar[int]
    min_anchors: ClassVar[int]

    def opinions(self, coordinates: Sequence[float], at: float) -> tuple[list[float], list[float]] | None:
        """Weights of two forecasts of the exit whose outputs are compared instead of a block's; None if there is no such pair."""
        ...

    def error(self, forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """How far each row's forecast is from the computed reference.

        Args:
            forecast, reference: [rows, ...], same shape, any float dtype, same device.

        Returns:
            [rows] float32, 0 (equal) and up; `inf` where either is not finite, so that it can only be rejected.
        """
        ...

    def to_dict(self) -> dict[str, object]: ...


class BlockCheck(Settings):
    """Base of the verifiers that compare with a block that really runs, and of the one that compares with nothing."""

    depth: ClassVar[int] = 1
    min_anchors: ClassVar[int] = 1

    def opinions(self, coordinates: Sequence[float], at: float) -> None:
        """There is no pair of forecasts."""
        return None

    def error(self, forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Relative error per row; see `relative_error`."""
        return relative_error(forecast, reference)


def relative_error(forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Global relative L2 error per row, ||p - y|| / (||y|| + eps), in float32: the paper's metric, per row.

    The elementwise ratio of the released code is heavy-tailed (the same 5 % of noise scores 0.37 to 7.3); this one is not. Features are
    read part by part, so that no temporary is as large as they are.

    Args:
        forecast, reference: [rows, ...], same shape, any float dtype.

    Returns:
        [rows] float32 >= 0, `inf` where not finite.
    """
    size = max(1, PART * reference.shape[1] // max(1, reference.numel()))
    norms = []
    for p, y in zip(torch.split(forecast, size, dim=1), torch.split(reference, size, dim=1), strict=True):
        truth = y.flatten(1).float()
        norms.append(torch.stack([torch.linalg.vector_norm(part, dim=1) for part in (p.flatten(1).float() - truth, truth)]))
    difference, norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    error = difference / (norm + EPSILON)
    return torch.where(torch.isfinite(error), error, torch.inf)
