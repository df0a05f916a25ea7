"""Where on a schedule something in the model begins or ends.

Adapters that work from one place of the run to another hold these places, in their closure, their
attributes or their arguments, under names that say so: as noise levels, as shares of the run, or as
steps. What the model says on one side of such a mark tells nothing of the other: no forecast goes
across.
"""

import functools
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from comfy.patcher_extension import WrappersMP

from ...speca_core.axis import SAME_SIGMA

PLACES = "patches", "patches_replace", "optimized_attention_override"  # the last: sparse attention
DEPTH = 8  # of containers in containers
MOST = 8  # bounds: more make a list of something else
BOUND = re.compile(
    r"(^|_)(start|begin|from|end|stop|until|lo|low|lower|hi|high|upper|min|max|range|sigmas?)(_|$)",
    re.I,
)
SHARE = re.compile(r"percent|pct|progress|_at$", re.I)  # of the run
STEP = re.compile(r"(^|_)steps?(_|$)", re.I)
PERCENTS = {  # of a prompt, and whether it begins there
    "start_percent": True,
    "end_percent": False,
    "clip_start_percent": True,
    "clip_end_percent": False,
}
EITHER = re.compile(r"^(start|begin|from|end|stop|until|range)$", re.I)  # a level, or a share


def bounds_of(transformer_options: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The names and values of the bounds that others' patches and wrappers in the model hold; none
    if there are too many to be bounds."""
    wrappers = transformer_options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    patches = [transformer_options.get(name, {}) for name in PLACES]
    held = sorted({*numbers([*patches, wrappers], "", DEPTH, set())})
    return held if len({number for _, number in held}) <= MOST else []


def changes_in(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[float, bool]]:
    """The shares of the run at which a guider's prompts or their ControlNets begin or end, or a
    hook changes the strength of its LoRA, and whether that is a beginning: at the bound itself
    ComfyUI asks what begins and what ends. As it holds them before it samples."""
    found: set[tuple[float, bool]] = set()
    for cond in (cond for prompts in conds.values() for cond in prompts):
        found |= {(cond[name], begins) for name, begins in PERCENTS.items() if name in cond}
        control = cond.get("control")
        while control is not None:
            found |= {
                *zip(getattr(control, "timestep_percent_range", ()), (True, False), strict=False)
            }
            control = getattr(control, "previous_controlnet", None)
        for hook in getattr(cond.get("hooks"), "hooks", ()):
            frames = getattr(getattr(hook, "hook_keyframe", None), "keyframes", ())
            found |= {(frame.start_percent, True) for frame in frames}
    return sorted(change for change in found if 0 < change[0] < 1)


def marks_of(
    transformer_options: Mapping[str, Any],
    changes: Sequence[tuple[float, bool]],
    sigmas: Sequence[float],
    level_at: Callable[[float], float],
) -> list[float]:
    """The noise levels within a schedule at which such a bound or a change lies, falling.

    Args:
        changes: see `changes_in`.
        sigmas: of the schedule.
        level_at: the noise level at a share of the run, as ComfyUI counts it.
    """
    marks = {
        float(level_at(share)) * (1 + SAME_SIGMA * (1 if begins else -1))
        for share, begins in changes
    }
    for name, number in bounds_of(transformer_options):
        marks |= {*levels(name, number, sigmas, level_at)}
    return sorted((m for m in marks if min(sigmas) < m < max(sigmas)), reverse=True)


def levels(
    name: str, number: float, sigmas: Sequence[float], level_at: Callable[[float], float]
) -> Iterator[float]:
    """What noise levels a bound may mean."""
    if isinstance(number, int):
        yield before(number, sigmas)
        return
    if not SHARE.search(name):
        yield number
    if 0 < number < 1 and (SHARE.search(name) or EITHER.search(name)):
        yield float(level_at(number))
        yield before(math.ceil(number * (len(sigmas) - 1)), sigmas)


def before(step: int, sigmas: Sequence[float]) -> float:
    """A noise level between a step and the one before."""
    return (sigmas[step - 1] + sigmas[step]) / 2 if 0 < step < len(sigmas) else sigmas[0]


def numbers(value: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, float]]:
    """The numbers that are kept under the name of a bound, in whatever a value leads to."""
    if isinstance(value, (int, float)):
        if BOUND.search(name) and (isinstance(value, float) or STEP.search(name)):
            yield name, value
        return
    if depth == 0 or id(value) in seen:
        return
    seen.add(id(value))
    for key, inside in parts(value, name):
        yield from numbers(inside, key, depth - 1, seen)


def parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What a value holds, by name; what is in a list goes by the list's."""
    if isinstance(value, Mapping):
        yield from ((str(key), inside) for key, inside in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((name, inside) for inside in value[:64])
    elif isinstance(value, functools.partial):
        yield from (("", value.func), (name, value.args), ("", value.keywords))
    elif isinstance(value, types.MethodType):
        yield from (("", value.__self__), ("", value.__func__))
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((name, cell.cell_contents) for name, cell in cells if is_filled(cell))
    elif type(value).__module__.partition(".")[0] not in ("builtins", "torch"):
        yield from getattr(value, "__dict__", {}).items()


def is_filled(cell: Any) -> bool:
    """Whether the variable of a closure has a value by now."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
