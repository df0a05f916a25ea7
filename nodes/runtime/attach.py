"""Attaching SpeCa to a ComfyUI model: four wrappers on a clone, and nothing else."""

import functools
import logging
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...speca_core.config import SpecaConfig
from .harmless import harmless
from .memory import announced, attempt, expected, need_of, on_host
from .profiles import STORE, ProfileStore
from .run import KEY, Run
from .sampling import Sampling
from .subjects import RUNS

HOST = torch.device("cpu")
log = logging.getLogger("speca")


def accelerate(
    model: Any,
    config: SpecaConfig,
    node: str = "",
    run: type[Run] | None = None,
    profiles: ProfileStore = STORE,
    carried: Any = None,
) -> Any:
    """A clone of a model that samples with SpeCa.

    Example: `fast = accelerate(model, SpecaConfig(threshold=0.2))`, then sample `fast` as usual.

    Args:
        model: a ComfyUI ModelPatcher; it is left as it is.
        config: what the user chose.
        node: id of the node whose page is shown the runs; empty if there is none.
        run: the kind of run to make; None: see `run_for`. Measurements and tests bring their own.
        profiles: where what is learned of models is kept.
        carried: the profile that a shared workflow brings along, or anything else.

    Raises:
        UnsupportedModel: level features, and SpeCa does not know how to draft inside this model.
        ConfigError: the settings do not go with the model.
    """
    (run or RUNS[config.effective_level]).check(config, model.model)
    patched = model.clone()
    wrappers = {
        WrappersMP.OUTER_SAMPLE: Sampling(run, config, node, profiles, carried),
        WrappersMP.PREPARE_SAMPLING: _prepare,
        WrappersMP.PREDICT_NOISE: _predict,
        WrappersMP.APPLY_MODEL: _apply_model,
    }
    if patched.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        log.warning(
            "SpeCa: this model already went through the SpeCa node; the later node's settings "
            "are used."
        )
        for kind in wrappers:
            patched.remove_wrappers_with_key(kind, KEY)
    for kind, wrapper in wrappers.items():
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched


def _prepare(
    executor: Any,
    patcher: Any,
    noise_shape: Any,
    conds: Any,
    model_options: Any = None,
    **kwargs: Any,
) -> Any:
    """PREPARE_SAMPLING: the weights are placed such that the anchors fit beside them."""
    run = (model_options or {}).get("transformer_options", {}).get(KEY)
    inputs = patcher, noise_shape, conds
    if run is None:
        return executor(*inputs, model_options=model_options, **kwargs)
    size = 0
    with harmless("making room for the anchors"):
        run.need = need_of(patcher, run.session.config, noise_shape, conds, run.way)
        size = expected(run.need, run.size)
        if on_host(patcher, run.need, size):
            log.info("SpeCa: the device has no room for this run's anchors; the host keeps them.")
            run.session.place_anchors_on(HOST)
            size = 0
    with announced(patcher.model, size):
        return executor(*inputs, model_options=model_options, **kwargs)


def _predict(
    executor: Any,
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: Any = None,
    seed: int | None = None,
) -> Any:
    """PREDICT_NOISE: answered by the run, if one is under way in these options."""
    run = executor.class_obj.model_options["transformer_options"].get(KEY)
    inputs = x, timestep, model_options or {}, seed
    if run is None:
        return executor(*inputs)
    if run.session.caching:
        answer = attempt(lambda: run.predict(executor, *inputs))
        if answer is not None:
            return answer
        run.session.stop_caching()
        log.warning(
            "SpeCa: out of memory: the cache was dropped; the rest of this run uses no drafts."
        )
    return run.predict(executor, *inputs)


def _apply_model(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: Any = None,
    c_crossattn: Any = None,
    control: Any = None,
    transformer_options: Any = None,
    **conds: Any,
) -> Any:
    """APPLY_MODEL: answered by the run, if one is under way in these options."""
    run = (transformer_options or {}).get(KEY)
    answer = executor if run is None else functools.partial(run.evaluate, executor)
    if transformer_options is None:
        return answer(x, t, c_concat, c_crossattn, control, **conds)
    return answer(x, t, c_concat, c_crossattn, control, transformer_options, **conds)
