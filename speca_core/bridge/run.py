"""One sampling pass inside ComfyUI: answers the sampler's calls with drafts where the session allows it."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import comfy.samplers
import torch

from ..config import SpecaConfig
from ..session import Call, Session
from ..solver import Solver
from .discovery import settled
from .families import Family, bare
from .memory import Need
from .passes import Anatomy, DraftPass, FullPass
from .proxy import Pass, installed
from .rows import rows_of, take

log = logging.getLogger("speca")


class Run:
    """Lives in the run's own transformer options, from the start of the sampling to its end.

    Args:
        config: what the user chose.
        family: of the model.
        model: ComfyUI's `BaseModel`. Calls of any other model that shares the options (a second one for the negative prompt, clones
            for further GPUs, which run at the same time) go straight through.
        sigmas: the run's schedule, steps + 1 values.
        flow: the model is a flow model: sigma is the share of noise.
        solver: what the sampler does, if it is known, so that past drafts can be repaired.
    """

    def __init__(self, config: SpecaConfig, family: Family, model: Any, sigmas: Sequence[float], flow: bool, solver: Solver | None) -> None:
        self.family = family
        self.model = model
        self.verifier = config.verifier
        self.session = Session(config, sigmas, model=family.name, flow=flow, solver=solver)
        self.anatomy = Anatomy(family)
        self.need: Need | None = None  # once it is known
        self.started: float | None = None  # when the first prediction was asked for: sampling time without loading the weights
        self._warned = False

    def predict(self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
        """Answer one PREDICT_NOISE call; arguments and result are those of ComfyUI's `CFGGuider.predict_noise`.

        Args:
            x: [images, ...] latents. timestep: [images] sigmas.
        """
        self.started = self.started or time.perf_counter()
        self.session.arrive(timestep.flatten()[0], x, guidance_of(executor.class_obj))
        denoised: torch.Tensor = executor(x, timestep, *rest, **kwargs)
        return self.session.serve(x, denoised)

    def evaluate(self, executor: Any, x: torch.Tensor, t: torch.Tensor, *inputs: Any, **conds: Any) -> torch.Tensor:
        """Answer one APPLY_MODEL call; arguments and result are those of ComfyUI's `BaseModel.apply_model`.

        Args:
            x: [rows, ...] latent. t: [rows] sigmas.
            inputs: c_concat, c_crossattn, control, transformer_options. conds: further conditioning.
        """
        begun = time.perf_counter()
        options = inputs[3]
        if executor.class_obj is not self.model:
            self._warn_of_another_model()
            return executor(x, t, *inputs, **conds)  # type: ignore[no-any-return]
        if options.get(self.family.never_with) is not None:
            return executor(x, t, *inputs, **conds)  # type: ignore[no-any-return]
        model = bare(executor.class_obj.diffusion_model)
        if self.session.caching and not self.family.stacks:  # its class is in no table

            def plain(latent: torch.Tensor) -> torch.Tensor:
                everyone = range(x.shape[0])
                answer: torch.Tensor = executor(
                    latent, t, *take(inputs[:3], everyone, x.shape[0]), options, **take(conds, everyone, x.shape[0])
                )
                return answer

            self.family = settled(self.family, self.verifier, model, plain, x)
            self.anatomy = Anatomy(self.family)
        rows = rows_of(x, options)
        call = self.session.open_call(rows.lanes, rows.images, rows.branches, together=bool(self.family.joint))

        def run(handler: Pass, chosen: Sequence[int]) -> torch.Tensor:
            # Subsets hold whole images in every chunk, so the chunk arithmetic that other packs do on the options still holds.
            args, kwargs = take((x, t, *inputs[:3]), chosen, x.shape[0]), take(conds, chosen, x.shape[0])
            with installed(model, self.family, handler):
                output: torch.Tensor = executor(*args, options, **kwargs)
            return output

        output = self._answer(call, run) if self.session.caching else executor(x, t, *inputs, **conds)
        call.close(time.perf_counter() - begun)
        return output

    def _answer(self, call: Call, run: Callable[[Pass, Sequence[int]], torch.Tensor]) -> torch.Tensor:
        """Draft what may be drafted, compute the rest, in one batch each."""
        computed = list(call.full_rows)
        drafted: torch.Tensor | None = None
        if call.draft_rows:
            draft = DraftPass(self.anatomy, self.verifier, call, call.draft_rows)
            drafted = run(draft, call.draft_rows)
            if not draft.resumed:
                computed = sorted(computed + draft.rejected)
        if drafted is not None and not computed:
            return drafted
        output = run(FullPass(self.anatomy, self.verifier, call, computed), computed)
        if drafted is None or len(computed) == len(call.lanes):
            return output
        served = dict(zip(call.draft_rows, drafted, strict=True)) | dict(zip(computed, output, strict=True))
        return torch.stack([served[row] for row in range(len(call.lanes))])

    def _warn_of_another_model(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "SpeCa: some calls of this run go to another model or another GPU; those are computed in full. "
                "Level prediction skips them too."
            )


def guidance_of(guider: Any) -> float | None:
    """The CFG scale of a guider that does plain classifier-free guidance; None where something else makes the prediction."""
    plain = type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise and "sampler_cfg_function" not in guider.model_options
    return float(guider.cfg) if plain else None
