"""A draft with exact features: does the model give its own output back?

All blocks are skipped, the head gets what a full pass has just given it, and the output must be the
full pass's. A model that hides a path around the head's input (a U-Net's skips) fails.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ....speca_core.anchors import HEAD_INPUT
from ....speca_core.errors import UnsupportedModel
from ....speca_core.subject import Head
from ....speca_core.tensors import relative_error
from ....speca_core.verifiers import Verifier
from ..blocks.family import Family
from ..blocks.passes import DraftPass, FullPass, StreamMap
from ..blocks.proxy import Pass
from ..compat import is_oom


class SelfTest:
    """A `Source`: what it is shown in a full pass it gives back as forecast; it accepts all."""

    def __init__(self) -> None:
        self._features: dict[str, torch.Tensor] = {}

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Keep the features of all rows."""
        self._features[tap] = torch.stack(list(features))

    def learn(self, rows: Sequence[int], features: torch.Tensor, output: Any, head: Head) -> None:
        """Keep the head's input."""
        self.observe(HEAD_INPUT, rows, list(features))

    def forecast(self, tap: str, rows: Sequence[int]) -> torch.Tensor:
        """The features themselves."""
        return self._features[tap]

    def embedded_pair(self, rows: Sequence[int]) -> Iterator[torch.Tensor]:
        """Twice the features."""
        return iter((self._features[HEAD_INPUT], self._features[HEAD_INPUT]))

    def judge(
        self, rows: Sequence[int], errors: Sequence[float] | None
    ) -> tuple[list[int], list[int]]:
        """All are accepted; the outputs are compared instead."""
        return list(rows), []


def self_test(
    family: Family,
    verifier: Verifier,
    rows: int,
    plain: torch.Tensor,
    run: Callable[[Family, Pass], torch.Tensor],
) -> str:
    """Try a family: a full pass, then a draft with its features.

    Args:
        family: to try. verifier: whose block the draft runs.
        rows: of the call.
        plain: its output without any of ours, [rows, ...].
        run: evaluates the call with a pass.

    Returns:
        What is wrong with the family; empty if nothing is.
    """
    stream_map, source = StreamMap(family), SelfTest()
    fed = family.heads[0] if family.heads else "the last block"
    where = f"with {', '.join(family.stacks)} skipped and {fed} fed"
    parts = stream_map, verifier, source, range(rows), lambda rows, head: head
    try:
        full = run(family, FullPass(*parts))
        drafted = run(family, DraftPass(*parts))
    except (
        UnsupportedModel,
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        if is_oom(error):
            raise
        message = str(error).splitlines()[0] if str(error) else "no message"
        return f"{where}, the model fails ({type(error).__name__}: {message})"
    # Rows that lie otherwise in memory may round otherwise; a wrong tap is off by far more.
    rounding = max(1e-4, 2 * torch.finfo(source.forecast(HEAD_INPUT, [0]).dtype).eps)
    if not _close(full, plain, rounding):
        return "it gives another result when the same call is evaluated again"
    if not _close(drafted, full, rounding):
        off = relative_error(drafted, full).max().item()
        return (
            f"{where} with its exact input, the output is off by {off:.0%}: something else "
            "reaches the output"
        )
    return ""


def _close(a: torch.Tensor, b: torch.Tensor, rounding: float) -> bool:
    """Equal up to rounding, in each row."""
    return a.shape == b.shape and bool((relative_error(a, b) <= rounding).all())
