"""What guidance makes of the model's answers, and who makes it.

Errors are judged in what the sampler gets, where guidance has multiplied the difference of cond and
uncond.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...speca_core.call import Call
from ...speca_core.session import FORGET_AFTER
from ...speca_core.subject import Head
from ...speca_core.tensors import parts_of, weighed
from .rows import Rows
from .run import FUNCTIONS, KEY

CAUTION = 0.5  # share of the threshold with a guider that may go by forecasts
AROUND = (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH)


def guidance_of(guider: Any) -> float | None:
    """The CFG scale of a guider that does plain classifier-free guidance; None where something else
    makes the prediction."""
    plain = type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise
    if not plain or "sampler_cfg_function" in guider.model_options:
        return None
    return float(guider.cfg)


def trust_in(guider: Any) -> float:
    """Share of the threshold that drafts may use up. A guider of another pack may go by what the
    model answers (adaptive guidance does), and on a draft it would go by forecasts."""
    method = type(guider).predict_noise
    # ComfyUI names its extra nodes by their path.
    own = method is comfy.samplers.CFGGuider.predict_noise or "comfy_extras" in str(
        method.__module__
    )
    return 1.0 if own else CAUTION


def is_foreign(guider: Any) -> bool:
    """Whether anything but ComfyUI's plain guidance makes the predictions of a run. It may count
    its calls, or change what it does on the way; so it is called at each of them."""
    options = guider.model_options
    wrappers = options.get("transformer_options", {}).get("wrappers", {})
    around = [key for kind in AROUND for key, found in wrappers.get(kind, {}).items() if found]
    functions = [options.get(name) for name in FUNCTIONS]
    return bool(guidance_of(guider) is None or {*around} - {KEY} or any(functions))


class GuidanceMeter:
    """The CFG scale of each prediction of a run, in which errors are judged. Of foreign guidance it
    is measured: w of the newest prediction = u + w (c - u), c and u being the model's answers.

    Args:
        foreign: the guidance of the run is, see `is_foreign`.
    """

    def __init__(self, foreign: bool) -> None:
        self.foreign = foreign
        self._measured: float | None = None
        self._heard: dict[int, dict[int, torch.Tensor]] = {}  # by branch and image

    def scale(self, guider: Any) -> float | None:
        """Of the prediction that begins; None: unknown."""
        self._heard = {}
        told = guidance_of(guider)
        if not self.foreign:
            return told
        told = getattr(guider, "cfg", None) if told is None else told
        known = [self._measured, told if isinstance(told, (int, float)) else None]
        # It may change at any time: the stronger one is the safer one.
        return max((float(scale) for scale in known if scale is not None), key=abs, default=None)

    def hear(self, rows: Rows, answers: torch.Tensor) -> None:
        """The model's answers [rows, ...], which guidance will combine."""
        if self.foreign:
            for branch, image, answer in zip(rows.branches, rows.images, answers, strict=True):
                self._heard.setdefault(branch, {})[image] = answer

    def observe(self, denoised: Any) -> None:
        """What guidance has made of them, [images, ...]; anything else is not looked at."""
        if self.foreign and torch.is_tensor(denoised):
            self._measure(denoised)
        self._heard = {}

    def _measure(self, denoised: torch.Tensor) -> None:
        images = range(len(denoised))
        if {*self._heard} == {0}:
            self._measured = 1.0
        elif {*self._heard} == {0, 1} and all(
            {*heard} == {*images} for heard in self._heard.values()
        ):
            cond, uncond = (
                torch.stack([self._heard[branch][image] for image in images]).float()
                for branch in (0, 1)
            )
            apart = cond - uncond
            along = ((denoised.float() - uncond) * apart).sum()
            self._measured = float(along / apart.square().sum().clamp_min(1e-12))
        else:
            self._measured = None

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(answer.nbytes for heard in self._heard.values() for answer in heard.values())


class PromptWatch:
    """Tells when what a lane is asked for changes on the way, as where a wrapper swaps prompts."""

    def __init__(self) -> None:
        # By the lanes of a call: prompts, versions, and in which prediction; the newest last.
        self._asked: dict[tuple[Any, ...], tuple[torch.Tensor, list[int], int]] = {}

    def versions(self, rows: Rows, prompts: Any, prediction: int) -> list[int]:
        """How often each row's prompt has changed so far; rows are forgotten when their lanes are.

        Args:
            prompts: [rows, tokens, channels]; anything else is not looked at.
            prediction: the number of the one that asks.
        """
        lanes = tuple(rows.lanes)
        if not torch.is_tensor(prompts) or len(prompts) != len(lanes):
            return [0] * len(lanes)
        before, versions, _ = self._asked.pop(lanes, (prompts, [0] * len(lanes), 0))
        if before.shape != prompts.shape:
            changed = [True] * len(lanes)
        else:
            changed = (before != prompts).flatten(1).any(1).tolist()
        versions = [version + change for version, change in zip(versions, changed, strict=True)]
        self._asked[lanes] = prompts, versions, prediction
        for key, (*_, seen) in [*self._asked.items()]:
            if prediction - seen <= FORGET_AFTER:
                break
            del self._asked[key]
        return versions

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(prompts.nbytes for prompts, *_ in self._asked.values())


def made_of(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Any, ...]:
    """Which tensors a guider's conditionings are made of; others may be put in on the way. Nothing
    is held by that."""
    prompts = (cond for prompts in conds.values() for cond in prompts)
    return tuple(
        weakref.ref(each) for cond in prompts for each in cond.get("model_conds", {}).values()
    )


class HeadAround:
    """A head that does as the one in it; its kinds measure something else."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def __call__(self, stream: torch.Tensor | None = None) -> Any:
        return self.head(stream)

    def measured(self, result: Any) -> torch.Tensor:
        """The model's output."""
        return self.head.measured(result)

    def parts(self, measured: torch.Tensor) -> Sequence[torch.Tensor]:
        """What of it is judged apart."""
        return self.head.parts(measured)


class GuidedHead(HeadAround):
    """A head whose results are measured after guidance has combined both prompts."""

    def __init__(self, head: Head, call: Call, rows: Sequence[int], guidance: float) -> None:
        super().__init__(head)
        self.call = call
        self.rows = rows
        self.guidance = guidance

    def measured(self, result: Any) -> torch.Tensor:
        """The model's output, combined."""
        images = [self.call.images[row] for row in self.rows]
        branches = [self.call.branches[row] for row in self.rows]
        return combine_cfg(self.head.measured(result), images, branches, self.guidance)


class PartedHead(HeadAround):
    """A head whose output is laid end to end of several, as of video and audio.

    Args:
        sizes: numbers in each part of a row.
    """

    def __init__(self, head: Head, sizes: Sequence[int]) -> None:
        super().__init__(head)
        self.sizes = sizes

    def parts(self, measured: torch.Tensor) -> Sequence[torch.Tensor]:
        """One for each; an output of another size is left whole."""
        return parts_of(measured, self.sizes)


class DrawnHead(HeadAround):
    """A head of whose output only a part is used.

    Args:
        share: of each number, [rows, ...]; see `Session.draw`.
    """

    def __init__(self, head: Head, share: torch.Tensor) -> None:
        super().__init__(head)
        self.share = share

    def measured(self, result: Any) -> torch.Tensor:
        """The model's output, as far as it is used."""
        return weighed(self.head.measured(result), self.share)


def measured_in(call: Call) -> Callable[[Sequence[int], Any], Head]:
    """Per prompt, unless the scale of guidance is known and the user wants it combined; each part
    of the output for itself; and only as far as it is used."""
    guidance, sizes = call.prediction.guidance, call.session.parts
    drawn = call.session.drawn
    if drawn is not None and len(drawn) <= max(call.images):
        drawn = None  # tiles, or copies in the batch

    def measured(rows: Sequence[int], head: Any) -> Head:
        if sizes:
            head = PartedHead(head, sizes)
        if drawn is not None:
            head = DrawnHead(head, torch.stack([drawn[call.images[row]] for row in rows]))
        if guidance is None or not call.session.config.guided:
            return head  # type: ignore[no-any-return]
        return GuidedHead(head, call, rows, guidance)

    return measured


def combine_cfg(
    outputs: torch.Tensor, images: Sequence[int], branches: Sequence[int], guidance: float
) -> torch.Tensor:
    """What guidance makes of a call's outputs.

    If both branches of an image are among the rows, each becomes uncond + guidance * (cond -
    uncond), cond being branch 0. All other rows stay as they are.

    Args:
        outputs: [rows, ...].
        images, branches: of each row.

    Returns:
        [rows, ...].
    """
    made = outputs.clone()
    for image in set(images):
        own = [i for i, other in enumerate(images) if other == image]
        pair = sorted((branches[i], i) for i in own)
        if [branch for branch, _ in pair] == [0, 1]:
            cond, uncond = (i for _, i in pair)
            mixed = torch.lerp(outputs[uncond].float(), outputs[cond].float(), guidance)
            made[cond] = made[uncond] = mixed.to(made.dtype)
    return made
