"""The two ways to evaluate the model: in full, or as a draft."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import UnsupportedModel
from ..session import EXIT
from ..verifiers import Verifier
from .families import Family
from .proxy import Head, Place
from .streams import Arguments, StreamLearner, Streams, as_given, as_list, rows_first

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
                "streams; expected each block's outputs among the next block's inputs. Set level to prediction, which works with every "
                "model, and report this one."
            )
        return streams

    def image(self, arguments: Arguments) -> str:
        """Name of the argument that holds the image stream in the first block's call."""
        image = self.family.image
        return image if isinstance(image, str) else arguments.name(image)

    def image_output(self, place: Place, image: str, outputs: Any) -> torch.Tensor:
        """The stream that came in as `image`, in the outputs of the block at `place`, the model's first: [rows, ...]."""
        streams = self.streams(place.stack)
        output = streams.outputs[[name for name, _ in streams.slots].index(image)]
        return rows_first(as_list(outputs)[output], self.family.batch)


def split(stream: torch.Tensor, rows: Sequence[int]) -> list[torch.Tensor]:
    """One view per row.

    Raises:
        UnsupportedModel: the first dimension does not hold the rows.
    """
    if stream.shape[0] != len(rows):
        raise UnsupportedModel(
            f"SpeCa cannot accelerate this model: a residual stream has shape {tuple(stream.shape)} for {len(rows)} rows; expected "
            "one entry per row in the first dimension. Set level to prediction, which works with every model, and report this one."
        )
    return list(stream.unbind(0))


class Source(Protocol):
    """Where a pass takes its forecasts from and brings its features to: a session's `Call`, or a rehearsal."""

    def forecast(self, tap: str, rows: Sequence[int]) -> list[torch.Tensor]:
        """Forecasts of a tap, one tensor per row."""
        ...

    def opinions(self, rows: Sequence[int]) -> Iterable[list[torch.Tensor]] | None:
        """Two forecasts of the exit to be compared, one after the other, if the verifier compares such a pair."""
        ...

    def guided(self, rows: Sequence[int], outputs: torch.Tensor) -> torch.Tensor:
        """What guidance makes of the rows' outputs."""
        ...

    def judge(self, rows: Sequence[int], errors: Sequence[float] | None) -> tuple[list[int], list[int]]:
        """(accepted rows, rejected rows)."""
        ...

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Computed features of a tap, one tensor per row."""
        ...

    def scorable(self, rows: Sequence[int]) -> list[int]:
        """Rows whose forecast is to be scored against the truth."""
        ...

    def score(self, rows: Sequence[int], errors: Sequence[float]) -> None:
        """The measured error of those forecasts, one per row."""
        ...


class FullPass:
    """Every block runs. Taps become anchors, and the forecast that would have been served is scored against the truth (hindcast).

    Args:
        anatomy: learnt further by this pass.
        verifier: says which taps are needed.
        call: the call being answered.
        rows: the call's rows that this pass evaluates, in the order of its batch.
    """

    def __init__(self, anatomy: Anatomy, verifier: Verifier, call: Source, rows: Sequence[int]) -> None:
        self.anatomy = anatomy
        self.verifier = verifier
        self.call = call
        self.rows = list(rows)
        self.reached = False
        self._first: tuple[Place, str, list[Any]] | None = None

    @property
    def computing(self) -> bool:
        """Always."""
        return True

    @property
    def refining(self) -> bool:
        """Always."""
        return True

    @property
    def complete(self) -> bool:
        """Always."""
        return True

    def runs(self, place: Place) -> bool:
        """All of them."""
        return True

    def block(self, place: Place, block: nn.Module, arguments: Arguments) -> Any:
        """Run the block; keep what the verifier will need."""
        learner = self.anatomy.learners[place.stack]
        learner.enter(arguments)
        if place.last and self.verifier.runs == "last":
            for i, stream in enumerate(self.anatomy.streams(place.stack).inputs(arguments)):
                self.call.observe(f"{LAST_INPUT}.{i}", self.rows, split(rows_first(stream, self.anatomy.family.batch), self.rows))
        outputs = block(*arguments.args, **arguments.kwargs)
        learner.leave(outputs)
        if place.first and self.verifier.runs == "first":
            self.keep_first(place, self.anatomy.image(arguments), outputs)
        return outputs

    def keep_first(self, place: Place, image: str, outputs: Any) -> None:
        """Keep the first block's image stream before later blocks write into it; all it returned until it is learnt which that is."""
        if self.anatomy.learners[place.stack].streams is None:
            self._first = place, image, [out.clone() if torch.is_tensor(out) else out for out in as_list(outputs)]
        else:
            self._observe_first(place, image, outputs)

    def _observe_first(self, place: Place, image: str, outputs: Any) -> None:
        self.call.observe(FIRST, self.rows, split(self.anatomy.image_output(place, image, outputs), self.rows))

    def head(self, head: Head) -> Any:
        """Run the head on the true stream; score the forecast of that stream; keep the stream."""
        self.reached = True
        output = head()
        scorable = self.call.scorable(self.rows)
        forecasts = dict(zip(scorable, self.call.forecast(EXIT, scorable), strict=True)) if scorable else {}
        # A patch may have changed the number of tokens since the anchors.
        forecasts = {row: forecast for row, forecast in forecasts.items() if forecast.shape == head.exit.shape[1:]}
        if forecasts:
            rows = dict(zip(self.rows, head.exit, strict=True)) | forecasts
            guess = head(torch.stack([rows[row] for row in self.rows]))
            forecast, truth = (self.call.guided(self.rows, head.measured(value)) for value in (guess, output))
            errors = self.verifier.error(forecast, truth).tolist()
            self.call.score([*forecasts], [errors[self.rows.index(row)] for row in forecasts])
        if self._first is not None:
            self._observe_first(*self._first)
        self.call.observe(EXIT, self.rows, split(head.exit, self.rows))
        return output


class DraftPass:
    """No block runs but the verifier's; all others hand their input on, and the head gets the forecast.

    After the pass, `accepted` rows of its output may be served; `rejected` rows must be computed. If the first block's check
    rejects every row, the pass has gone on as a FullPass and its whole output is computed: `resumed` is True.
    """

    def __init__(self, anatomy: Anatomy, verifier: Verifier, call: Source, rows: Sequence[int]) -> None:
        self.anatomy = anatomy
        self.verifier = verifier
        self.call = call
        self.rows = list(rows)
        self.reached = False
        self.accepted: list[int] = []
        self.rejected: list[int] = []
        self._full: FullPass | None = None
        self._judged = False
        self._last_ran = False

    @property
    def resumed(self) -> bool:
        """Whether this pass went on as a full one."""
        return self._full is not None

    @property
    def computing(self) -> bool:
        """As soon as the pass has gone on as a full one, and behind a last block that really ran."""
        return self.resumed or self._last_ran

    @property
    def refining(self) -> bool:
        """If the first block will run; every other block's input is forecast, or handed on."""
        return self.verifier.runs == "first"

    @property
    def complete(self) -> bool:
        """If it went on as a full one."""
        return self.resumed

    def runs(self, place: Place) -> bool:
        """Only the verifier's block."""
        return self.resumed or (place.first and self.verifier.runs == "first") or (place.last and self.verifier.runs == "last")

    def block(self, place: Place, block: nn.Module, arguments: Arguments) -> Any:
        """Run the verifier's block; hand every other block's input on."""
        if self._full is not None:
            return self._full.block(place, block, arguments)
        streams = self.anatomy.streams(place.stack)
        if place.first and self.verifier.runs == "first":
            outputs = block(*arguments.args, **arguments.kwargs)
            forecast = torch.stack(self.call.forecast(FIRST, self.rows))
            computed = self.anatomy.image_output(place, self.anatomy.image(arguments), outputs)
            self._judge(self.verifier.error(forecast, computed) if forecast.shape == computed.shape else None)
            if not self.accepted:
                self._full = FullPass(self.anatomy, self.verifier, self.call, self.rows)
                self._full.keep_first(place, self.anatomy.image(arguments), outputs)
            return outputs
        given = streams.inputs(arguments)
        if place.last and self.verifier.runs == "last":
            batch = self.anatomy.family.batch
            forecasts = [torch.stack(self.call.forecast(f"{LAST_INPUT}.{i}", self.rows)) for i in range(len(given))]
            new = [as_given(forecast, stream, batch) for forecast, stream in zip(forecasts, given, strict=True)]
            self._last_ran = all(a.shape == b.shape for a, b in zip(new, given, strict=True))
            if self._last_ran:
                args, kwargs = streams.replace(arguments, new)
                return block(*args, **kwargs)
        return streams.pack(given)

    def head(self, head: Head) -> Any:
        """Run the head on the forecast; with last-block verification also on the computed stream, and serve that."""
        self.reached = True
        if self._full is not None:
            return self._full.head(head)
        forecast = torch.stack(self.call.forecast(EXIT, self.rows))
        fits = forecast.shape == head.exit.shape
        drafted = head(forecast)
        del forecast  # the check makes its own
        if not fits:
            self._judge(None)
            return drafted
        if self.verifier.runs == "last":
            if not self._last_ran:
                self._judge(None)
                return drafted
            output = head()
            self._judge(self._error(head, drafted, output))
            return output
        if opinions := self.call.opinions(self.rows):
            low, high = (head(torch.stack(opinion)) for opinion in opinions)
            self._judge(self._error(head, high, low))
        elif self.verifier.runs == "none":
            self.accepted, self.rejected = self.call.judge(self.rows, None)
        elif not self._judged:  # this call left the first block out, as skip layer guidance may
            self._judge(None)
        return drafted

    def _error(self, head: Head, forecast: Any, reference: Any) -> torch.Tensor:
        """Error per row of two results of the head, in what guidance makes of them."""
        return self.verifier.error(*(self.call.guided(self.rows, head.measured(result)) for result in (forecast, reference)))

    def _judge(self, errors: torch.Tensor | None) -> None:
        """`None`: the anchors have another shape than this pass's stream (caches filled or empty), so nothing can be compared."""
        self._judged = True
        # Reading the errors is the one place where the device is waited for during a draft.
        self.accepted, self.rejected = self.call.judge(self.rows, [math.inf] * len(self.rows) if errors is None else errors.tolist())
