"""SpeCa's check (arXiv 2509.11628): the last block really runs, on its forecast input."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..knobs import Settings
from .base import Runs, relative_error


@dataclass(frozen=True)
class LastBlock(Settings):
    """The last block runs on its forecast input; the model's output from it is compared with the output from the forecast.

    Accepted rows are served the computed block's output, which is already paid for. Cost of a draft: one block.
    """

    name = "last_block"
    help = "SpeCa's check: really compute the last block and compare the model's output"
    runs: ClassVar[Runs] = "last"

    def error(self, forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Relative error of the model's output; see `relative_error`."""
        return relative_error(forecast, reference)
