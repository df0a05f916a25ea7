"""Muon on the matrices, AdamW on everything else, with averaged weights."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

MOMENTUM = 0.95
# One piece of a parameter, as a matrix: (index, rows, columns, transposed).
Piece = tuple[int, slice, slice, bool]


class Muon:
    """Momentum, orthogonalised by five Newton-Schulz iterations (Jordan et al. 2024).

    Args:
        parameters: of two or more dimensions; the first is the matrix's rows.
        width: the model's; fused matrices of several widths are orthogonalised piece by piece.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], width: int) -> None:
        self.parameters = list(parameters)
        self.momentum = [torch.zeros_like(p) for p in parameters]
        self._pieces: dict[tuple[int, int], list[Piece]] = defaultdict(list)
        for i, parameter in enumerate(self.parameters):
            rows, columns = parameter.flatten(1).shape
            for r in self._parts(rows, width, (3, 7)):
                for c in self._parts(columns, width, (5,)):
                    shape = r.stop - r.start, c.stop - c.start
                    piece = i, r, c, shape[0] > shape[1]
                    self._pieces[min(shape), max(shape)].append(piece)

    @staticmethod
    def _parts(size: int, width: int, fused: Sequence[int]) -> list[slice]:
        """Flux fuses q, k, v (and the MLP) in 3 or 7 widths of rows, their outputs in 5 of
        columns."""
        if size not in [times * width for times in fused]:
            return [slice(0, size)]
        single = 3 if size in (3 * width, 7 * width) else 1
        parts = [slice(i * width, (i + 1) * width) for i in range(single)]
        return parts + ([slice(single * width, size)] if size > single * width else [])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update, by the parameters' gradients."""
        gradients = [p.grad for p in self.parameters]
        torch._foreach_lerp_(self.momentum, gradients, 1 - MOMENTUM)
        updates = torch._foreach_lerp(gradients, self.momentum, MOMENTUM)  # Nesterov's
        flat = [update.flatten(1) for update in updates]
        for (_, larger), pieces in self._pieces.items():
            matrices = [flat[i][r, c].T if turned else flat[i][r, c] for i, r, c, turned in pieces]
            x = torch.stack(matrices).bfloat16()
            x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
            for _ in range(5):
                square = x @ x.mT
                x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
            scaled = x.float() * (0.2 * larger**0.5)  # an update of AdamW's size
            for made, (i, r, c, turned) in zip(scaled, pieces, strict=True):
                self.parameters[i].flatten(1)[r, c].add_(made.T if turned else made, alpha=-rate)


class Training:
    """Parameters, their average, and both optimisers.

    Args:
        matrices: by Muon. others: by AdamW.
        width: see `Muon`.
        rates: of Muon and of AdamW.
    """

    def __init__(
        self,
        matrices: Sequence[torch.Tensor],
        others: Sequence[torch.Tensor],
        width: int,
        rates: tuple[float, float],
    ) -> None:
        self.parameters = [*matrices, *others]
        self.average = [p.detach().clone() for p in self.parameters]
        self.rates = rates
        self.muon = Muon(matrices, width)
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.steps = 0

    def step(self, loss: torch.Tensor, scale: float, kept: float) -> None:
        """One update.

        Args:
            scale: of both learning rates.
            kept: share of the average that stays.
        """
        self.adam.zero_grad(set_to_none=True)
        for parameter in self.muon.parameters:
            parameter.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.rates[1] * scale
        self.adam.step()
        self.muon.step(self.rates[0] * scale)
        with torch.no_grad():
            own = 1 - min(kept, self.steps / (self.steps + 10))
            torch._foreach_lerp_(self.average, self.parameters, own)
        self.steps += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the parameters with their average."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "momentum": self.muon.momentum,
            "adam": self.adam.state_dict(),
            "steps": self.steps,
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        torch._foreach_copy_(self.parameters, state["parameters"])
        torch._foreach_copy_(self.average, state["average"])
        torch._foreach_copy_(self.muon.momentum, state["momentum"])
        self.adam.load_state_dict(state["adam"])
        self.steps = state["steps"]
