"""Level prediction: what is forecast is each image's guided prediction, whatever makes it.

On a draft no block, no head, no ControlNet and no text branch runs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ....speca_core.call import Call
from ....speca_core.config import SpecaConfig
from ....speca_core.session import Session
from ....speca_core.subject import Draft, Identity
from ....speca_core.tensors import join
from ....speca_core.verifiers import Verifier
from ..guidance import made_of, measured_in
from ..models.lookup import are_coupled
from ..models.table import CAUSAL
from ..rows import are_looked_at, rows_of, take
from ..run import Run


class PredictionSubject:
    """One prediction, or the model's answers for one; its head is the identity.

    Its feature is the slope v = (x - denoised) / sigma of a flow model. Where sigma is noise over
    signal, such a slope is nearly all noise while sigma is large: relative errors of it are too
    small. There the feature is v - denoised, which is the slope of the same path seen as a flow.
    Path models are made of slopes.

    Args:
        verifier: the run's.
        x: [rows, ...] latents.
        sigma: their noise level, above 0.
        evaluate: what is asked for, [rows, ...], of which only some rows are needed.
    """

    def __init__(
        self,
        verifier: Verifier,
        x: torch.Tensor,
        sigma: float,
        evaluate: Callable[[Sequence[int]], torch.Tensor],
    ) -> None:
        self.verifier = verifier
        self.x = x
        self.sigma = sigma
        self.evaluate = evaluate

    def draft(self, call: Call, rows: Sequence[int]) -> tuple[Sequence[int], Any]:
        """No evaluation."""
        draft = Draft(call, rows)
        slopes = draft.forecast()
        slopes = self.verifier.verify(draft, measured_in(call)(rows, Identity(slopes)), slopes)
        made: Sequence[torch.Tensor]
        if len(draft.accepted) == len(self.x):
            made = torch.sub(self.x, slopes, alpha=self.sigma)  # type: ignore[assignment]
        else:
            each = zip(rows, slopes, strict=True)
            taken = [(self.x[row], slope) for row, slope in each if row in draft.accepted]
            made = [torch.sub(x, slope, alpha=self.sigma) for x, slope in taken]
        if not forecasts_slopes(call.session):
            for denoised in made:
                denoised.div_(1 + self.sigma)
        return draft.accepted, made

    def compute(self, call: Call, rows: Sequence[int]) -> Any:
        """One prediction."""
        denoised = self.evaluate(rows)
        session = call.session
        if session.speculates or session.gatherer is not None:
            x, own = of_rows(self.x, rows), of_rows(denoised, rows)
            slopes = (x - own).div_(self.sigma)
            if session.gatherer is not None:
                session.gatherer.hear(self.sigma, self.x, slopes)
            else:
                if not forecasts_slopes(session):
                    slopes.sub_(own)
                call.learn(rows, slopes, slopes, measured_in(call)(rows, Identity(slopes)))
        return denoised if len(rows) == len(denoised) else [denoised[row] for row in rows]


def of_rows(batch: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Some rows of a batch, rising; the batch itself if it is all of them."""
    return batch if len(rows) == len(batch) else torch.stack([batch[row] for row in rows])


def forecasts_slopes(session: Session) -> bool:
    """What a run forecasts; see `PredictionSubject`."""
    return session.report.flow or session.path is not None


class PredictionRun(Run):
    """Answers the guider's predictions; a lane is an image."""

    subject: type[PredictionSubject] = PredictionSubject

    def __init__(self, config: SpecaConfig, model: Any, *schedule: Any) -> None:
        super().__init__(config, model, *schedule)
        self.coupled = are_coupled(model.diffusion_model)
        self._images = 0
        self._computed: Sequence[int] | None = None  # images that are needed now; None: all

    def predict(
        self,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Any,
        seed: Any,
    ) -> torch.Tensor:
        begun = time.perf_counter()
        guider = executor.class_obj
        plain = super().predict
        if self.stands_aside(model_options, guider):
            return plain(executor, x, timestep, model_options, seed)
        self.started = self.started or begun
        prediction = self.session.predict(timestep.flatten()[0], x)
        sigma = prediction.point.sigma
        if sigma == 0:
            return plain(executor, x, timestep, model_options, seed)
        self._images = len(x)
        images = range(len(x))
        # A change of guidance, prompts, controls or adapters on the way makes a prediction of
        # another kind: its lanes are others.
        conds = getattr(guider, "conds", {})
        kind = str(getattr(guider, "cfg", None)), asked_at(sigma, conds), made_of(conds)
        lanes = [(image, x.shape[1:], kind, self.window(sigma)) for image in images]
        coupled = self.coupled or are_looked_at(model_options.get("transformer_options", {}))
        call = prediction.open_call(lanes, images, [0] * len(x), coupled)

        def evaluate(chosen: Sequence[int]) -> torch.Tensor:
            self._computed = chosen if len(chosen) < len(x) else None
            try:
                return plain(executor, x, timestep, model_options, seed)
            finally:
                self._computed = None

        denoised = join(call.answer(self.subject(self.verifier, x, sigma, evaluate)))
        call.close(time.perf_counter() - begun)
        return prediction.serve(x, denoised)

    def foreseen(self, latents: torch.Tensor) -> int | None:
        return self.session.foreseen(latents)

    def stands_aside(self, options: Mapping[str, Any], guider: Any) -> bool:
        """Whether nothing may be drafted: the model's own cache needs every call, or the sampler
        listens."""
        never = options.get("transformer_options", {}).get(CAUSAL) is not None
        return never or self.is_heard(options, guider)

    def evaluate(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **conds: Any,
    ) -> torch.Tensor:
        """See `Run.evaluate`. Rows of drafted images are left out; nobody uses what stands for
        them."""
        inputs = c_concat, c_crossattn, control
        images = [] if self._computed is None else rows_of(x, transformer_options).images
        # Tiles or copies that a patch has put into the batch are not ours to tell apart.
        if self._computed is None or max(images) + 1 != self._images:
            return self.compute(executor, x, t, *inputs, transformer_options, **conds)  # type: ignore[no-any-return]
        chosen = [row for row, image in enumerate(images) if image in self._computed]
        return self.evaluate_some(executor, chosen, (x, t, *inputs), transformer_options, conds)

    def evaluate_some(
        self,
        executor: Any,
        chosen: Sequence[int],
        inputs: tuple[Any, ...],
        transformer_options: Any,
        conds: dict[str, Any],
    ) -> torch.Tensor:
        """The denoised prediction of some rows. In the place of others stands anything.

        Args:
            executor, inputs, transformer_options, conds: of a call, see `Run.evaluate`.
        """
        total = len(inputs[0])
        args = take(inputs, chosen, total)
        try:
            some = take(conds, chosen, total)
            computed = self.compute(executor, *args, transformer_options, **some)
        except Exception as error:
            if len(chosen) == total or not self.parted(error):
                raise
            return executor(*inputs, transformer_options, **conds)  # type: ignore[no-any-return]
        output: torch.Tensor = inputs[0].clone()
        for row, answer in zip(chosen, computed, strict=True):
            output[row] = answer
        return output


def asked_at(sigma: float, conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """Which of a guider's conditionings, and of their controls, ComfyUI asks at this noise level:
    all but those whose range of timesteps is over, or has not begun."""
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
    low, high = (
        sigma if bound is None else torch.tensor(bound, dtype=torch.float32).item()
        for bound in (end, start)
    )
    return low <= sigma <= high
