"""What other caches do on a drafted prediction, written down plainly to have its cost; their rules of when to do it are left out."""

import itertools
import math
import operator
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from speca_pack.nodes.runtime.blocks.family import bare
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.blocks.proxy import installed
from speca_pack.nodes.runtime.blocks.streams import as_list


class Peer:
    """Computes the predictions that the pattern says, and answers the others from what it kept.

    Args:
        pattern: one entry per prediction, None where it is computed.
    """

    def __init__(self, pattern: list[int | None]) -> None:
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

    def _evaluate(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        return self.answer(tuple(args[5]["cond_or_uncond"]), self.pattern[self.prediction] is None, executor, args, kwargs)

    def answer(self, key: Any, computing: bool, executor: Any, args: Any, kwargs: Any) -> Any:
        """The output of a call; `key` tells the calls of a prediction apart."""
        raise NotImplementedError


class WholeOutput(Peer):
    """Gives the newest output again: the cheapest draft there is. What TeaCache and EasyCache do, but for a first-order correction."""

    def answer(self, key: Any, computing: bool, executor: Any, args: Any, kwargs: Any) -> Any:
        """Nothing of the model runs."""
        if computing:
            self.kept[key] = executor(*args, **kwargs)
        return self.kept[key]


class EveryBlock(Peer):
    """TaylorSeer: a Taylor series of order 2 for every block's output. The paper keeps one for each of a block's modules, twice as many."""

    order = 2

    def answer(self, key: Any, computing: bool, executor: Any, args: Any, kwargs: Any) -> Any:
        """Every block is called; on a draft each gives its forecast."""
        model = bare(executor.class_obj.diffusion_model)
        handler = _Ladders(self.kept.setdefault(key, {}), computing, self.order, self.prediction)
        with installed(model, family_of(model), handler):
            return executor(*args, **kwargs)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        outputs = [ladder for blocks in self.kept.values() for _, _, ladders in blocks.values() for ladder in ladders]
        return sum(term.nbytes for ladder in outputs for term in ladder or [])


class _Ladders:
    """One call. Kept of each block: where it was computed last, how it returns outputs, and their differences of orders 0, 1, 2."""

    def __init__(self, kept: dict[Any, Any], computing: bool, order: int, place: int) -> None:
        self.kept, self.computing, self.order, self.place = kept, computing, order, place
        self.reached, self.complete, self.refining = False, True, True

    def head(self, head: Any) -> Any:
        self.reached = True
        return head()

    def runs(self, place: Any) -> bool:
        return self.computing

    def block(self, place: Any, block: Any, arguments: Any) -> Any:
        newest, pack, ladders = self.kept.get(block, (0, tuple, []))
        gap = self.place - newest
        if not self.computing:
            return pack([ladder and forecast(ladder, gap) for ladder in ladders])
        outputs = block(*arguments.args, **arguments.kwargs)
        parts, old = as_list(outputs), ladders or itertools.repeat([])
        made = [climb(part, terms[: self.order], gap) if torch.is_tensor(part) else None for part, terms in zip(parts, old, strict=False)]
        self.kept[block] = self.place, tuple if isinstance(outputs, tuple | list) else operator.itemgetter(0), made
        return outputs


def climb(output: torch.Tensor, old: list[torch.Tensor], gap: int) -> list[torch.Tensor]:
    """The differences of orders 0, 1, ...: the output itself, and how it differs from the old ones, `gap` steps before."""
    ladder = [output.clone()]
    for term in old:
        ladder.append((ladder[-1] - term) / gap)
    return ladder


def forecast(ladder: list[torch.Tensor], gap: int) -> torch.Tensor:
    """The series `gap` steps behind the newest anchor."""
    made = ladder[0].clone()
    for order, term in enumerate(ladder[1:], 1):
        made.add_(term, alpha=gap**order / math.factorial(order))
    return made
