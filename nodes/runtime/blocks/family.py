"""What the block proxy has to know about a model, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """Where a model keeps its blocks. The data flow of the first full pass teaches the rest.

    Attributes:
        name: for people and for the report.
        models: class names of `model.diffusion_model`.
        stacks: attribute paths of the block lists, in execution order.
        heads: the modules or methods that consume the residual stream after the last block; the
            first argument is the head's input. Several if the model chooses one of them for each
            call. Empty if nothing light does: then the last block's output stands for it.
        image: where the first block's call holds the image stream: keyword, or index of the
            positional argument.
        after: what turns the head's result into the model's output; errors are measured there.
            Empty if the head's result is that.
        batch: the dimension of the blocks' streams that holds the rows; None if a call has one row
            and its streams no such dimension.
        refiners: paths of block lists that run before the first stack and make nothing but its
            streams: a draft leaves them out. A variant of the model may lack some.
        between: paths of modules that the model calls between blocks, and what they give on a
            draft, where no block has run.
        state: paths of attributes that a pass writes and that must not keep what a draft wrote.
        no_last_block: why the last block cannot be checked on a forecast; empty if it can.
        coupled: why the rows of a call cannot be evaluated apart, so that they are drafted or
            computed together; empty if they can.
        never_with: key of the transformer options; while it is set, calls go straight to the model
            and are not recorded.
        output_index: without heads, which of the last block's outputs is the head's input; None
            for all of them.
    """

    name: str
    models: tuple[str, ...]
    stacks: tuple[str, ...]
    heads: tuple[str, ...]
    image: str | int = 0
    after: str = ""
    batch: int | None = 0
    refiners: tuple[str, ...] = ()
    between: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    no_last_block: str = ""
    coupled: str = ""
    never_with: str = ""
    output_index: int | None = 0


def unchanged(stream: Any, *_: Any, **__: Any) -> Any:
    """For a module that returns the stream with something added."""
    return stream


def nothing(*_: Any, **__: Any) -> float:
    """For a module that returns what is added to the stream."""
    return 0.0


def nothing_and_unchanged(own: Any, **_: Any) -> tuple[float, Any]:
    """For a module that returns what is added to the stream, and a stream of its own."""
    return 0.0, own


def bare(diffusion_model: Any) -> Any:
    """The module itself, also under a whole-model torch.compile."""
    return getattr(diffusion_model, "_orig_mod", diffusion_model)
