"""The confidence gate of CG-Taylor (arXiv 2508.02240): the first block runs, on its true input."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..subject import Draft, Head
from .base import Block, Verifier

TAP = "first_block_output"


@dataclass(frozen=True)
class FirstBlock(Verifier):
    """error = ||f_1 - b_1|| / ||b_1||, b_1 the first block's output and f_1 its own forecast.

    Accepted rows are served the forecast of the head's input. Rejecting all rows costs nothing: the
    same pass goes on with the second block. Cost of a draft: one block.
    """

    name = "first_block"
    help = (
        "CG-Taylor's gate: compute the first block, go on with the second if its forecast was off"
    )
    block: ClassVar[Literal["first"]] = "first"

    def after_block(self, block: Block, outputs: Any) -> None:
        """Keep what the forecasts are made of."""
        block.observe_image(TAP, outputs)

    def draft_block(self, draft: Draft, block: Block) -> Any:
        """Compute the block, and compare."""
        outputs = block.run()
        forecast, computed = draft.forecast(TAP), block.image(outputs)
        if forecast.shape == computed.shape:
            draft.judge(self.error(forecast, computed))
        else:
            draft.reject()
        return outputs

    def verify(self, draft: Draft, head: Head, drafted: Any) -> Any:
        """Serve the forecast."""
        if not draft.judged:  # this call left the first block out, as skip layer guidance may
            draft.reject()
        return drafted
