"""The two ways to evaluate the model: in full, or as a draft."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ....speca_core.errors import UnsupportedModel
from ....speca_core.subject import Draft, Source
from ....speca_core.subject import Head as AnyHead
from ....speca_core.verifiers import BlockPosition, Verifier
from ..compat import unrecorded
from .family import Family
from .proxy import Head
from .streams import Arguments, StreamLearner, Streams, as_given, as_list, rows_first

# Makes of a call's rows and its head the head in whose results errors are measured.
MeasuredIn = Callable[[Sequence[int], Head], AnyHead]


class StreamMap:
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
                "SpeCa cannot accelerate this model: the data flow of "
                f"{self.family.name}.{self.family.stacks[stack]} shows no residual streams; "
                "expected each block's outputs among the next block's inputs. Set level to "
                "prediction, which works with every model, and report this one."
            )
        return streams

    def image_name(self, arguments: Arguments) -> str:
        """Name of the argument that holds the image stream in the first block's call."""
        image = self.family.image
        return image if isinstance(image, str) else arguments.name(image)


class PassBlock:
    """One block in one pass: what a verifier sees of it; see `speca_core.verifiers.Block`."""

    def __init__(
        self,
        position: BlockPosition,
        block: nn.Module,
        arguments: Arguments,
        handler: "FullPass | DraftPass",
    ) -> None:
        self.position = position
        self._block = block
        self._arguments = arguments
        self._pass = handler

    @property
    def _streams(self) -> Streams:
        return self._pass.stream_map.streams(self.position.stack)

    @property
    def inputs(self) -> list[torch.Tensor]:
        """The residual streams that it is given, [rows, ...] each."""
        batch = self._pass.stream_map.family.batch
        return [rows_first(stream, batch) for stream in self._streams.inputs(self._arguments)]

    def run(self, inputs: Sequence[torch.Tensor] | None = None) -> Any:
        """Compute the block, on other streams if some are given."""
        if inputs is None:
            return self._block(*self._arguments.args, **self._arguments.kwargs)
        batch = self._pass.stream_map.family.batch
        given = zip(inputs, self._streams.inputs(self._arguments), strict=True)
        new = [as_given(stream, own, batch) for stream, own in given]
        args, kwargs = self._streams.replace(self._arguments, new)
        return self._block(*args, **kwargs)

    def skip(self) -> Any:
        """The streams, in the form of outputs."""
        return self._streams.pack(self._streams.inputs(self._arguments))

    def image(self, outputs: Any) -> torch.Tensor:
        """The image stream in the first block's outputs, [rows, ...]."""
        stream_map = self._pass.stream_map
        names = [name for name, _ in self._streams.slots]
        output = self._streams.outputs[names.index(stream_map.image_name(self._arguments))]
        return rows_first(as_list(outputs)[output], stream_map.family.batch)

    def observe(self, tap: str, features: Sequence[torch.Tensor] | torch.Tensor) -> None:
        """Keep computed features, one per row, as anchors of a tap."""
        rows = self._pass.rows
        with unrecorded():
            self._pass.source.observe(tap, rows, split(features, rows))

    def observe_image(self, tap: str, outputs: Any) -> None:
        """Keep the image stream of outputs as anchors of a tap. Before it is known which of them
        that is, a copy waits for the pass to show it: later blocks write into the outputs."""
        if self._pass.stream_map.learners[self.position.stack].streams is not None:
            self.observe(tap, self.image(outputs))
            return
        with unrecorded():
            copies = [out.clone() if torch.is_tensor(out) else out for out in as_list(outputs)]
        self._pass.later(lambda: self.observe(tap, self.image(copies)))


def split(features: Sequence[torch.Tensor] | torch.Tensor, rows: Sequence[int]) -> list[Any]:
    """One view per row.

    Raises:
        UnsupportedModel: the first dimension does not hold the rows.
    """
    if len(features) != len(rows):
        raise UnsupportedModel(
            f"SpeCa cannot accelerate this model: a residual stream has shape "
            f"{tuple(features.shape) if torch.is_tensor(features) else len(features)} for "
            f"{len(rows)} rows; expected one entry per row in the first dimension. Set level to "
            "prediction, which works with every model, and report this one."
        )
    return list(features)


class ModelPass:
    """One evaluation of the model.

    Args:
        stream_map: of the model; a full pass learns it further.
        verifier: says which blocks to look at.
        source: the call being answered, or a self-test.
        rows: the call's rows that this pass evaluates, in the order of its batch.
        measured_in: see `MeasuredIn`.
    """

    def __init__(
        self,
        stream_map: StreamMap,
        verifier: Verifier,
        source: Source,
        rows: Sequence[int],
        measured_in: MeasuredIn,
    ) -> None:
        self.stream_map = stream_map
        self.verifier = verifier
        self.source = source
        self.rows = list(rows)
        self.measured_in = measured_in
        self.head_was_called = False


class FullPass(ModelPass):
    """Every block runs; the call learns from the head's input."""

    needs_refiners = stream_is_computed = all_blocks_run = True

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self._postponed: list[Callable[[], None]] = []

    def runs(self, position: BlockPosition) -> bool:
        return True

    def block(self, position: BlockPosition, block: nn.Module, arguments: Arguments) -> Any:
        """Run the block, and let the verifier look."""
        learner = self.stream_map.learners[position.stack]
        watched = self.verifier.runs(position)
        seen = PassBlock(position, block, arguments, self)
        learner.enter(arguments)
        if watched:
            self.verifier.before_block(seen)
        outputs = seen.run()
        learner.leave(outputs)
        if watched:
            self.verifier.after_block(seen, outputs)
        return outputs

    def later(self, observe: Callable[[], None]) -> None:
        """Do this before the pass learns from its head."""
        self._postponed.append(observe)

    def head(self, head: Head) -> Any:
        """Run the head on the true stream, and learn."""
        self.head_was_called = True
        output = head()
        for observe in self._postponed:
            observe()
        split(head.stream, self.rows)
        with unrecorded():
            self.source.learn(self.rows, head.stream, output, self.measured_in(self.rows, head))
        return output


class DraftPass(ModelPass):
    """No block runs but the verifier's; all others hand their input on, and the head gets the
    forecast.

    Afterwards the rows `draft.accepted` of the output may be served; the others must be computed.
    If the first block's check rejects every row, the pass has gone on as a full one, and its whole
    output is computed: `resumed` is True.
    """

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.draft = Draft(self.source, self.rows)
        self._full: FullPass | None = None

    @property
    def resumed(self) -> bool:
        """Whether this pass went on as a full one."""
        return self._full is not None

    @property
    def stream_is_computed(self) -> bool:
        """Whether the stream now holds what blocks have computed."""
        return self.resumed or self.draft.last_block_ran

    @property
    def needs_refiners(self) -> bool:
        """If the first block runs; every other block's input is forecast, or handed on."""
        return self.verifier.block == "first"

    @property
    def all_blocks_run(self) -> bool:
        """If it went on as a full one."""
        return self.resumed

    def later(self, observe: Callable[[], None]) -> None:
        """A draft learns nothing."""

    def runs(self, position: BlockPosition) -> bool:
        """Only the verifier's block."""
        return self.resumed or self.verifier.runs(position)

    def block(self, position: BlockPosition, block: nn.Module, arguments: Arguments) -> Any:
        """Let the verifier run its block; hand every other block's input on."""
        if self._full is not None:
            return self._full.block(position, block, arguments)
        seen = PassBlock(position, block, arguments, self)
        if not self.verifier.runs(position):
            return seen.skip()
        outputs = self.verifier.draft_block(self.draft, seen)
        if position.first and self.draft.judged and not self.draft.accepted:
            parts = self.stream_map, self.verifier, self.source, self.rows, self.measured_in
            self._full = FullPass(*parts)
            self.verifier.after_block(PassBlock(position, block, arguments, self._full), outputs)
        return outputs

    def head(self, head: Head) -> Any:
        """Run the head on the forecast; the verifier says what to serve."""
        self.head_was_called = True
        if self._full is not None:
            return self._full.head(head)
        forecast = self.draft.forecast()
        fits = forecast.shape == head.stream.shape
        drafted = head(forecast)
        del forecast  # the check makes its own
        if not fits:
            self.draft.reject()
            return drafted
        return self.verifier.verify(self.draft, self.measured_in(self.rows, head), drafted)
