"""Level prediction where something foreign makes the guidance. What is forecast is the model's
answer to each prompt: guiders and guidance functions are called on drafts, too."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from ....speca_core.config import SpecaConfig
from ....speca_core.session import Prediction
from ....speca_core.tensors import join
from ..guidance import GuidanceMeter, PromptWatch
from ..rows import are_looked_at, rows_of
from ..run import Run
from .prediction import PredictionRun


class GuidedRun(PredictionRun):
    """Answers ComfyUI's calls of the model; a lane is a row."""

    foreign = True

    def __init__(self, config: SpecaConfig, model: Any, *schedule: Any) -> None:
        super().__init__(config, model, *schedule)
        self.prediction: Prediction | None = None  # None: the one under way is plain
        self.meter = GuidanceMeter(foreign=True)
        self.watch = PromptWatch()
        self.session.holders += [self.meter, self.watch]

    def close(self) -> None:
        super().close()
        self.prediction = None
        self.meter, self.watch = GuidanceMeter(foreign=True), PromptWatch()

    def predict(
        self,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Any,
        seed: Any,
    ) -> torch.Tensor:
        guider, self.prediction = executor.class_obj, None
        self._images = len(x)
        if not self.stands_aside(model_options, guider):
            scale = self.meter.scale(guider)
            prediction = self.session.predict(timestep.flatten()[0], x, scale)
            self.prediction = prediction if prediction.point.sigma > 0 else None
        calls = len(self.session.report.calls)
        denoised = Run.predict(self, executor, x, timestep, model_options, seed)
        if self.prediction is None:
            return denoised
        self.expect_calls(calls)
        self.meter.observe(denoised)
        return self.serve(self.prediction, x, denoised)

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
        begun = time.perf_counter()
        inputs = x, t, c_concat, c_crossattn, control
        if self.prediction is None or executor.class_obj is not self.model:
            return executor(*inputs, transformer_options, **conds)  # type: ignore[no-any-return]

        def evaluate(chosen: Sequence[int]) -> torch.Tensor:
            return self.evaluate_some(executor, chosen, inputs, transformer_options, conds)

        rows = rows_of(x, transformer_options)
        sigma = self.prediction.point.sigma
        versions = self.watch.versions(rows, c_crossattn, self.prediction.number)
        lanes = [(*each, self.window(sigma)) for each in zip(rows.lanes, versions, strict=True)]
        # Tiles or copies that a wrapper has put into the batch: whose are they?
        whose = max(rows.images) + 1 == self._images
        coupled = self.coupled or are_looked_at(transformer_options) or not whose
        call = self.prediction.open_call(lanes, rows.images, rows.branches, coupled)
        denoised = join(call.answer(self.subject(self.verifier, x, sigma, evaluate)))
        self.meter.hear(rows, denoised)
        call.close(time.perf_counter() - begun)
        return denoised
