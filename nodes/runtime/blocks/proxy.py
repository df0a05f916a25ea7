"""Stand-ins for a model's blocks, for the time of one call.

ComfyUI's models iterate `nn.ModuleList`s (or a `ModuleDict`) and then call a head. Writing a plain
list of stand-ins into the *instance dict* of the list's parent shadows the registered list:
`nn.Module.__getattr__`, the only thing that looks into `_modules`, is never called. So
`state_dict`, LoRA keys, weight casting, offloading and other packs see an untouched model, and
`del` restores everything. A method that serves as head is shadowed in the same way: the instance
dict is searched before the class.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from ....speca_core.errors import UnsupportedModel
from ....speca_core.verifiers import BlockPosition
from .family import Family, unchanged
from .streams import Arguments, as_given, as_list, positional, rows_first

ABSENT = object()


class Head:
    """One call of the model's head, as a function of the stream that it consumes.

    Attributes:
        stream: its input, [rows, ...]. Several tensors are laid end to end, one row each.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        batch: int | None,
        after: Callable[..., Any],
    ) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._keyword = None if args else next(iter(kwargs))
        self._given = args[0] if self._keyword is None else kwargs[self._keyword]
        self._batch = batch
        self._after = after
        self.stream = rows_first(self._given, batch)

    def __call__(self, stream: torch.Tensor | None = None) -> Any:
        """The head's result for another input, [rows, ...]; for what it was called with if there is
        none."""
        given = self._given if stream is None else as_given(stream, self._given, self._batch)
        if self._keyword is None:
            return self._function(given, *self._args[1:], **self._kwargs)
        return self._function(**{**self._kwargs, self._keyword: given})

    def measured(self, result: Any) -> torch.Tensor:
        """The model's output in which errors are measured, [rows, ...]."""
        return rows_first(self._after(result), self._batch)

    def parts(self, measured: torch.Tensor) -> Sequence[torch.Tensor]:
        """All of it together: the head knows of no parts."""
        return (measured,)


class Pass(Protocol):
    """What one evaluation of the model does with its blocks and its head.

    Attributes:
        head_was_called: the model has called its head.
    """

    head_was_called: bool

    @property
    def stream_is_computed(self) -> bool:
        """Whether the stream now holds what blocks have computed: then modules between blocks run
        too."""
        ...

    @property
    def needs_refiners(self) -> bool:
        """Whether a block reads what runs before the first one."""
        ...

    @property
    def all_blocks_run(self) -> bool:
        """Whether every block ran."""
        ...

    def block(self, position: BlockPosition, block: nn.Module, arguments: Arguments) -> Any: ...

    def head(self, head: Head) -> Any: ...

    def runs(self, position: BlockPosition) -> bool: ...


class BlockStandIn:
    """Takes a block's place; not an nn.Module on purpose."""

    def __init__(self, handler: Pass, position: BlockPosition, block: nn.Module) -> None:
        self._handler = handler
        self._position = position
        self._block = block
        self._names = positional(block)  # here and not in the call, which torch.compile may trace

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler.block(
            self._position, self._block, Arguments(self._names, args, kwargs)
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)

    def modules(self) -> Iterator[nn.Module]:
        """ComfyUI's weight prefetch asks for these: nothing is fetched for a block that will not
        run."""
        return self._block.modules() if self._handler.runs(self._position) else iter(())


class HeadlessStandIn(BlockStandIn):
    """Takes the last block's place in a model without a head: what the block returns goes through a
    head that changes nothing."""

    def __init__(
        self,
        handler: Pass,
        position: BlockPosition,
        block: nn.Module,
        batch: int | None,
        output_index: int | None,
    ) -> None:
        super().__init__(handler, position, block)
        self._batch = batch
        self._output_index = output_index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().__call__(*args, **kwargs)
        served = as_list(outputs)
        tapped = [
            i
            for i, out in enumerate(served)
            if (torch.is_tensor(out) if self._output_index is None else i == self._output_index)
        ]
        stream = served[tapped[0]] if len(tapped) == 1 else tuple(served[i] for i in tapped)
        result = self._handler.head(Head(unchanged, (stream,), {}, self._batch, unchanged))
        for i, out in zip(tapped, as_list(result), strict=True):
            served[i] = out
        return type(outputs)(served) if isinstance(outputs, tuple | list) else served[0]


class HeadStandIn:
    """Takes the head's place."""

    def __init__(
        self, handler: Pass, head: Callable[..., Any], batch: int | None, after: Callable[..., Any]
    ) -> None:
        self._handler = handler
        self._head = head
        self._batch = batch
        self._after = after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler.head(Head(self._head, args, kwargs, self._batch, self._after))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._head, name)


class OptionalStandIn:
    """Takes the place of a module, or of a list of modules, that the model calls before or between
    blocks."""

    def __init__(
        self, needed: Callable[[], bool], module: Any, skipped: Callable[..., Any]
    ) -> None:
        self._needed = needed
        self._module = module
        self._skipped = skipped

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module(*args, **kwargs) if self._needed() else self._skipped(*args, **kwargs)

    def __getitem__(self, index: int) -> "OptionalStandIn":
        return OptionalStandIn(self._needed, self._module[index], self._skipped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def resolve(model: Any, path: str) -> tuple[Any, str]:
    """(parent, attribute name) of a dotted attribute path."""
    *parents, name = path.split(".")
    for parent in parents:
        model = getattr(model, parent)
    return model, name


def stand_ins(model: nn.Module, family: Family, handler: Pass) -> Iterator[tuple[str, Any]]:
    """(path, what takes its place) for everything that a call must see replaced."""

    def real(path: str, *default: Any) -> Any:
        return getattr(*resolve(model, path), *default)

    stacks = [real(path) for path in family.stacks]
    # A variant of the model may leave a stack empty.
    filled = [i for i, blocks in enumerate(stacks) if len(blocks)]
    for stack, blocks in enumerate(stacks):
        end = len(blocks) - 1
        made: list[BlockStandIn] = []
        for i, block in enumerate(blocks.values() if isinstance(blocks, nn.ModuleDict) else blocks):
            position = BlockPosition(
                stack, stack == filled[0] and i == 0, stack == filled[-1] and i == end
            )
            headless = position.last and not family.heads
            made.append(
                HeadlessStandIn(handler, position, block, family.batch, family.output_index)
                if headless
                else BlockStandIn(handler, position, block)
            )
        yield (
            family.stacks[stack],
            dict(zip(blocks, made, strict=True)) if isinstance(blocks, nn.ModuleDict) else made,
        )
    after = real(family.after) if family.after else unchanged
    for path in family.heads:
        yield path, HeadStandIn(handler, real(path), None if family.batch is None else 0, after)
    for path in family.refiners:
        if blocks := real(path, None):
            yield (
                path,
                [
                    OptionalStandIn(lambda: handler.needs_refiners, block, unchanged)
                    for block in blocks
                ],
            )
    for path, skipped in family.between.items():
        yield path, OptionalStandIn(lambda: handler.stream_is_computed, real(path), skipped)


@contextmanager
def installed(model: nn.Module, family: Family, handler: Pass) -> Iterator[None]:
    """Shadow the family's stacks, heads, refiners and modules between blocks; everything is
    restored on the way out.

    Raises:
        UnsupportedModel: the call was answered without the model's head: whatever did so, we have
            seen nothing of it.
    """
    written = [(*resolve(model, path), getattr(*resolve(model, path))) for path in family.state]
    shadowed: list[tuple[Any, str, Any]] = []
    ended = False
    try:
        for path, stand_in in stand_ins(model, family, handler):
            parent, name = resolve(model, path)
            shadowed.append((parent, name, vars(parent).get(name, ABSENT)))
            vars(parent)[name] = stand_in
        yield
        if not handler.head_was_called:
            raise UnsupportedModel(
                f"SpeCa cannot accelerate this model: a call was answered, but {family.name} did "
                f"not run to its head ({', '.join(family.heads) or 'its last block'}); expected "
                "nothing to answer in the model's place. Remove other caches and patches that skip "
                "the model, or bypass the SpeCa node."
            )
        ended = True
    finally:
        for parent, name, before in reversed(shadowed):
            if before is ABSENT:
                del vars(parent)[name]
            else:
                vars(parent)[name] = before
        if not (ended and handler.all_blocks_run):
            for parent, name, before in written:
                setattr(parent, name, before)
