"""One sampling: its run is made, lives in the sampling's own options, and is taken down."""

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from .memory import measured, ran_out
from .other_caches import check_other_caches
from .page.diagnose import diagnose
from .page.events import LiveRun
from .page.report_store import remember
from .profiles import ProfileStore
from .run import KEY, Run
from .samplers import response_of
from .skipping import WATCHED, BlockWatch, is_known, suspects
from .subjects import run_for
from .windows import changes_in, marks_of

# Of each node: its runs that were plain because they taught. The same graph is faster now.
TAUGHT: Counter[str] = Counter()
log = logging.getLogger("speca")


@dataclass(frozen=True, eq=False)
class Sampling:
    """OUTER_SAMPLE: what to do about each sampling of a model; see `accelerate`."""

    run: type[Run] | None
    config: SpecaConfig
    node: str
    profiles: ProfileStore
    carried: Any

    def __call__(
        self,
        executor: Any,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Any,
        sigmas: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Sample, with a run in the options."""
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
        run, knowledge = self._open(guider, sampler, sigmas)
        report = run.session.report
        live: LiveRun | None = None
        with harmless("telling the page of the run"):
            live = LiveRun(run.session, self.node)
        mask = kwargs.get("denoise_mask", args[0] if args else None)
        _look_at(run, guider, noise, mask, kwargs.get("latent_shapes") or ())
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
                    report.machine["free after"] = free_memory(guider.model_patcher)
                report.seconds = time.perf_counter() - run.started if run.started else 0.0
                with harmless("closing the books of the run"):
                    self._settle(run, knowledge)
                with harmless("telling that the run is over"):
                    _tell(report, live)
        with harmless("keeping the report of the run"):
            remember(latent, report)
        return latent

    def _open(self, guider: Any, sampler: Any, sigmas: torch.Tensor) -> tuple[Run, Knowledge]:
        """A run, and what it knows; of the picture it has seen nothing yet."""
        patcher, config, schedule = guider.model_patcher, self.config, sigmas.tolist()
        model_sampling = patcher.get_model_object("model_sampling")
        flow = isinstance(model_sampling, CONST)
        response = response_of(sampler, guider, sigmas) if config.hindsight else None
        changes = None  # unknown
        with harmless("looking for what begins or ends on the way"):
            changes = changes_in(guider.conds)
        changing = changes is None or bool(changes)
        knowledge = Knowledge(
            self.profiles, config, guider, flow, response, changing, self.carried, end=schedule[-1]
        )
        path, gatherer = knowledge.path, knowledge.gatherer
        make = self.run or run_for(config, guider, gatherer is not None)
        run = make(knowledge.config, patcher.model, schedule, flow, response, path, gatherer)
        with harmless("looking for adapters that begin or end on the way"):
            run.marks = marks_of(
                guider.model_options["transformer_options"],
                changes or (),
                run.session.schedule.sigmas,
                model_sampling.percent_to_sigma,
            )
        report = run.session.report
        report.trust = trust_in(guider)
        report.settings = config.to_dict()  # as they were chosen, whatever could be had
        report.profile = knowledge.told
        names = suspects(guider.model_options, patcher.model.diffusion_model)
        run.blocks = BlockWatch(names, patcher.model.diffusion_model)
        if is_known(names):
            run.stand_aside()
        # A profile is made only where nobody skips.
        elif names and not (path or gatherer):
            report.watched = WATCHED
        with harmless("describing the machine"):
            report.machine = machine_of(patcher) | {"free before": free_memory(patcher)}
        return run, knowledge

    def _settle(self, run: Run, knowledge: Knowledge) -> None:
        """The run is over, finished or not: what it took, and what was foretold of it."""
        report = run.session.report
        if run.need:
            measured(run.need, report.cache_bytes)
            if report.out_of_memory is not None:
                ran_out(run.need)
        with harmless("foretelling the next runs"):
            knowledge.tell(report)
        if report.finished:
            with harmless("keeping what the run has taught"):
                TAUGHT[self.node] += knowledge.learn(report)


def _look_at(
    run: Run,
    guider: Any,
    noise: torch.Tensor,
    mask: torch.Tensor | None,
    shapes: Sequence[Sequence[int]],
) -> None:
    """What the run is to make: where it is drawn, of which parts it is, and how large.

    Args:
        mask: where it is drawn; None: the prompts may say.
        shapes: of the parts that lie end to end in a row; empty if all is one.
    """
    with harmless("looking where an inpaint model draws"):
        mask = _asked_for(guider, noise) if mask is None else mask
    if mask is not None and MOVES_MASK not in guider.model_options:
        run.session.draw(mask)
    run.take_apart([math.prod(shape[1:]) for shape in shapes] if len(shapes) > 1 else ())
    with harmless("foreseeing what will be kept"):
        run.size = run.foreseen(noise)


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


def _tell(report: RunReport, live: LiveRun | None) -> None:
    """The page hears of the end even if the books were not closed."""
    if live is not None:
        live.end()
    log.info("SpeCa: %s", report.summary)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("SpeCa:\n%s", diagnose(report))
