"""One sampling pass inside ComfyUI: answers the sampler's calls with drafts where the session allows it."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from ..config import SpecaConfig
from ..session import Call, Session
from .discovery import settled
from .families import Family, bare
from .passes import Anatomy, DraftPass, FullPass
from .proxy import Pass, installed
from .rows import rows_of, take


class Run:
    """Lives in the run's own transformer options, from the start of the sampling to its end.

    Args:
        config: what the user chose.
        family: of the model.
        sigmas: the run's schedule, steps + 1 values.
        flow: the model is a flow model: sigma is the share of noise.
        first_order: the sampler follows one slope per step, so that past drafts can be repaired.
    """

    def __init__(self, config: SpecaConfig, family: Family, sigmas: Sequence[float], flow: bool, first_order: bool) -> None:
        self.family = family
        self.verifier = config.verifier
        self.session = Session(config, sigmas, model=family.name, flow=flow)
        self.anatomy = Anatomy(family)
        self.repairs = config.hindsight and first_order
        self.started: float | None = None  # when the first call came in: sampling time without loading the weights

    def evaluate(self, executor: Any, x: torch.Tensor, t: torch.Tensor, *inputs: Any, **conds: Any) -> torch.Tensor:
        """Answer one APPLY_MODEL call; arguments and result are those of ComfyUI's `BaseModel.apply_model`.

        Args:
            x: [rows, ...] latent. t: [rows] sigmas.
            inputs: c_concat, c_crossattn, control, transformer_options. conds: further conditioning.
        """
        begun = time.perf_counter()
        self.started = self.started or begun
        options = inputs[3]
        if options.get(self.family.never_with) is not None:
            return executor(x, t, *inputs, **conds)  # type: ignore[no-any-return]
        model = bare(executor.class_obj.diffusion_model)
        if not self.family.stacks:  # its class is in no table

            def plain(latent: torch.Tensor) -> torch.Tensor:
                everyone = range(x.shape[0])
                answer: torch.Tensor = executor(
                    latent, t, *take(inputs[:3], everyone, x.shape[0]), options, **take(conds, everyone, x.shape[0])
                )
                return answer

            self.family = settled(self.family, self.verifier, model, plain, x)
            self.anatomy = Anatomy(self.family)
        rows = rows_of(x, options)
        images = [0] * len(rows.images) if self.family.joint else rows.images
        call = self.session.open_call(rows.lanes, images, rows.branches, float(options["sigmas"][0]))

        def run(handler: Pass, chosen: Sequence[int]) -> torch.Tensor:
            # Subsets hold whole images in every chunk, so the chunk arithmetic that other packs do on the options still holds.
            args, kwargs = take((x, t, *inputs[:3]), chosen, x.shape[0]), take(conds, chosen, x.shape[0])
            args = (*args, options)
            with installed(model, self.family, handler):
                output: torch.Tensor = executor(*args, **kwargs)
            return output

        output = self._answer(call, run)
        if self.repairs:
            output = call.repair(x, output)
        call.close(time.perf_counter() - begun)
        return output

    def _answer(self, call: Call, run: Any) -> torch.Tensor:
        """Draft what may be drafted, compute the rest, in one batch each."""
        computed = list(call.full_rows)
        drafted: torch.Tensor | None = None
        if call.draft_rows:
            draft = DraftPass(self.anatomy, self.verifier, call, call.draft_rows)
            drafted = run(draft, call.draft_rows)
            if not draft.resumed:
                computed = sorted(computed + draft.rejected)
        parts = [] if drafted is None else [(call.draft_rows, drafted)]
        if computed:
            full = FullPass(self.anatomy, self.verifier, call, computed)
            parts.append((computed, run(full, computed)))
        if len(parts) == 1:
            return parts[0][1]
        output = parts[-1][1].new_empty((len(call.lanes), *parts[-1][1].shape[1:]))
        for rows, part in parts:  # computed rows come last: they overwrite rejected drafts
            output[rows] = part
        return output
