"""Where on a schedule something in the model begins or ends.

Adapters that work from one noise level to another hold these levels, in their closure, their
attributes or their arguments, under names that say so. What the model says on one side of such a
mark tells nothing of the other: no forecast goes across.
"""

import functools
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

from comfy.patcher_extension import WrappersMP

PLACES = "patches", "patches_replace", "optimized_attention_override"  # the last: sparse attention
DEPTH = 8  # of containers in containers
MOST = 8  # marks: more make a list of something else
BOUND = re.compile(
    r"(^|_)(start|begin|from|end|stop|until|lo|low|lower|hi|high|upper|min|max|sigmas?)(_|$)", re.I
)


def marks_of(transformer_options: Mapping[str, Any], low: float, high: float) -> list[float]:
    """The noise levels between two that others' patches and wrappers in the model hold as a
    bound, falling; none if there are too many to be bounds."""
    wrappers = transformer_options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    patches = [transformer_options.get(name, {}) for name in PLACES]
    held = numbers([*patches, wrappers], "", DEPTH, set())
    marks = sorted({number for number in held if low < number < high}, reverse=True)
    return marks if len(marks) <= MOST else []


def numbers(value: Any, name: str, depth: int, seen: set[int]) -> Iterator[float]:
    """The numbers that are kept under the name of a bound, in whatever a value leads to."""
    if isinstance(value, float):
        if BOUND.search(name):
            yield value
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
