"""What one evaluation does with a model's lists of blocks, seen by hooks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..blocks.streams import Arguments, StreamLearner, Streams, as_list, positional, slots_of

# The model's answer for a latent of the call's shape.
Evaluate = Callable[[torch.Tensor], torch.Tensor]


def stacks_of(
    module: nn.Module, path: str = ""
) -> Iterator[tuple[str, nn.ModuleList | nn.ModuleDict]]:
    """(path, blocks) of every list of two or more blocks of one class that is not part of such a
    block itself."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            if len(child) > 1 and len({type(block) for block in child.children()}) == 1:
                yield path + name, child
        else:
            yield from stacks_of(child, f"{path}{name}.")


def weight(module: nn.Module) -> int:
    """Number of its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


class StackTrace:
    """What one evaluation did with one stack.

    Attributes:
        order: indices of its blocks as they were called. first, last: when it was entered first and
            left last, in block calls.
        inputs, shapes: fingerprint and shape of each tensor that its first block was given, by
            name.
        head, after: paths of the modules that took its last block's output, and the head's result;
            empty if none did.
    """

    def __init__(self, path: str, blocks: nn.ModuleList | nn.ModuleDict) -> None:
        self.path = path
        self.size = weight(blocks)
        self.count = len(blocks)
        self.learner = StreamLearner()
        self.order: list[int] = []
        self.first = self.last = 0
        self.inputs: dict[str, tuple[float, float]] = {}
        self.shapes: dict[str, torch.Size] = {}
        self.head = self.after = ""

    @property
    def streams(self) -> Streams | None:
        """The streams between its blocks; None if they were not to be seen."""
        return self.learner.streams


class ModelTracer:
    """Hooks on every module for the time of one evaluation. Nothing is changed, and only the newest
    outputs are held."""

    def __init__(self, model: nn.Module) -> None:
        self.stacks = {path: StackTrace(path, blocks) for path, blocks in stacks_of(model)}
        self._model = model
        self._calls = 0
        # The stack that has just ended, and what it gave.
        self._tail: tuple[StackTrace, list[torch.Tensor]] | None = None
        # The head that has just run, and what it gave.
        self._result: tuple[StackTrace, Any] | None = None

    def __call__(self, evaluate: Evaluate, x: torch.Tensor) -> torch.Tensor:
        """Trace `evaluate(x)`."""
        inside: set[nn.Module] = set()
        handles = []
        try:
            for path, blocks in stacks_of(self._model):
                for index, block in enumerate(blocks.children()):
                    inside.update(block.modules())
                    handles.append(
                        block.register_forward_pre_hook(
                            self._enter(self.stacks[path], index), with_kwargs=True
                        )
                    )
                    handles.append(
                        block.register_forward_hook(self._leave(self.stacks[path], index))
                    )
            for path, module in reachable(self._model):
                if module not in inside:
                    handles.append(
                        module.register_forward_pre_hook(self._take(path), with_kwargs=True)
                    )
                    handles.append(module.register_forward_hook(self._give(path)))
            return evaluate(x)
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, seen: StackTrace, index: int) -> Callable[..., None]:
        def hook(block: nn.Module, args: Any, kwargs: Any) -> None:
            arguments = Arguments(positional(block), args, kwargs)
            if not seen.order:
                seen.first = self._calls
                for (name, _), value in slots_of(arguments):
                    seen.inputs[name] = fingerprint(value)
                    seen.shapes[name] = value.shape
            self._tail = self._result = None
            seen.order.append(index)
            seen.learner.enter(arguments)

        return hook

    def _leave(self, seen: StackTrace, index: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, outputs: Any) -> None:
            self._calls += 1
            seen.last = self._calls
            seen.learner.leave(outputs)
            if index == seen.count - 1:
                self._tail = seen, [out for out in as_list(outputs) if torch.is_tensor(out)]

        return hook

    def _take(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            first = args[0] if args else next(iter(kwargs.values()), None)
            if (
                self._result is not None
                and first is self._result[1]
                and len(args) + len(kwargs) == 1
            ):
                self._result[0].after = path
            elif (
                self._tail is not None
                and torch.is_tensor(first)
                and any(continues(first, out) for out in self._tail[1])
            ):
                self._tail[0].head = path
                self._tail = None

        return hook

    def _give(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            ended = next(
                (seen for seen in self.stacks.values() if seen.head == path and not seen.after),
                None,
            )
            self._result = (ended, result) if ended and torch.is_tensor(result) else None

        return hook


def reachable(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module that its parent holds as an attribute: only such a one can be shadowed."""
    for name, child in module.named_children():
        if not isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield path + name, child
            if not isinstance(child, nn.Sequential):
                yield from reachable(child, f"{path}{name}.")


def continues(tensor: torch.Tensor, stream: torch.Tensor) -> bool:
    """Whether a tensor is the stream or made of it: the same memory, or as many channels."""
    same = tensor.untyped_storage().data_ptr() == stream.untyped_storage().data_ptr()
    return same or (tensor.ndim >= min(stream.ndim, 3) and tensor.shape[-1] == stream.shape[-1])


def fingerprint(tensor: torch.Tensor) -> tuple[float, float]:
    """Two numbers that tell whether a tensor is the same as in another evaluation."""
    values = tensor.float()
    return values.sum().item(), values.square().sum().item()


class StopEvaluation(Exception):
    """No error: it ends an evaluation that has reached the blocks which were waited for."""


def latent_dependent_inputs(
    model: nn.Module, evaluate: Evaluate, x: torch.Tensor, seen: Sequence[StackTrace]
) -> dict[str, list[str]]:
    """Which inputs of each stack's first block move when the latent moves, by path of the stack.
    Ends when the last one is entered."""
    found: dict[str, list[str]] = {}

    def look(stack: StackTrace) -> Callable[..., None]:
        def hook(block: nn.Module, args: Any, kwargs: Any) -> None:
            slots = slots_of(Arguments(positional(block), args, kwargs))
            found[stack.path] = [
                name for (name, _), value in slots if fingerprint(value) != stack.inputs.get(name)
            ]
            if len(found) == len(seen):
                raise StopEvaluation

        return hook

    blocks = dict(stacks_of(model))
    handles = [
        # Before anything else of the block.
        next(blocks[stack.path].children()).register_forward_pre_hook(look(stack), with_kwargs=True)
        for stack in seen
    ]
    try:
        evaluate(0.9 * x + 0.1)
    except StopEvaluation:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found
