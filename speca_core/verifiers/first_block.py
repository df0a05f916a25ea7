"""The confidence gate of CG-Taylor (arXiv 2508.02240): the first block really runs, on its true input."""

from dataclasses import dataclass
from typing import ClassVar

from .base import BlockCheck, Runs


@dataclass(frozen=True)
class FirstBlock(BlockCheck):
    """The first block runs and its output is compared with its own forecast; accepted rows are served the forecast of the last.

    A rejection of all rows costs nothing: the same pass goes on with the second block. Cost of a draft: one block.
    """

    name = "first_block"
    help = "CG-Taylor's gate: really compute the first block, go on with the second if its forecast was off"
    runs: ClassVar[Runs] = "first"
