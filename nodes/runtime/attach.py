"""Attaching SpeCa to a ComfyUI model: four wrappers on a clone, and nothing else."""

import contextlib
import functools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from comfy.model_sampling import CONST
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import prepare_mask

from ...speca_core.config import SpecaConfig
from ...speca_core.report import RunReport
from .compat import memory_compiler_off
from .guidance import trust_in
from .harmless import harmless
from .knowledge import MOVES_MASK, Knowledge
from .machine import free_memory, machine_of
from .memory import announced, attempt, expected, measured, need_of, on_host, ran_out
from .other_caches import check_other_caches
from .page.diagnose import diagnose
from .page.events import LiveRun
from .page.report_store import remember
from .profiles import STORE, ProfileStore
from .run import KEY, Run
from .samplers import response_of
from .skipping import WATCHED, BlockWatch, is_known, suspects
from .targets import RUNS, run_for
from .windows import changes_in, marks_of

HOST = torch.device("cpu")
# Of each node: its runs that were plain because they taught. The same graph is faster now.
TAUGHT: Counter[str] = Counter()
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
        WrappersMP.OUTER_SAMPLE: functools.partial(_sample, run, config, node, profiles, carried),
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


def _sample(
    run_type: type[Run] | None,
    config: SpecaConfig,
    node: str,
    profiles: ProfileStore,
    carried: Any,
    executor: Any,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Any,
    sigmas: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """OUTER_SAMPLE: a Run is made, lives in this run's own options, and is taken down whatever
    happens."""
    inputs = noise, latent_image, sampler, sigmas
    if len(sigmas) < 2 or not len(noise):
        return executor(*inputs, *args, **kwargs)  # nothing to sample
    guider = executor.class_obj
    check_other_caches(guider.model_options)
    options = guider.model_options["transformer_options"]
    for kind in (WrappersMP.PREPARE_SAMPLING, WrappersMP.PREDICT_NOISE, WrappersMP.APPLY_MODEL):
        # Innermost: below wrappers of others, so that they see every call, and below
        # torch.compile's swap of the module.
        wrappers = options["wrappers"][kind]
        wrappers[KEY] = wrappers.pop(KEY)
    patcher = guider.model_patcher
    names = suspects(guider.model_options, patcher.model.diffusion_model)
    levels = patcher.get_model_object("model_sampling")
    flow = isinstance(levels, CONST)
    response = response_of(sampler, guider, sigmas) if config.hindsight else None
    knowledge = Knowledge(profiles, config, guider, flow, response, carried, end=float(sigmas[-1]))
    run = (run_type or run_for(config, guider, knowledge.gatherer is not None))(
        knowledge.config,
        patcher.model,
        sigmas.tolist(),
        flow,
        response,
        knowledge.path,
        knowledge.gatherer,
    )
    with harmless("looking for adapters that begin or end on the way"):
        run.marks = marks_of(
            options, changes_in(guider.conds), run.session.schedule.sigmas, levels.percent_to_sigma
        )
    report = run.session.report
    report.trust = trust_in(guider)
    run.blocks = BlockWatch(names, patcher.model.diffusion_model)
    if is_known(names):
        run.stand_aside()
    # A profile is made only where nobody skips.
    elif names and not (knowledge.path or knowledge.gatherer):
        report.watched = WATCHED
    report.settings = config.to_dict()  # as they were chosen, whatever could be had
    report.profile = knowledge.told
    live: LiveRun | None = None
    with harmless("telling the page of the run"):
        live = LiveRun(run.session, node)
    mask = kwargs.get("denoise_mask", args[0] if args else None)
    with harmless("looking where an inpaint model draws"):
        mask = _asked_for(guider, noise) if mask is None else mask
    if mask is not None and MOVES_MASK not in guider.model_options:
        run.session.draw(mask)
    shapes = kwargs.get("latent_shapes") or ()
    run.take_apart([math.prod(shape[1:]) for shape in shapes] if len(shapes) > 1 else ())
    with harmless("describing the machine"):
        report.machine = machine_of(patcher) | {"free before": free_memory(patcher)}
    with harmless("foreseeing what will be kept"):
        run.size = run.foreseen(noise)
    options[KEY] = run
    args = tuple(_showing(run, value) if callable(value) else value for value in args)
    guard = memory_compiler_off() if run.inside else contextlib.nullcontext()
    with contextlib.closing(run):  # also where an interrupt comes while the books are closed
        try:
            with guard:
                latent = executor(*inputs, *args, **kwargs)
            report.finished = True
        finally:
            options.pop(KEY, None)  # whoever cleans up options may have been here
            with harmless("describing the machine"):
                report.machine["free after"] = free_memory(patcher)
            report.seconds = time.perf_counter() - run.started if run.started else 0.0
            with harmless("closing the books of the run"):
                _settle(run, knowledge, node)
            with harmless("telling that the run is over"):
                _tell(report, live)
    with harmless("keeping the report of the run"):
        remember(latent, report)
    return latent


def _asked_for(guider: Any, noise: torch.Tensor) -> torch.Tensor | None:
    """Where an inpaint model is asked to draw, by the mask that its prompts bring, as the latents
    are; None: everywhere. What it is given fills the rest, and hides how far off the drawn part is.
    Masks of videos name whole frames, which are made as well."""
    conds = getattr(guider, "conds", {}).values()
    masks = (cond.get("concat_mask") for prompts in conds for cond in prompts)
    mask = next((mask for mask in masks if mask is not None), None)
    if mask is None or noise.ndim != 4:
        return None
    shape, device = (len(noise), 1, *noise.shape[2:]), guider.model_patcher.load_device
    drawn: torch.Tensor = prepare_mask(mask, shape, device).expand(noise.shape)
    return drawn


def _showing(run: Run, callback: Callable[..., Any]) -> Callable[..., Any]:
    """A sampler's callback, which shows previews and keeps the last prediction, without repairs."""

    def shown(step: int, denoised: Any, *rest: Any) -> Any:
        return callback(step, run.session.unrepaired(denoised), *rest)

    return shown


def _settle(run: Run, knowledge: Knowledge, node: str) -> None:
    """The run is over, finished or not: what it took, and what was foretold of it."""
    report = run.session.report
    if run.need:
        measured(run.need, report.cache_bytes)
        if report.out_of_memory is not None:
            ran_out(run.need)
    knowledge.tell(report)
    if report.finished:
        with harmless("keeping what the run has taught"):
            TAUGHT[node] += knowledge.learn(report)


def _tell(report: RunReport, live: LiveRun | None) -> None:
    """The page hears of the end even if the books were not closed."""
    if live is not None:
        live.end()
    log.info("SpeCa: %s", report.summary)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("SpeCa:\n%s", diagnose(report))


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
