"""A place between the model's passes and the call, from which measurements watch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from speca_pack.speca_core.call import Call
from speca_pack.speca_core.subject import Head


class Through:
    """A `Source` that hands everything on to the call; see `FeaturesSubject.source`."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def forecast(self, tap: str, rows: Sequence[int]) -> torch.Tensor:
        """See `Source.forecast`."""
        return self.call.forecast(tap, rows)

    def embedded_pair(self, rows: Sequence[int]) -> Iterator[torch.Tensor] | None:
        """See `Source.embedded_pair`."""
        return self.call.embedded_pair(rows)

    def judge(
        self, rows: Sequence[int], errors: Sequence[float] | None
    ) -> tuple[list[int], list[int]]:
        """See `Source.judge`."""
        return self.call.judge(rows, errors)

    def learn(self, rows: Sequence[int], features: torch.Tensor, output: Any, head: Head) -> None:
        """See `Source.learn`."""
        self.call.learn(rows, features, output, head)

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """See `Source.observe`."""
        self.call.observe(tap, rows, features)
