"""The two ways to evaluate the model: in full, or as a draft."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import UnsupportedModel
from ..session import EXIT, Call
from ..verifiers import Verifier
from .families import Family
from .proxy import Place
from .streams import StreamLearner, Streams, as_list

FIRST = "first"  # tap: the image stream as it leaves the first block
LAST_INPUT = "last_input"  # taps: the streams that enter the last block, one each


class Anatomy:
    """What a run has learnt about its model: the streams of each stack."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.learners = [StreamLearner() for _ in family.stacks]

    def streams(self, stack: int) -> Streams:
        """The streams of a stack.

        Raises:
            UnsupportedModel: the full pass did not show them.
        """
        streams = self.learners[stack].streams
        if streams is None:
            raise UnsupportedModel(
                f"SpeCa cannot accelerate this model: the data flow of {self.family.name}.{self.family.stacks[stack]} shows no residual "
                "streams; expected each block's outputs among the next block's inputs. Bypass SpeCa Accelerate and report the model."
            )
        return streams

    def image_output(self, outputs: Any) -> torch.Tensor:
        """The image stream in the first block's outputs."""
        arguments = [argument for argument, _ in self.streams(0).slots]
        image: torch.Tensor = as_list(outputs)[arguments.index(self.family.image)]
        return image


def split(stream: torch.Tensor, rows: Sequence[int]) -> list[torch.Tensor]:
    """One view per row.

    Raises:
        UnsupportedModel: the stream's first dimension is not the batch.
    """
    if stream.shape[0] != len(rows):
        raise UnsupportedModel(
            f"SpeCa cannot accelerate this model: a residual stream has shape {tuple(stream.shape)} for {len(rows)} rows; expected the "
            "batch in the first dimension. Bypass SpeCa Accelerate and report the model."
        )
    return list(stream.unbind(0))


class FullPass:
    """Every block runs. Taps become anchors, and the forecast that would have been served is scored against the truth (hindcast).

    Args:
        anatomy: learnt further by this pass.
        verifier: says which taps are needed.
        call: the call being answered.
        rows: the call's rows that this pass evaluates, in the order of its batch.
    """

    def __init__(self, anatomy: Anatomy, verifier: Verifier, call: Call, rows: Sequence[int]) -> None:
        self.anatomy = anatomy
        self.verifier = verifier
        self.call = call
        self.rows = list(rows)
        self._first_outputs: list[torch.Tensor] = []

    def runs(self, place: Place) -> bool:
        """All of them."""
        return True

    def block(self, place: Place, block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the block; keep what the verifier will need."""
        learner = self.anatomy.learners[place.stack]
        learner.enter(args, kwargs)
        if place.last and self.verifier.runs == "last":
            for i, stream in enumerate(self.anatomy.streams(place.stack).inputs(args, kwargs)):
                self.call.observe(f"{LAST_INPUT}.{i}", self.rows, split(stream, self.rows))
        outputs = block(*args, **kwargs)
        learner.leave(outputs)
        if place.first and self.verifier.runs == "first":
            self.keep_first(outputs)
        return outputs

    def keep_first(self, outputs: Any) -> None:
        """Keep the first block's outputs: later blocks write into them, and which one is the image may not be learnt yet."""
        self._first_outputs = [out.clone() for out in as_list(outputs)]

    def head(self, head: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the head on the true stream; score the forecast of that stream; keep the stream."""
        stream, *rest = args
        output = head(stream, *rest, **kwargs)
        scorable = self.call.scorable(self.rows)
        if scorable:
            guess = stream.clone()
            for row, forecast in zip(scorable, self.call.forecast(EXIT, scorable), strict=True):
                guess[self.rows.index(row)] = forecast
            errors = self.verifier.error(head(guess, *rest, **kwargs), output).tolist()
            self.call.score(scorable, [errors[self.rows.index(row)] for row in scorable])
        if self._first_outputs:
            self.call.observe(FIRST, self.rows, split(self.anatomy.image_output(self._first_outputs), self.rows))
        self.call.observe(EXIT, self.rows, split(stream, self.rows))
        return output


class DraftPass:
    """No block runs but the verifier's; all others hand their input on, and the head gets the forecast.

    After the pass, `accepted` rows of its output may be served; `rejected` rows must be computed. If the first block's check
    rejects every row, the pass has gone on as a FullPass and its whole output is computed: `resumed` is True.
    """

    def __init__(self, anatomy: Anatomy, verifier: Verifier, call: Call, rows: Sequence[int]) -> None:
        self.anatomy = anatomy
        self.verifier = verifier
        self.call = call
        self.rows = list(rows)
        self.accepted: list[int] = []
        self.rejected: list[int] = []
        self._full: FullPass | None = None

    @property
    def resumed(self) -> bool:
        """Whether this pass went on as a full one."""
        return self._full is not None

    def runs(self, place: Place) -> bool:
        """Only the verifier's block."""
        return self.resumed or (place.first and self.verifier.runs == "first") or (place.last and self.verifier.runs == "last")

    def block(self, place: Place, block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the verifier's block; hand every other block's input on."""
        if self._full is not None:
            return self._full.block(place, block, args, kwargs)
        streams = self.anatomy.streams(place.stack)
        if place.first and self.verifier.runs == "first":
            outputs = block(*args, **kwargs)
            forecast = torch.stack(self.call.forecast(FIRST, self.rows))
            self._judge(self.verifier.error(forecast, self.anatomy.image_output(outputs)))
            if not self.accepted:
                self._full = FullPass(self.anatomy, self.verifier, self.call, self.rows)
                self._full.keep_first(outputs)
            return outputs
        if place.last and self.verifier.runs == "last":
            taps = [f"{LAST_INPUT}.{i}" for i in range(len(streams.slots))]
            forecasts = [torch.stack(self.call.forecast(tap, self.rows)) for tap in taps]
            new_args, new_kwargs = streams.replace(args, kwargs, forecasts)
            return block(*new_args, **new_kwargs)
        return streams.pack(streams.inputs(args, kwargs))

    def head(self, head: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the head on the forecast; with last-block verification also on the computed stream, and serve that."""
        if self._full is not None:
            return self._full.head(head, args, kwargs)
        stream, *rest = args
        drafted = head(torch.stack(self.call.forecast(EXIT, self.rows)), *rest, **kwargs)
        if self.verifier.runs == "last":
            output = head(stream, *rest, **kwargs)
            self._judge(self.verifier.error(drafted, output))
            return output
        if opinions := self.call.opinions(self.rows):
            low, high = (head(torch.stack(opinion), *rest, **kwargs) for opinion in opinions)
            self._judge(self.verifier.error(high, low))
        elif self.verifier.runs == "none":
            self.accepted, self.rejected = self.call.judge(self.rows, None)
        return drafted

    def _judge(self, errors: torch.Tensor) -> None:
        # Reading the errors is the one place where the device is waited for during a draft.
        self.accepted, self.rejected = self.call.judge(self.rows, errors.tolist())
