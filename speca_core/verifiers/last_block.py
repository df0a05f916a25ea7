"""SpeCa's check (arXiv 2509.11628): the last block really runs, on its forecast input."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..subject import Draft, Head
from .base import Block, Verifier

TAP = "last_block_input"  # one tap per stream: last_block_input.0, ...


@dataclass(frozen=True)
class LastBlock(Verifier):
    """error = ||v_f - v_b|| / ||v_b||: the model's output from the forecast of the last block's
    output, and from what the block computes of the forecast of its input.

    Accepted rows are served the computed one, which is already paid for. Cost of a draft: one
    block.
    """

    name = "last_block"
    help = "SpeCa's check: really compute the last block and compare the model's output"
    block: ClassVar[Literal["last"]] = "last"

    def before_block(self, block: Block) -> None:
        """Keep what the forecasts are made of; the block may write into its inputs."""
        for i, stream in enumerate(block.inputs):
            block.observe(f"{TAP}.{i}", stream)

    def draft_block(self, draft: Draft, block: Block) -> Any:
        """Compute the block, on the forecast of its input."""
        given = block.inputs
        forecasts = [draft.forecast(f"{TAP}.{i}") for i in range(len(given))]
        shapes = zip(forecasts, given, strict=True)
        draft.last_block_ran = all(forecast.shape == own.shape for forecast, own in shapes)
        return block.run(forecasts) if draft.last_block_ran else block.skip()

    def verify(self, draft: Draft, head: Head, drafted: Any) -> Any:
        """Compare with the head's result for what the block computed, and serve that."""
        if not draft.last_block_ran:
            draft.reject()
            return drafted
        computed = head()
        draft.judge(self.difference(head, drafted, computed))
        return computed
