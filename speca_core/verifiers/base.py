"""What a verifier is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch

from ..settings import Settings
from ..subject import Draft, Head
from ..tensors import relative_error


@dataclass(frozen=True)
class BlockPosition:
    """Which block of the model this is: its stack, and whether it is the model's first or last."""

    stack: int
    first: bool
    last: bool


class Block(Protocol):
    """One block, in one pass over some rows.

    Attributes:
        position: in the model.
        inputs: the residual streams that it is given, [rows, ...] each.
    """

    position: BlockPosition

    @property
    def inputs(self) -> list[torch.Tensor]: ...

    def run(self, inputs: Sequence[torch.Tensor] | None = None) -> Any:
        """Compute the block, with other streams in place of its own if some are given. Returns its
        outputs, in the model's own form."""
        ...

    def skip(self) -> Any:
        """The inputs, in the form of outputs."""
        ...

    def image(self, outputs: Any) -> torch.Tensor:
        """The image stream in the first block's outputs, [rows, ...]."""
        ...

    def observe(self, tap: str, features: Sequence[torch.Tensor] | torch.Tensor) -> None:
        """Keep computed features, one per row, as anchors of a tap."""
        ...

    def observe_image(self, tap: str, outputs: Any) -> None:
        """Keep the image stream of outputs as anchors of a tap, once it is known which that is."""
        ...


class Verifier(Settings):
    """Base of the verifiers: how a draft is checked. The defaults check nothing.

    Attributes:
        block: the block that a draft really computes. "first": its true input is known, so if every
            row is rejected the same pass goes on with the second block. "last": its input is a
            forecast. Empty: none, and the verifier works at every level.
        depth: anchors that it can use itself.
        min_anchors: fewest anchors with which it can judge.
        judges_drafts: it gives drafts an error.
    """

    block: ClassVar[Literal["", "first", "last"]] = ""
    depth: ClassVar[int] = 1
    min_anchors: ClassVar[int] = 1
    judges_drafts: ClassVar[bool] = True

    def runs(self, position: BlockPosition) -> bool:
        """Whether a draft really computes this block."""
        return bool(self.block) and bool(getattr(position, self.block))

    def before_block(self, block: Block) -> None:
        """A full pass is about to compute a block that `runs` names: observe what is needed. Not in
        a pass that began as a draft: there the block has already run."""

    def after_block(self, block: Block, outputs: Any) -> None:
        """A full pass has computed it: observe what is needed."""

    def draft_block(self, draft: Draft, block: Block) -> Any:
        """A draft has come to it: run it, judge if that is possible. Returns its outputs.

        If it is the last block, and really ran, set `draft.last_block_ran`.
        """
        return block.run()

    def verify(self, draft: Draft, head: Head, drafted: Any) -> Any:
        """A draft has come to the model's head: judge it, unless that was done.

        Args:
            drafted: the head's result for the forecast.

        Returns:
            What to serve in the rows that pass.
        """
        draft.accept()
        return drafted

    def embedded_pair(
        self, coordinates: Sequence[float], at: float
    ) -> tuple[list[float], list[float]] | None:
        """Weights of two forecasts of the head's input to compare with each other; None: there is
        no such pair. Arguments are those of `Linear.weights`."""
        return None

    def is_surprised(self, surprise: float) -> bool:
        """In a run with a path model: whether a computed output is too far off its forecast.

        Args:
            surprise: how many times as far off as it usually is with this model; 0 and up.
        """
        return False

    def difference(self, head: Head, result: Any, other: Any) -> torch.Tensor:
        """How far one result of the head is from another, [rows], in the model's output; where that
        has parts, the worst part's: a norm over all of it would hide the small ones."""
        both = (head.parts(head.measured(each)) for each in (result, other))
        errors = [self.error(a, b) for a, b in zip(*both, strict=True)]
        return errors[0] if len(errors) == 1 else torch.stack(errors).amax(0)

    def error(self, forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """How far each row's forecast is from the reference; see `relative_error`. Hindcasts are
        measured by it as well, so an own judgement belongs into `draft_block` or `verify`.

        Args:
            forecast, reference: [rows, ...], same shape and device, any float dtype.

        Returns:
            [rows] float32, 0 (equal) and up; `inf` where it is not finite, so that it is rejected.
        """
        return relative_error(forecast, reference)
