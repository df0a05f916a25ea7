"""What a call speculates on: a prediction, features inside the model, a recorded run, a toy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from .anchors import HEAD_INPUT

if TYPE_CHECKING:
    from .call import Call


class Subject(Protocol):
    """Knows how to draft rows of a call and how to compute them; `Call.answer` does the rest.

    Example: a subject whose truth is known, as the unit tests have it.

        class Line:
            def draft(self, call, rows):
                accepted, _ = call.judge(rows, [0.0] * len(rows))
                return accepted, call.forecast(HEAD_INPUT, accepted)

            def compute(self, call, rows):
                truth = [torch.tensor([call.point.coordinate])] * len(rows)
                call.observe(HEAD_INPUT, rows, truth)
                return truth
    """

    def draft(self, call: Call, rows: Sequence[int]) -> tuple[Sequence[int], Any]:
        """Draft `rows` from `call.forecast`, and have the drafts judged by `call.judge`.

        Returns:
            The rows that are answered, and one output for each of them. Rejected rows are left out,
            unless the subject went on to compute them itself.
        """
        ...

    def compute(self, call: Call, rows: Sequence[int]) -> Any:
        """Really evaluate `rows`, and let the call learn from them. Returns one output per row."""
        ...


class Source(Protocol):
    """Where drafts get their forecasts, and computed features go: a `Call`, or a self-test."""

    def forecast(self, tap: str, rows: Sequence[int]) -> torch.Tensor:
        """Forecasts of a tap, [rows, ...]."""
        ...

    def embedded_pair(self, rows: Sequence[int]) -> Iterator[torch.Tensor] | None:
        """Two forecasts of the head's input, one after the other; see `Verifier.embedded_pair`."""
        ...

    def judge(
        self, rows: Sequence[int], errors: Sequence[float] | None
    ) -> tuple[list[int], list[int]]:
        """(accepted rows, rejected rows)."""
        ...

    def learn(self, rows: Sequence[int], features: torch.Tensor, output: Any, head: Head) -> None:
        """Score the forecasts of computed rows, then keep their features; see `Call.learn`."""
        ...

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Keep computed features of a tap, one per row."""
        ...


class Head(Protocol):
    """One call of the model's head, as a function of its input."""

    def __call__(self, stream: torch.Tensor | None = None) -> Any:
        """The result for an input [rows, ...]; for what it was called with if there is none."""
        ...

    def measured(self, result: Any) -> torch.Tensor:
        """The model's output in which errors are measured, [rows, ...], made of a result."""
        ...

    def parts(self, measured: torch.Tensor) -> Sequence[torch.Tensor]:
        """What of it is judged apart, [rows, ...] each: video and audio in one row."""
        ...


class Identity:
    """The head of a prediction: what is forecast is the output itself."""

    def __init__(self, stream: torch.Tensor) -> None:
        self.stream = stream

    def __call__(self, stream: torch.Tensor | None = None) -> torch.Tensor:
        return self.stream if stream is None else stream

    def measured(self, result: torch.Tensor) -> torch.Tensor:
        return result

    def parts(self, measured: torch.Tensor) -> Sequence[torch.Tensor]:
        return (measured,)


class Draft:
    """Rows of a call while they are drafted: what a verifier works with.

    Attributes:
        rows: of the call.
        judged: a verdict was given. accepted: the rows then.
        last_block_ran: the head's input was really computed, from a forecast of its block's input.
    """

    def __init__(self, source: Source, rows: Sequence[int]) -> None:
        self.rows = list(rows)
        self.judged = False
        self.accepted: list[int] = []
        self.last_block_ran = False
        self._source = source

    def forecast(self, tap: str = HEAD_INPUT) -> torch.Tensor:
        """The forecast of a tap, [rows, ...]."""
        return self._source.forecast(tap, self.rows)

    def embedded_pair(self) -> Iterator[torch.Tensor] | None:
        """Two forecasts of the head's input, [rows, ...]; each is made when it is asked for."""
        return self._source.embedded_pair(self.rows)

    def judge(self, errors: torch.Tensor) -> None:
        """Verdict by the errors, [rows]. Reading them is where a draft waits for the device."""
        self._decide(errors.tolist())

    def accept(self) -> None:
        """Serve the draft unchecked."""
        self._decide(None)

    def reject(self) -> None:
        """Nothing can be compared: the anchors have another shape than this pass's stream (caches
        filled or empty), or a patch left out the block that is compared."""
        self._decide([float("inf")] * len(self.rows))

    def _decide(self, errors: Sequence[float] | None) -> None:
        self.judged = True
        self.accepted, _ = self._source.judge(self.rows, errors)
