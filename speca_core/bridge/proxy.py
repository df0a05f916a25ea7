"""Stand-ins for a model's blocks, for the time of one call.

ComfyUI's models iterate `nn.ModuleList`s and then call a head. Writing a plain list of stand-ins into the *instance dict* of the list's
parent shadows the registered list: `nn.Module.__getattr__`, the only thing that looks into `_modules`, is never reached. So
`state_dict`, LoRA keys, weight casting, offloading and other packs see an untouched model, and `del` restores everything.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from .families import Family


@dataclass(frozen=True)
class Place:
    """Which block of the model this is."""

    stack: int
    first: bool  # first block of the model
    last: bool  # last block of the model
    ends_stack: bool


class Pass(Protocol):
    """What one evaluation of the model does with its blocks and its head."""

    def block(self, place: Place, block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any: ...

    def head(self, head: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any: ...

    def runs(self, place: Place) -> bool: ...


class BlockStandIn:
    """Takes a block's place; not an nn.Module on purpose."""

    def __init__(self, handler: Pass, place: Place, block: nn.Module) -> None:
        self._handler = handler
        self._place = place
        self._block = block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler.block(self._place, self._block, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)

    def modules(self) -> Iterator[nn.Module]:
        """ComfyUI's weight prefetch asks for these: nothing is fetched for a block that will not run."""
        return self._block.modules() if self._handler.runs(self._place) else iter(())


class HeadStandIn:
    """Takes the head's place."""

    def __init__(self, handler: Pass, head: nn.Module) -> None:
        self._handler = handler
        self._head = head

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler.head(self._head, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._head, name)


def resolve(model: Any, path: str) -> tuple[Any, str]:
    """(parent, attribute name) of a dotted attribute path."""
    *parents, name = path.split(".")
    for parent in parents:
        model = getattr(model, parent)
    return model, name


@contextmanager
def installed(model: nn.Module, family: Family, handler: Pass) -> Iterator[None]:
    """Shadow the family's stacks and head with stand-ins that call `handler`; everything is restored on the way out."""
    shadowed: list[tuple[Any, str]] = []

    def shadow(path: str, make: Any) -> None:
        parent, name = resolve(model, path)
        vars(parent)[name] = make(getattr(parent, name))
        shadowed.append((parent, name))

    try:
        for stack, path in enumerate(family.stacks):
            final = stack == len(family.stacks) - 1

            def stand_ins(blocks: Any, stack: int = stack, final: bool = final) -> list[BlockStandIn]:
                end = len(blocks) - 1
                places = [Place(stack, stack == 0 and i == 0, final and i == end, i == end) for i in range(end + 1)]
                return [BlockStandIn(handler, place, block) for place, block in zip(places, blocks, strict=True)]

            shadow(path, stand_ins)
        shadow(family.head, lambda head: HeadStandIn(handler, head))
        yield
    finally:
        for parent, name in shadowed:
            del vars(parent)[name]
