"""Attaching SpeCa to a ComfyUI model: two wrappers on a clone, and nothing else."""

import functools
import logging
import time
from typing import Any

from comfy.model_sampling import CONST
from comfy.patcher_extension import WrappersMP

from ..config import SpecaConfig
from .events import LiveRun
from .families import Family, check, family_of
from .reports import remember
from .run import Run

KEY = "speca"
log = logging.getLogger("speca")


def accelerate(model: Any, config: SpecaConfig, node: str = "") -> Any:
    """A clone of `model` (a ComfyUI ModelPatcher) that samples with SpeCa; `model` itself is untouched.

    `node` is the id of the node whose page is shown the runs; empty if there is none.

    Raises:
        UnsupportedModel: the model is no diffusion transformer that SpeCa knows.
        ConfigError: the settings do not go with the model.
    """
    family = family_of(model.model.diffusion_model)
    check(family, config)
    patched = model.clone()
    if patched.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        log.warning("SpeCa: this model already went through SpeCa Accelerate; the later node's settings are used.")
        patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
        patched.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, KEY)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, functools.partial(_sample, config, family, node))
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _apply_model)
    return patched


def _sample(config: SpecaConfig, family: Family, node: str, executor: Any, *args: Any, **kwargs: Any) -> Any:
    """OUTER_SAMPLE: a Run is made, lives in this run's own options, and is taken down whatever happens."""
    sigmas = args[3].tolist()  # noise, latent_image, sampler, sigmas, ...
    if len(sigmas) < 2:
        return executor(*args, **kwargs)  # nothing to sample
    options = executor.class_obj.model_options["transformer_options"]
    # Innermost: below wrappers of others, so that they see every call, and below torch.compile's swap of the module.
    wrappers = options["wrappers"][WrappersMP.APPLY_MODEL]
    wrappers[KEY] = wrappers.pop(KEY)
    flow = isinstance(executor.class_obj.model_patcher.get_model_object("model_sampling"), CONST)
    run = options[KEY] = Run(config, family, sigmas, flow, is_first_order(args[2]))
    report = run.session.report
    live = LiveRun(run.session, node)
    try:
        latent = executor(*args, **kwargs)
        report.finished = True
    finally:
        del options[KEY]
        report.seconds = time.perf_counter() - run.started if run.started else 0.0
        live.end()
        log.info("SpeCa: %s", report.summary)
    remember(latent, report)
    return latent


def is_first_order(sampler: Any) -> bool:
    """Whether a sampler is plain Euler (ComfyUI's ddim is it too): one call per step, one slope, no churn."""
    function = getattr(sampler, "sampler_function", None)
    return getattr(function, "__name__", "") == "sample_euler" and not getattr(sampler, "extra_options", {}).get("s_churn")


def _apply_model(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """APPLY_MODEL: answered by the run, if one is under way in these options."""
    run = args[5].get(KEY) if len(args) > 5 else None
    return executor(*args, **kwargs) if run is None else run.evaluate(executor, *args, **kwargs)
