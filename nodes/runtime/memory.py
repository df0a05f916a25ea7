"""The memory that a run's anchors take: announced before ComfyUI places the weights, and given back
when memory runs short.

on_host(...)      whether the anchors go to the host, where the device has no room for them
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

from ...speca_core.config import SpecaConfig
from .compat import is_oom

T = TypeVar("T")
MATTERS = 0.05  # of the memory that a call takes: less is not worth a copy to the host
KEEP = 256  # needs remembered, a few numbers each
log = logging.getLogger("speca")

_measured: "OrderedDict[Need, int]" = OrderedDict()
_ran_out: "OrderedDict[Need, None]" = OrderedDict()


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


def need_of(
    patcher: Any,
    config: SpecaConfig,
    noise_shape: Sequence[int],
    conds: Mapping[str, Collection[Any]],
    way: str = "",
) -> Need:
    """The need of a run of `patcher` (a ComfyUI ModelPatcher), with ComfyUI's `conds` by name; see
    `Run.way`."""
    settings = (
        config.effective_level,
        str(config.forecaster.depth),
        config.verifier.name,
        str(config.hindsight),
        way,
    )
    kind = (type(patcher.model.diffusion_model).__name__, str(patcher.model_dtype()), *settings)
    return Need(kind, tuple(noise_shape), sum(map(len, conds.values())))


def expected(need: Need, foreseen: int | None = None) -> int:
    """Bytes that the anchors will take: as foreseen, as measured, or in proportion to what another
    size of the same kind took; 0 if nothing is known.

    How many tokens a model makes of a latent is its own secret, so at level features a kind's first
    run cannot be foreseen.
    """
    if foreseen is not None:
        return foreseen
    if need in _measured:
        return _measured[need]
    return max(
        (
            math.ceil(size * need.elements / known.elements)
            for known, size in _measured.items()
            if known.kind == need.kind
        ),
        default=0,
    )


def measured(need: Need, size: int) -> None:
    """A run took `size` bytes. The largest counts: runs that ended early took less."""
    if not size or not need.elements:
        return  # nothing was kept: a plain run, one that never began, or no conditionings
    _remember(_measured, need, max(size, _measured.pop(need, 0)))


def ran_out(need: Need) -> None:
    """Memory ran out in a run of this need."""
    _remember(_ran_out, need, None)


def _remember(kept: "OrderedDict[Need, T]", need: Need, value: T) -> None:
    kept[need] = value
    while len(kept) > KEEP:
        kept.popitem(last=False)


def on_host(patcher: Any, need: Need, size: int) -> bool:
    """Whether the `size` bytes of a run's anchors are better kept on the host than on the model's
    device.

    They are where memory ran out before in such a run, and where they do not fit beside the weights
    and what ComfyUI expects the work to take: to push weights off the device costs more, since
    those are needed at every full call. A few latents push nothing off that would be missed.
    """
    if comfy.model_management.is_device_cpu(patcher.load_device):
        return False
    matters = size > MATTERS * work_of(patcher, need)
    return need in _ran_out or (matters and size > spare(patcher, need))


def work_of(patcher: Any, need: Need) -> float:
    """Bytes that ComfyUI expects a call of the model to take."""
    batch, *rest = need.shape
    return float(patcher.model.memory_required([2 * batch, *rest]))


def spare(patcher: Any, need: Need) -> float:
    """Bytes of the model's device that a run leaves when nothing else is on it; negative where the
    weights alone do not fit."""
    work = work_of(patcher, need) + comfy.model_management.extra_reserved_memory()
    total = comfy.model_management.get_total_memory(patcher.load_device)
    return float(total - patcher.model_size() - work)


@contextmanager
def announced(model: Any, size: int) -> Iterator[None]:
    """While this lasts, ComfyUI's estimate of the memory that `model` (a BaseModel) needs is larger
    by `size` bytes."""
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
