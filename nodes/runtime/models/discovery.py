"""A model whose class is in no table: its blocks and its head are found by tracing one evaluation.

    candidate(model)    at attach: is there a list of like blocks at all?
    discover(...)       at the first call: trace an evaluation, propose families, test them; the
                        first that passes its self-test is used

A model that fails all of them is refused with the reason.
"""

import logging
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ....speca_core.errors import UnsupportedModel
from ....speca_core.verifiers import Verifier
from ..blocks.family import Family
from ..blocks.proxy import Pass, installed
from .self_test import self_test
from .tracing import Evaluate, ModelTracer, StackTrace, latent_dependent_inputs, stacks_of

SMALL = 0.1  # of the largest stack's weights: a smaller stack does not end the model's trunk
log = logging.getLogger("speca")

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
