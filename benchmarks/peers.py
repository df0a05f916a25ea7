"""The work of other caches on a drafted prediction, written down plainly to have its cost. Their
rules of when to draft are left out."""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from speca_pack.nodes.runtime.blocks.family import bare
from speca_pack.nodes.runtime.blocks.proxy import installed
from speca_pack.nodes.runtime.models.lookup import family_of


class Peer:
    """Computes the predictions that the pattern names, and answers the others from what it kept.

    Args:
        pattern: one entry per prediction, None where it is computed.
    """

    def __init__(self, pattern: Sequence[int | None]) -> None:
        self.pattern = pattern
        self.prediction = -1
        self.kept: dict[Any, Any] = {}

    def attached(self, model: Any) -> Any:
        """A clone of a ModelPatcher that samples with it."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "peer", self._predict)
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "peer", self._evaluate)
        return clone

    def _predict(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self.prediction += 1
        return executor(*args, **kwargs)

    def _evaluate(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **conds: Any,
    ) -> Any:
        options = transformer_options or {}

        def compute() -> Any:
            return executor(x, t, c_concat, c_crossattn, control, options, **conds)

        call = tuple(options["cond_or_uncond"])  # tells the calls of a prediction apart
        computing = self.pattern[self.prediction] is None
        return self.answer(call, computing, executor.class_obj, compute)

    def answer(self, call: Any, computing: bool, model: Any, compute: Callable[[], Any]) -> Any:
        """The output of a call."""
        raise NotImplementedError


class WholeOutput(Peer):
    """Gives the newest output again: the cheapest draft there is. TeaCache and EasyCache do so,
    with a first-order correction."""

    def answer(self, call: Any, computing: bool, model: Any, compute: Callable[[], Any]) -> Any:
        """Nothing of the model runs."""
        if computing:
            self.kept[call] = compute()
        return self.kept[call]


class EveryBlock(Peer):
    """TaylorSeer: a Taylor series of order 2 for every block's output. The paper keeps one for each
    of a block's modules, twice as many."""

    order = 2

    def answer(self, call: Any, computing: bool, model: Any, compute: Callable[[], Any]) -> Any:
        """Every block is called; on a draft each gives its forecast."""
        module = bare(model.diffusion_model)
        kept = self.kept.setdefault(call, {})
        with installed(
            module, family_of(module), _Ladders(kept, computing, self.order, self.prediction)
        ):
            return compute()


class _Ladders:
    """One call. Kept of each block: where it was computed last, how it returns outputs, and their
    differences of orders 0, 1, 2."""

    needs_refiners = all_blocks_run = True

    def __init__(self, kept: dict[Any, Any], computing: bool, order: int, place: int) -> None:
        self.kept = kept
        self.stream_is_computed = computing
        self.order = order
        self.place = place
        self.head_was_called = False

    def head(self, head: Any) -> Any:
        self.head_was_called = True
        return head()

    def runs(self, position: Any) -> bool:
        return self.stream_is_computed

    def block(self, position: Any, block: Any, arguments: Any) -> Any:
        newest, pack, ladders = self.kept.get(block, (0, tuple, []))
        gap = self.place - newest
        if not self.stream_is_computed:
            return pack([ladder and forecast(ladder, gap) for ladder in ladders])
        outputs = block(*arguments.args, **arguments.kwargs)
        several = isinstance(outputs, tuple | list)
        parts = outputs if several else [outputs]
        made = [
            climb(part, terms[: self.order], gap) if torch.is_tensor(part) else None
            for part, terms in zip(parts, ladders or itertools.repeat([]), strict=False)
        ]
        self.kept[block] = self.place, tuple if several else operator.itemgetter(0), made
        return outputs


def climb(output: torch.Tensor, old: list[torch.Tensor], gap: int) -> list[torch.Tensor]:
    """The differences of orders 0, 1, ...: the output itself, and how it differs from the old ones,
    `gap` steps before."""
    ladder = [output.clone()]
    for term in old:
        ladder.append((ladder[-1] - term) / gap)
    return ladder


def forecast(ladder: list[torch.Tensor], gap: int) -> torch.Tensor:
    """The series `gap` steps after the newest anchor."""
    made = ladder[0].clone()
    for order, term in enumerate(ladder[1:], 1):
        made.add_(term, alpha=gap**order / math.factorial(order))
    return made
