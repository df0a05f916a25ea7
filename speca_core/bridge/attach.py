"""Attaching SpeCa to a ComfyUI model: four wrappers on a clone, and nothing else."""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from comfy.model_sampling import CONST
from comfy.patcher_extension import WrappersMP

from ..config import SpecaConfig
from ..errors import UnsupportedModel
from ..solver import Solver, probe
from .diagnose import diagnose
from .events import LiveRun
from .families import check, family_of
from .memory import announced, attempt, expected, measured, need_of, on_host, ran_out
from .neighbours import check_neighbours
from .reports import remember
from .run import Run
from .whole import WholeRun

KEY = "speca"
SOLVERS = {  # ComfyUI's samplers that add no noise and ask at most twice per step; its ddim is its euler
    "comfy.k_diffusion.sampling": "deis dpm_2 dpmpp_2m euler exp_heun_2_x0 gradient_estimation heun ipndm ipndm_v lms res_multistep",
    "comfy.extra_samplers.uni_pc": "unipc unipc_bh2",
}
HOST = torch.device("cpu")
KINDS = (WrappersMP.OUTER_SAMPLE, WrappersMP.PREPARE_SAMPLING, WrappersMP.PREDICT_NOISE, WrappersMP.APPLY_MODEL)
log = logging.getLogger("speca")


def accelerate(model: Any, config: SpecaConfig, node: str = "") -> Any:
    """A clone of `model` (a ComfyUI ModelPatcher) that samples with SpeCa; `model` itself is untouched.

    `node` is the id of the node whose page is shown the runs; empty if there is none.

    Raises:
        UnsupportedModel: the model is no diffusion transformer that SpeCa knows, and `config.forecasts` needs one.
        ConfigError: the settings do not go with the model.
    """
    start: Callable[..., Run | WholeRun]
    if config.forecasts == "features":
        family = family_of(model.model.diffusion_model)
        check(family, config)
        start = functools.partial(Run, config, family)
    else:
        diffusion_model = model.model.diffusion_model
        start = functools.partial(WholeRun, config, type(diffusion_model).__name__, _together(diffusion_model))
    patched = model.clone()
    if patched.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        log.warning("SpeCa: this model already went through SpeCa Accelerate; the later node's settings are used.")
        for kind in KINDS:
            patched.remove_wrappers_with_key(kind, KEY)
    for kind, wrapper in zip(
        KINDS, (functools.partial(_sample, start, config.hindsight, node), _prepare, _predict, _apply_model), strict=True
    ):
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched


def _together(diffusion_model: Any) -> bool:
    """Whether the rows of a call must be evaluated together. Of models that are in no table nobody knows: a batch may be frames."""
    try:
        return bool(family_of(diffusion_model).joint)
    except UnsupportedModel:
        return True


def _sample(start: Any, hindsight: bool, node: str, executor: Any, *args: Any, **kwargs: Any) -> Any:
    """OUTER_SAMPLE: a Run is made, lives in this run's own options, and is taken down whatever happens."""
    sigmas = args[3].tolist()  # noise, latent_image, sampler, sigmas, ...
    if len(sigmas) < 2 or not len(args[0]):
        return executor(*args, **kwargs)  # nothing to sample
    guider = executor.class_obj
    check_neighbours(guider.model_options)
    options = guider.model_options["transformer_options"]
    for kind in KINDS[1:]:
        # Innermost: below wrappers of others, so that they see every call, and below torch.compile's swap of the module.
        wrappers = options["wrappers"][kind]
        wrappers[KEY] = wrappers.pop(KEY)
    flow = isinstance(guider.model_patcher.get_model_object("model_sampling"), CONST)
    run = start(guider.model_patcher.model, sigmas, flow, solver_of(args[2], guider, args[3]) if hindsight else None)
    report = run.session.report
    live = LiveRun(run.session, node)
    options[KEY] = run
    try:
        latent = executor(*args, **kwargs)
        report.finished = True
    finally:
        del options[KEY]
        if run.need:
            measured(run.need, report.cache_bytes)
            if report.out_of_memory is not None:
                ran_out(run.need)
        report.seconds = time.perf_counter() - run.started if run.started else 0.0
        live.end()
        log.info("SpeCa: %s", report.summary)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("SpeCa:\n%s", diagnose(report))
    remember(latent, report)
    return latent


def solver_of(sampler: Any, guider: Any, sigmas: torch.Tensor) -> Solver | None:
    """What one of ComfyUI's samplers `SOLVERS` does; None for any other, and where none is found with its options (churn).

    An option that can be called may remember that it was, so that such a sampler is not tried.
    """
    function = getattr(sampler, "sampler_function", None)
    options = getattr(sampler, "extra_options", {})
    names = SOLVERS.get(getattr(function, "__module__", ""), "").split()
    known = getattr(function, "__name__", "").removeprefix("sample_") in names
    if not known or any(map(callable, options.values())):
        return None
    device = guider.model_patcher.load_device

    def sample(model: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor | None:
        def guided(*args: Any, **kwargs: Any) -> torch.Tensor:
            return model(*args, **kwargs)

        guided.inner_model = guider  # type: ignore[attr-defined]  # some look there for the model's scale of noise
        settings = {"extra_args": {}, "callback": None, "disable": True} | options
        try:
            # On the run's device: uni_pc's coefficients depend on its rounding. A copy of sigmas: uni_pc writes into it.
            return function(guided, x.to(device), sigmas.to(device, torch.float32, copy=True), **settings)  # type: ignore[misc,no-any-return]
        except Exception:  # it may need what only a run has; that is no reason for the run to fail
            log.warning("SpeCa: the sampler could not be tried out before the run; past drafts are not repaired.", exc_info=True)
            return None

    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # churn draws noise, and the run's own comes after it
        return probe(sample, sigmas.tolist())


def _prepare(executor: Any, patcher: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
    """PREPARE_SAMPLING: the weights are placed such that the anchors fit beside them."""
    run = kwargs["model_options"]["transformer_options"].get(KEY)
    if run is None:
        return executor(patcher, noise_shape, conds, *args, **kwargs)
    run.need = need_of(patcher, run.session.config, noise_shape, conds)
    size = expected(run.need)
    if on_host(patcher, run.need):
        log.info("SpeCa: the device has no room for the anchors of this run; they are kept on the host.")
        run.session.keep_on(HOST)
        size = 0
    with announced(patcher.model, size):
        return executor(patcher, noise_shape, conds, *args, **kwargs)


def _predict(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """PREDICT_NOISE: answered by the run, if one is under way in these options."""
    run = executor.class_obj.model_options["transformer_options"].get(KEY)
    if run is None:
        return executor(*args, **kwargs)
    if run.session.caching:
        answer = attempt(lambda: run.predict(executor, *args, **kwargs))
        if answer is not None:
            return answer
        run.session.give_up()
        log.warning("SpeCa: out of memory. Nothing is kept any more, and everything is computed for the rest of this run.")
    return run.predict(executor, *args, **kwargs)


def _apply_model(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """APPLY_MODEL: answered by the run, if one is under way in these options."""
    run = args[5].get(KEY) if len(args) > 5 else None
    return executor(*args, **kwargs) if run is None else run.evaluate(executor, *args, **kwargs)
