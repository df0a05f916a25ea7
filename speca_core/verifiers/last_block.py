"""SpeCa's check (arXiv 2509.11628): the last block really runs, on its forecast input."""

from dataclasses import dataclass
from typing import ClassVar

from .base import BlockCheck, Runs


@dataclass(frozen=True)
class LastBlock(BlockCheck):
    """The last block runs on its forecast input; the model's output from it is compared with the output from the forecast.

    Accepted rows are served the computed block's output, which is already paid for. Cost of a draft: one block.
    """

    name = "last_block"
    help = "SpeCa's check: really compute the last block and compare the model's output"
    runs: ClassVar[Runs] = "last"
