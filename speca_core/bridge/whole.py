"""A run that forecasts whole predictions: no block, no head, no ControlNet and no text branch runs on a draft, whatever the model."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..config import SpecaConfig
from ..session import EXIT, Session
from ..solver import Solver
from .memory import Need
from .rows import rows_of, take

NEVER_WITH = "ar_state"  # causal video: each call fills the caches that the next frames read
LISTENERS = "sampler_post_cfg_function"
# What a patch puts there may look at the whole batch, as Mahiro's mean does: no image's place in it may be filled with anything else.
OF_THE_BATCH = (LISTENERS, "sampler_pre_cfg_function", "sampler_cfg_function", "sampler_calc_cond_batch_function")
log = logging.getLogger("speca")


class WholeRun:
    """As `Run`, one level higher: a lane is an image, its exit tap the slope v = (x - denoised) / sigma of its guided prediction.

    Args:
        config: what the user chose.
        name: the model's, for the report.
        together: the rows of a call cannot be evaluated apart, so that all images decide together.
        model, sigmas, flow, solver: as for `Run`.
    """

    def __init__(
        self, config: SpecaConfig, name: str, together: bool, model: Any, sigmas: Sequence[float], flow: bool, solver: Solver | None
    ) -> None:
        self.verifier = config.verifier
        self.together = together
        self.session = Session(config, sigmas, model=name, flow=flow, solver=solver)
        self.need: Need | None = None
        self.started: float | None = None
        self._computed: list[int] | None = None  # images that the calls under way must compute; None: all
        self._images = 0
        self._warned = False

    def predict(self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
        """Answer one PREDICT_NOISE call; arguments and result are those of ComfyUI's `CFGGuider.predict_noise`.

        Args:
            x: [images, ...] latents. timestep: [images] sigmas.
        """
        begun = time.perf_counter()
        self.started = self.started or begun
        options = rest[0] if rest else kwargs.get("model_options", {})
        if NEVER_WITH in options.get("transformer_options", {}) or self._listens(options, executor.class_obj):
            return executor(x, timestep, *rest, **kwargs)  # type: ignore[no-any-return]
        self.session.arrive(timestep.flatten()[0], x)
        sigma = self.session.moment.sigma
        if sigma == 0:
            return executor(x, timestep, *rest, **kwargs)  # type: ignore[no-any-return]
        self._images = len(x)
        images = range(len(x))
        # A change of guidance, prompts or controls on the way makes a prediction of another kind: its lanes are others.
        kind = str(getattr(executor.class_obj, "cfg", None)), asked_at(sigma, getattr(executor.class_obj, "conds", {}))
        together = self.together or any(options.get(name) for name in OF_THE_BATCH)
        call = self.session.open_call([(i, x.shape[1:], kind) for i in images], images, [0] * len(x), together)
        computed, slopes = list(call.full_rows), {}
        if call.draft_rows:
            slopes = dict(zip(call.draft_rows, call.forecast(EXIT, call.draft_rows), strict=True))
            opinions = call.opinions(call.draft_rows)
            errors = None
            if opinions:
                low, high = (torch.stack(opinion) for opinion in opinions)
                errors = self.verifier.error(high, low).tolist()
            computed = sorted(computed + call.judge(call.draft_rows, errors)[1])
        if computed:
            self._computed = computed if len(computed) < len(x) else None
            try:
                denoised: torch.Tensor = executor(x, timestep, *rest, **kwargs)
            finally:
                self._computed = None
            if self.session.caching:
                truths = [(x[i] - denoised[i]) / sigma for i in computed]
                if scorable := call.scorable(computed):
                    truth = torch.stack([truths[computed.index(i)] for i in scorable])
                    call.score(scorable, self.verifier.error(torch.stack(call.forecast(EXIT, scorable)), truth).tolist())
                call.observe(EXIT, computed, truths)
        else:
            denoised = torch.empty_like(x)
        for i in set(call.draft_rows) - set(computed):
            denoised[i] = x[i] - sigma * slopes[i]
        call.close(time.perf_counter() - begun)
        return self.session.serve(x, denoised)

    def _listens(self, options: Mapping[str, Any], guider: Any) -> bool:
        """Whether the sampler itself hears what the model says of each prompt, as CFG++ does: a draft would leave it with the last word."""
        listens = len(options.get(LISTENERS, ())) > len(guider.model_options.get(LISTENERS, ()))
        if listens and not self._warned:
            self._warned = True
            log.warning("SpeCa: this sampler needs the model's answer to each prompt. Level prediction drafts nothing; set it to features.")
        return listens

    def evaluate(self, executor: Any, x: torch.Tensor, t: torch.Tensor, *inputs: Any, **conds: Any) -> torch.Tensor:
        """Answer one APPLY_MODEL call; as `Run.evaluate`. Rows of drafted images are left out; what stands for them is not used."""
        if self._computed is None:
            return executor(x, t, *inputs, **conds)  # type: ignore[no-any-return]
        images = rows_of(x, inputs[3]).images
        if max(images) + 1 != self._images:  # tiles or copies that a patch has put into the batch: not ours to tell apart
            return executor(x, t, *inputs, **conds)  # type: ignore[no-any-return]
        chosen = [row for row, image in enumerate(images) if image in self._computed]
        args, kwargs = take((x, t, *inputs[:3]), chosen, x.shape[0]), take(conds, chosen, x.shape[0])
        output = x.clone()
        for row, computed in zip(chosen, executor(*args, inputs[3], **kwargs), strict=True):
            output[row] = computed
        return output


def asked_at(sigma: float, conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """Which of a guider's conditionings, and of their controls, ComfyUI asks at this noise level: all but those whose range of timesteps
    is over, or has not begun."""
    found = []
    for cond in (cond for prompts in conds.values() for cond in prompts):
        if _within(sigma, cond.get("timestep_start"), cond.get("timestep_end")):
            found.append(str(cond.get("uuid")))
        control = cond.get("control")
        while control is not None:
            if _within(sigma, *(getattr(control, "timestep_range", None) or (None, None))):
                found.append(str(id(control)))
            control = getattr(control, "previous_controlnet", None)
    return tuple(found)


def _within(sigma: float, start: float | None, end: float | None) -> bool:
    """As ComfyUI compares: with bounds in float32, as sigma is."""
    low, high = (sigma if bound is None else torch.tensor(bound, dtype=torch.float32).item() for bound in (end, start))
    return low <= sigma <= high
