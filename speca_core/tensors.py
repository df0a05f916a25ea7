"""The two things that are done with features: sum them with weights, and compare them."""

from collections.abc import Sequence
from typing import Protocol

import torch

PART = 1 << 22  # numbers that are read at a time: 16 MB of float32
EPSILON = 1e-8  # keeps 0/0 finite; far below the norm of any real feature in float32

# Outputs of some rows of a call: (rows, one output per row; a tensor [rows, ...] or a list).
Part = tuple[Sequence[int], Sequence[torch.Tensor]]


class Holder(Protocol):
    """Who keeps tensors."""

    @property
    def nbytes(self) -> int: ...


def weighted_sum(weights: Sequence[float], anchors: Sequence[torch.Tensor]) -> torch.Tensor:
    """sum_i weights[i] * anchors[i], accumulated in float32.

    Anchors are read part by part, so that no temporary is as large as an anchor: a video's fills
    hundreds of MB. A zero weight skips its anchor.

    Args:
        weights: one per anchor.
        anchors: of one shape, dtype and device, with at least one dimension.

    Returns:
        Shape and dtype of the anchors; possibly one of them itself: do not write into it.
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


def parts_of(rows: torch.Tensor, sizes: Sequence[int]) -> Sequence[torch.Tensor]:
    """The parts that rows [rows, ...] are laid end to end of, [rows, size] each; rows of another
    size are one part."""
    flat = rows.flatten(1)
    return torch.split(flat, list(sizes), 1) if sum(sizes) == flat.shape[1] else (rows,)


def relative_error(forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Relative L2 error of each row, ||p - y|| / (||y|| + eps), in float32: the paper's metric.

    The elementwise ratio of the released code is heavy-tailed (the same 5 % of noise scores 0.37
    to 7.3); this one is not. Features are read part by part; see `weighted_sum`.

    Args:
        forecast, reference: [rows, n, ...], same shape and device, any float dtype.

    Returns:
        [rows] float32, 0 and up; `inf` where it is not finite.
    """
    size = max(1, PART * reference.shape[1] // max(1, reference.numel()))
    parts = zip(
        torch.split(forecast, size, dim=1), torch.split(reference, size, dim=1), strict=True
    )
    norms = torch.stack([_norms(p, y) for p, y in parts])
    off, norm = torch.linalg.vector_norm(norms, dim=0)
    error = off / (norm + EPSILON)
    return torch.where(torch.isfinite(error), error, torch.inf)


def _norms(forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """||p - y|| and ||y|| of each row, [2, rows]. A function, so that nothing outlives its part."""
    truth = reference.flatten(1).float()
    off = forecast.flatten(1).float() - truth
    return torch.stack([torch.linalg.vector_norm(values, dim=1) for values in (off, truth)])


def join(parts: Sequence[Part]) -> torch.Tensor:
    """The outputs of all rows of a call, [rows, ...], in the order of the rows."""
    (_, first), *others = parts
    if not others and isinstance(first, torch.Tensor):
        return first
    outputs = {row: out for rows, batch in parts for row, out in zip(rows, batch, strict=True)}
    return torch.stack([outputs[row].to(first[0].dtype) for row in sorted(outputs)])
