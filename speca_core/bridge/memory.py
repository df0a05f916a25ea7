"""The memory that a run's anchors take: announced before ComfyUI places the weights, and given back when memory runs short.

announced(...)    a context in which ComfyUI's estimate for the model includes the anchors
attempt(...)      work that may run out of memory; the caller then goes on without it
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import comfy.model_management

from ..config import SpecaConfig
from .compat import is_oom

T = TypeVar("T")
KEEP = 256  # sizes remembered, a few numbers each
log = logging.getLogger("speca")

_measured: "OrderedDict[Need, int]" = OrderedDict()


@dataclass(frozen=True)
class Need:
    """What decides how many bytes a run's anchors take.

    Attributes:
        kind: the model's class and dtype, and the settings that say what is kept.
        shape: of the noise. conds: number of conditionings.
    """

    kind: tuple[str, ...]
    shape: tuple[int, ...]
    conds: int

    @property
    def elements(self) -> int:
        """Numbers in the latents of all lanes."""
        return math.prod(self.shape) * self.conds


def need_of(patcher: Any, config: SpecaConfig, noise_shape: Sequence[int], conds: Mapping[str, Collection[Any]]) -> Need:
    """The need of a run of `patcher` (a ComfyUI ModelPatcher), with ComfyUI's `conds` by name."""
    settings = (config.level, str(config.forecaster.depth), config.verifier.name, str(config.hindsight))
    kind = (type(patcher.model.diffusion_model).__name__, str(patcher.model_dtype()), *settings)
    return Need(kind, tuple(noise_shape), sum(map(len, conds.values())))


def expected(need: Need) -> int:
    """Bytes that the anchors will take: as measured, or in proportion to what another size of the same kind took; 0 if nothing is known.

    How many tokens a model makes of a latent is its own secret, so a kind's first run cannot be foreseen.
    """
    if need in _measured:
        return _measured[need]
    return max(
        (math.ceil(size * need.elements / known.elements) for known, size in _measured.items() if known.kind == need.kind), default=0
    )


def measured(need: Need, size: int) -> None:
    """A run took `size` bytes. Runs that ended early took less than they need: the largest counts."""
    if not need.elements:
        return  # without conditionings there was nothing to keep
    _measured[need] = max(size, _measured.pop(need, 0))
    while len(_measured) > KEEP:
        _measured.popitem(last=False)


@contextmanager
def announced(model: Any, size: int) -> Iterator[None]:
    """While this lasts, ComfyUI's estimate of the memory that `model` (a BaseModel) needs is larger by `size` bytes."""
    plain, before = model.memory_required, vars(model).get("memory_required")

    def with_anchors(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs) + size

    vars(model)["memory_required"] = with_anchors
    try:
        yield
    finally:
        if before is None:
            del vars(model)["memory_required"]
        else:
            vars(model)["memory_required"] = before


def attempt(work: Callable[[], T]) -> T | None:
    """What `work` returns; None if memory ran out in it, after all that it held was let go."""
    try:
        return work()
    except Exception as error:
        if not is_oom(error):
            raise
        log.debug("SpeCa: out of memory", exc_info=True)
    # Only here is the exception gone, and with it the frames that held the tensors.
    comfy.model_management.soft_empty_cache()
    return None
