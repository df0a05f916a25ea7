"""Level features: what is forecast is the input of the model's head, for each row of a call."""

import functools
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from ....speca_core.call import Call
from ....speca_core.config import SpecaConfig
from ....speca_core.session import Prediction
from ....speca_core.subject import Source
from ....speca_core.tensors import join
from ....speca_core.verifiers import Verifier
from ..blocks.family import bare
from ..blocks.passes import DraftPass, FullPass, StreamMap
from ..blocks.proxy import Pass, installed
from ..guidance import GuidanceMeter, PromptWatch, is_foreign, made_of, measured_in
from ..models.discovery import discover
from ..models.lookup import check, family_of
from ..rows import are_looked_at, rows_of, take
from ..run import Run


class FeaturesSubject:
    """One call: a draft leaves the blocks out, but for the verifier's.

    Args:
        stream_map: of the model.
        verifier: the run's.
        run: evaluates some rows of the call with a pass.
    """

    def __init__(
        self,
        stream_map: StreamMap,
        verifier: Verifier,
        run: Callable[[Pass, Sequence[int]], torch.Tensor],
    ) -> None:
        self.stream_map = stream_map
        self.verifier = verifier
        self.run = run

    def source(self, call: Call) -> Source:
        """Where forecasts come from and features go; measurements may stand between."""
        return call

    def draft(self, call: Call, rows: Sequence[int]) -> tuple[Sequence[int], Any]:
        """One pass without blocks. If it goes on as a full one, all rows are answered."""
        source = self.source(call)
        handler = DraftPass(self.stream_map, self.verifier, source, rows, measured_in(call))
        outputs = self.run(handler, rows)
        if handler.resumed or len(handler.draft.accepted) == len(rows):
            return rows, outputs
        accepted = handler.draft.accepted
        return accepted, [outputs[i] for i, row in enumerate(rows) if row in accepted]

    def compute(self, call: Call, rows: Sequence[int]) -> torch.Tensor:
        """One full pass."""
        source = self.source(call)
        handler = FullPass(self.stream_map, self.verifier, source, rows, measured_in(call))
        return self.run(handler, rows)


class FeatureRun(Run):
    """Answers ComfyUI's calls of the model; a lane is a row.

    Calls of any other model that shares the options (a second one for the negative prompt, clones
    for further GPUs, which run at the same time) go straight through.
    """

    subject: type[FeaturesSubject] = FeaturesSubject
    inside = True

    def __init__(self, config: SpecaConfig, model: Any, *schedule: Any) -> None:
        super().__init__(config, model, *schedule)
        self.family = family_of(model.diffusion_model)
        self.session.report.model = self.family.name
        self.stream_map = StreamMap(self.family)
        self.prediction: Prediction | None = None
        self.meter: GuidanceMeter | None = None  # from the first prediction on
        self.asked: Hashable = ()  # see `made_of`
        self.watch = PromptWatch()
        self.session.holders.append(self.watch)

    def close(self) -> None:
        super().close()
        self.prediction, self.meter, self.watch = None, None, PromptWatch()
        self.stream_map = StreamMap(self.family)  # one that is half learnt holds streams

    @staticmethod
    def check(config: SpecaConfig, model: Any) -> None:
        check(family_of(model.diffusion_model), config)

    def predict(
        self,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Any,
        seed: Any,
    ) -> torch.Tensor:
        guider, self.prediction = executor.class_obj, None
        if self.meter is None:
            self.foreign = is_foreign(guider)
            self.meter = GuidanceMeter(self.foreign)
            self.session.holders.append(self.meter)
        if self.is_heard(model_options, guider):
            return super().predict(executor, x, timestep, model_options, seed)
        self.asked = made_of(getattr(guider, "conds", {}))
        self.prediction = self.session.predict(timestep.flatten()[0], x, self.meter.scale(guider))
        calls = len(self.session.report.calls)
        denoised = super().predict(executor, x, timestep, model_options, seed)
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
        own, total = executor.class_obj is self.model, x.shape[0]

        def evaluate(
            chosen: Sequence[int], x: torch.Tensor = x, ask: Callable[..., Any] = executor
        ) -> torch.Tensor:
            # Subsets hold whole images in every chunk, so the chunk arithmetic that other packs do
            # on the options still holds.
            args = take((x, t, c_concat, c_crossattn, control), chosen, total)
            answer: torch.Tensor = ask(*args, transformer_options, **take(conds, chosen, total))
            return answer

        if not own:
            self.warn_once(
                "some calls of this run go to another model or another GPU; those are computed in "
                "full. Level prediction skips them too."
            )
        skips = transformer_options.get(self.family.never_with) is not None
        if not own or skips or self.prediction is None or self.meter is None:
            return executor(  # type: ignore[no-any-return]
                x, t, c_concat, c_crossattn, control, transformer_options, **conds
            )
        model = bare(self.model.diffusion_model)
        if self.session.speculates and not self.family.stacks:  # its class is in no table
            everyone = range(total)
            self.family = discover(
                self.family, self.verifier, model, lambda latent: evaluate(everyone, latent), x
            )
            self.stream_map = StreamMap(self.family)
        rows = rows_of(x, transformer_options)
        coupled = self.coupled or bool(self.family.coupled) or are_looked_at(transformer_options)
        window = self.window(self.prediction.point.sigma)
        versions: Sequence[Hashable] = [self.asked] * total
        if self.foreign:
            versions = self.watch.versions(rows, c_crossattn, self.prediction.number)
        lanes = [(*each, window) for each in zip(rows.lanes, versions, strict=True)]
        call = self.prediction.open_call(lanes, rows.images, rows.branches, coupled)

        def run(handler: Pass, chosen: Sequence[int]) -> torch.Tensor:
            full = isinstance(handler, FullPass)
            ask = functools.partial(self.compute, executor) if full else executor
            try:
                with installed(model, self.family, handler):
                    return evaluate(chosen, ask=ask)
            except Exception as error:
                if not full or len(chosen) == total or not self.parted(error):
                    raise
            # Nobody learns from it: the call is not of these rows alone.
            return evaluate(range(total))[list(chosen)]

        if self.session.speculates:
            output = join(call.answer(self.subject(self.stream_map, self.verifier, run)))
        else:
            output = executor(x, t, c_concat, c_crossattn, control, transformer_options, **conds)
        self.meter.hear(rows, output)
        call.close(time.perf_counter() - begun)
        return output
