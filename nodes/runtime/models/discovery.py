"""A model whose class is in no table: its blocks and its head are found by tracing one evaluation.

    candidate(model)    at attach: is there a list of like blocks at all?
    discover(...)       at the first call: trace an evaluation, propose families, test them; the
                        first that passes its self-test is used

A model that fails all of them is refused with the reason.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ....speca_core.errors import UnsupportedModel
from ....speca_core.verifiers import Verifier
from ..blocks.family import Family
from ..blocks.proxy import Pass, installed
from ..blocks.streams import Arguments, StreamLearner, Streams, as_list, positional, slots_of
from .self_test import self_test

SMALL = 0.1  # of the largest stack's weights: a smaller stack does not end the model's trunk
log = logging.getLogger("speca")
# The model's answer for a latent of the call's shape.
Evaluate = Callable[[torch.Tensor], torch.Tensor]

_discovered: weakref.WeakKeyDictionary[nn.Module, dict[tuple[str, int], Family]] = (
    weakref.WeakKeyDictionary()
)


def refusal(model: Any, reason: str) -> UnsupportedModel:
    """The error for a model that discovery gives up."""
    return UnsupportedModel(
        f"SpeCa cannot accelerate this model: its diffusion model is a {type(model).__name__}, "
        f"which SpeCa has no entry for, and {reason}; expected a diffusion transformer, whose like "
        "blocks follow one another. Set level to prediction, which works with every model."
    )


def candidate(model: Any) -> Family:
    """A family of which only the class is known; `discover` finds the rest at the first call.

    Raises:
        UnsupportedModel: the model has no list of like blocks.
    """
    if not isinstance(model, nn.Module) or not dict(stacks_of(model)):
        raise refusal(model, "it has no list of two or more blocks of one class")
    name = type(model).__name__
    return Family(
        f"{name} (discovered)",
        (name,),
        (),
        (),
        coupled="it is not known whether its rows can be evaluated separately",
    )


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
        """ModelTracer `evaluate(x)`."""
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


def proposals(
    model: nn.Module, evaluate: Evaluate, x: torch.Tensor, watch: ModelTracer
) -> Iterator[Family]:
    """Families that could describe the model, the likeliest first: those that skip most.

    Raises:
        UnsupportedModel: there is none, with the reason.
    """
    ran = [seen for seen in watch.stacks.values() if seen.order]
    chained = [
        seen for seen in ran if seen.order == list(range(seen.count)) and seen.streams is not None
    ]
    if not chained:
        odd = max(ran, key=lambda seen: seen.size, default=None)
        if odd is None:
            raise refusal(model, f"none of its lists of blocks ({', '.join(watch.stacks)}) is used")
        if odd.order != list(range(odd.count)):
            raise refusal(
                model,
                f"the blocks of {odd.path} do not run once each, in order, but as {odd.order}",
            )
        raise refusal(
            model,
            f"the blocks of {odd.path} do not hand on a stream: no output is, or is like, an input "
            "of the next block",
        )
    apart: list[StackTrace] = []  # stacks that run between another one's blocks are left to run
    for seen in sorted(chained, key=lambda seen: -seen.size):
        if all(seen.last <= kept.first or kept.last <= seen.first for kept in apart):
            apart.append(seen)
    apart.sort(key=lambda seen: seen.first)
    inputs = latent_dependent_inputs(model, evaluate, x, apart)
    trunk = [seen for seen in apart if image_of(seen, inputs.get(seen.path, []))]
    if not trunk:
        raise refusal(
            model,
            f"nothing that enters its blocks ({', '.join(seen.path for seen in apart)}) depends on "
            "the latent",
        )
    largest = max(seen.size for seen in trunk)
    name = type(model).__name__
    for end in reversed([i for i, seen in enumerate(trunk) if seen.size >= SMALL * largest]):
        stacks, last = trunk[: end + 1], trunk[end]
        image = image_of(trunk[0], inputs[trunk[0].path])
        batch = batch_of(model, trunk[0].shapes[image], x.shape[0])
        base = candidate(model)
        for head, after in dict.fromkeys([(last.head, last.after), ("", "")]):
            paths = tuple(seen.path for seen in stacks)
            yield Family(
                base.name,
                (name,),
                paths,
                (head,) if head else (),
                image,
                after,
                batch,
                coupled=base.coupled,
                output_index=None,
            )


def image_of(seen: StackTrace, moving: Sequence[str]) -> str:
    """The stream of a stack that moves with the latent; empty if none does."""
    return (
        next((name for name, _ in seen.streams.slots if name in moving), "") if seen.streams else ""
    )


def batch_of(model: nn.Module, shape: torch.Size, rows: int) -> int | None:
    """The dimension of a stream that holds the rows; None if it has none and the call has one row.

    Raises:
        UnsupportedModel: no dimension has that length, or it is not clear which.
    """
    fitting = [dimension for dimension, length in enumerate(shape[:-1]) if length == rows]
    if 0 in fitting:
        return 0
    if len(fitting) == 1:
        return fitting[0]
    if rows == 1 and len(shape) == 2:
        return None
    raise refusal(
        model,
        f"its stream has shape {tuple(shape)} for {rows} rows; it is not clear which dimension "
        "holds the rows",
    )


def discover(
    unknown: Family, verifier: Verifier, model: nn.Module, evaluate: Evaluate, x: torch.Tensor
) -> Family:
    """The family of a model whose class is in no table, found at its first call and remembered for
    this model.

    Args:
        unknown: what `lookup.family_of` gave at attach.
        verifier: whose block the self-test runs.
        model: the diffusion model itself.
        evaluate: its plain answer to a latent of the call.
        x: [rows, ...] the call's latent.

    Raises:
        UnsupportedModel: no proposal passes its self-test, with the reason.
    """
    known = _discovered.setdefault(model, {})
    key = verifier.block, x.shape[0]
    if key not in known:
        watch = ModelTracer(model)
        plain = watch(evaluate, x)

        def run(family: Family, handler: Pass) -> torch.Tensor:
            with installed(model, family, handler):
                return evaluate(x)

        wrong: list[str] = []
        for family in proposals(model, evaluate, x, watch):
            wrong.append(self_test(family, verifier, x.shape[0], plain, run))
            if not wrong[-1]:
                known[key] = family
                break
        else:
            reason = "; ".join(dict.fromkeys(wrong))
            if verifier.block:
                reason += f" (with the verifier {verifier.name}; try embedded, which runs no block)"
            raise refusal(model, reason)
        log.info(
            "SpeCa: %s is in no table; found and tested: blocks %s, head %s",
            unknown.models[0],
            family.stacks,
            family.heads,
        )
    return known[key]
