"""Where the residual streams sit in a block's call, learnt by watching one full pass."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Slot = tuple[str, int | None]  # name of the argument, index inside it if it is a tuple or list


@functools.cache
def _positional(forward: Callable[..., Any]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in inspect.signature(forward).parameters.values() if p.kind in kinds)[
        1:
    ]


def positional(block: Any) -> tuple[str, ...]:
    """Names of the arguments that a block's class takes by position; also of a block under
    torch.compile."""
    return _positional(type(getattr(block, "_orig_mod", block)).forward)


class Arguments:
    """The arguments of one block's call, found by name however the caller passed them.

    A model calls its blocks in one way, another pack's block patch may call them in another. What a
    block takes as `*args` is named by its position.

    Args:
        names: of the arguments that the block takes by position.
    """

    def __init__(
        self, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._names = names

    def name(self, index: int) -> str:
        """Name of the argument at a position."""
        return self._names[index] if index < len(self._names) else str(index)

    def items(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of each argument."""
        yield from ((self.name(i), value) for i, value in enumerate(self.args))
        yield from self.kwargs.items()

    def replaced(self, new: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments with some values replaced, in the form in which they
        were passed."""
        args = [new.get(self.name(i), value) for i, value in enumerate(self.args)]
        return args, {key: new.get(key, value) for key, value in self.kwargs.items()}


def slots_of(arguments: Arguments) -> Iterator[tuple[Slot, torch.Tensor]]:
    """Every tensor of a call with its place: arguments, and one level into tuples and lists."""
    for key, value in arguments.items():
        if torch.is_tensor(value):
            yield (key, None), value
        elif isinstance(value, tuple | list):
            yield from (((key, i), item) for i, item in enumerate(value) if torch.is_tensor(item))


def as_list(outputs: Any) -> list[Any]:
    """A block's outputs as a list, also if it returns a bare tensor."""
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def rows_first(value: Any, batch: int | None) -> torch.Tensor:
    """A tensor with its rows in the first dimension, [rows, ...]; several tensors are flattened and
    laid end to end, [rows, all].

    Args:
        value: a tensor, or a tuple or list of them.
        batch: the dimension that holds the rows; None if there is none and the value is one row.
    """
    if isinstance(value, tuple | list):
        return torch.cat([rows_first(part, batch).flatten(1) for part in value], dim=1)
    tensor: torch.Tensor = value
    return tensor.unsqueeze(0) if batch is None else tensor.movedim(batch, 0)


def as_given(rows: torch.Tensor, given: Any, batch: int | None) -> Any:
    """The way back: `rows_first` of the result is `rows`, and its shapes, and its tuple or list,
    are those of `given`."""
    if isinstance(given, tuple | list):
        shapes = [rows_first(part, batch).shape for part in given]
        parts = torch.split(rows, [shape[1:].numel() for shape in shapes], dim=1)
        return type(given)(
            as_given(part.reshape(shape), g, batch)
            for part, shape, g in zip(parts, shapes, given, strict=True)
        )
    return rows.squeeze(0) if batch is None else rows.movedim(0, batch)


def hollow(value: Any) -> Any:
    """Stands for what a skipped block would have returned besides its streams: tensors without
    elements, anything else as it is."""
    if torch.is_tensor(value):
        return value.new_empty((0,) * value.ndim)
    return type(value)(map(hollow, value)) if isinstance(value, tuple | list) else value


@dataclass
class Streams:
    """The streams of one stack: output `outputs[i]` of a block is the next block's input at
    `slots[i]`."""

    slots: list[Slot]
    outputs: list[int]
    container: type | None  # tuple or list; None for a bare tensor
    others: list[Any]  # what a skipped block returns, without its streams

    def inputs(self, arguments: Arguments) -> list[torch.Tensor]:
        """The streams in a call's arguments."""
        values = dict(arguments.items())
        return [values[key] if index is None else values[key][index] for key, index in self.slots]

    def replace(
        self, arguments: Arguments, new: Sequence[torch.Tensor]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The call's positional and keyword arguments with the streams replaced."""
        values = dict(arguments.items())
        for (key, index), tensor in zip(self.slots, new, strict=True):
            if index is None:
                values[key] = tensor
            else:
                items = list(values[key])
                items[index] = tensor
                values[key] = type(values[key])(items)
        return arguments.replaced(values)

    def pack(self, streams: Sequence[torch.Tensor]) -> Any:
        """Streams in the form in which a block returns them."""
        if self.container is None:
            return streams[0]
        outputs = list(self.others)
        for output, stream in zip(self.outputs, streams, strict=True):
            outputs[output] = stream
        return self.container(outputs)


class StreamLearner:
    """Watches the blocks of one stack during one full pass; `streams` is set as soon as they are
    known.

    An output that *is* an input of the next block is a stream, whatever either is called. Where the
    model's own code between two blocks makes new tensors, equal shape and type stand in for
    identity.
    """

    def __init__(self) -> None:
        self.streams: Streams | None = None
        self._outputs: Any = None  # of the block before; held until the next one is entered

    def enter(self, arguments: Arguments) -> None:
        """A block is about to run with these arguments."""
        if self.streams is not None or self._outputs is None:
            return
        slots: list[Slot] = []
        outputs: list[int] = []
        inputs = list(slots_of(arguments))
        for i, out in enumerate(as_list(self._outputs)):
            if not torch.is_tensor(out):
                continue  # not a stream: attention caches, for example
            match = next((slot for slot, value in inputs if value is out), None)
            match = match or next(
                (slot for slot, value in inputs if slot not in slots and like(value, out)), None
            )
            if match is None:
                return  # this pair of blocks does not tell; a later one may
            slots.append(match)
            outputs.append(i)
        container = type(self._outputs) if isinstance(self._outputs, tuple | list) else None
        self.streams, self._outputs = (
            Streams(slots, outputs, container, hollow(as_list(self._outputs))),
            None,
        )

    def leave(self, outputs: Any) -> None:
        """The block has run and returned these."""
        if self.streams is None:
            self._outputs = outputs


def like(a: torch.Tensor, b: Any) -> bool:
    """Same shape and type, and large enough to be a stream: [batch, tokens, channels] or more."""
    return torch.is_tensor(b) and a.ndim >= 3 and (a.shape, a.dtype) == (b.shape, b.dtype)
