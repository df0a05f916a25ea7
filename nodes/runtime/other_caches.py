"""Other caches on the same model: refused where results would be wrong, warned about where they
merely do not help.

A cache *below* us answers in place of the blocks that we believe to have run: what it hands on
would become an anchor, and a draft would pass without having reached the head. One *above* us
leaves calls out before we see them: the picture is what two caches make of it.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from comfy.patcher_extension import WrappersMP

from ...speca_core.errors import ConfigError

# Names under which EasyCache (ComfyUI's own), TeaCache, MagCache, First Block Cache and WaveSpeed,
# TaylorSeer and Cache-DiT appear.
CACHES = re.compile(
    r"(tea|mag|easy|lazy|fb|first_?block)_?cache|wave_?speed|taylor_?seer|cache_?dit", re.I
)
BELOW = (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)
ABOVE = (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.SAMPLER_SAMPLE)

log = logging.getLogger("speca")


def name_of(function: Any) -> str:
    """Module and qualified name of a callable."""
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', '')}.{name}"


def wrapped(options: Mapping[str, Any], kinds: tuple[str, ...]) -> Iterator[str]:
    """Names of the caches among the wrappers of some kinds."""
    for kind in kinds:
        for key, functions in options.get("wrappers", {}).get(kind, {}).items():
            yield from (
                f"{key} ({name_of(function)})"
                for function in functions
                if CACHES.search(f"{key} {name_of(function)}")
            )


def check_other_caches(model_options: Mapping[str, Any]) -> None:
    """See that nothing else on the model skips what SpeCa skips. To be called when a run starts,
    with the run's own options.

    Raises:
        ConfigError: a cache would answer in place of the model's blocks.
    """
    options = model_options.get("transformer_options", {})
    below = list(wrapped(options, BELOW))
    function: Callable[..., Any] | None = model_options.get("model_function_wrapper")
    if function is not None and CACHES.search(name_of(function)):
        below.append(name_of(function))
    if below:
        raise ConfigError(
            f"SpeCa: another cache is on this model, {', '.join(below)}; expected SpeCa to be the "
            "only one, because the other one answers in place of the blocks that SpeCa watches. "
            "Remove or bypass one of the two nodes."
        )
    if above := list(wrapped(options, ABOVE)):
        log.warning(
            "SpeCa: %s skips calls, unchecked, before SpeCa sees them. Better use one of the two.",
            ", ".join(above),
        )
