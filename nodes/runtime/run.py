"""One sampling pass inside ComfyUI, whatever it speculates on."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from comfy.model_management import InterruptProcessingException

from ...speca_core.budgets import Reason
from ...speca_core.config import SpecaConfig
from ...speca_core.gatherer import Gatherer
from ...speca_core.path_model import PathModel
from ...speca_core.sampler_response import SamplerResponse
from ...speca_core.session import Prediction, Session
from .compat import is_oom
from .memory import Need
from .skipping import BlockWatch

LISTENERS = "sampler_post_cfg_function"
FUNCTIONS = (  # of other packs, in a model's options
    LISTENERS,
    "sampler_pre_cfg_function",
    "sampler_cfg_function",
    "sampler_calc_cond_batch_function",
    "model_function_wrapper",
)
INSIDE = "patches", "patches_replace", "wrappers"  # the same, in its transformer options
KEY = "speca"  # of SpeCa's wrappers, and of the run in its options
log = logging.getLogger("speca")


class Run:
    """Lives in the run's own transformer options, from the start of the sampling to its end.

    Its kinds are in `subjects/`.

    Attributes:
        inside: drafts run a part of the model.
        foreign: what is not ComfyUI's makes the guidance, and is called on drafts, too.

    Args:
        config: what the user chose.
        model: ComfyUI's `BaseModel`.
        sigmas: the run's schedule, steps + 1 values.
        flow: the model is a flow model: sigma is the share of noise.
        response: how the sampler responds, if it is known.
        path, gatherer: see `Session`.
    """

    inside = False
    foreign = False

    def __init__(
        self,
        config: SpecaConfig,
        model: Any,
        sigmas: Sequence[float],
        flow: bool,
        response: SamplerResponse | None,
        path: PathModel | None = None,
        gatherer: Gatherer | None = None,
    ) -> None:
        self.model = model
        self.verifier = config.verifier
        name = type(model.diffusion_model).__name__
        self.session = Session(config, sigmas, name, flow, response, path=path, gatherer=gatherer)
        self.need: Need | None = None  # once it is known
        self.size: int | None = None  # bytes that will be kept, if that is known beforehand
        # At the first prediction: loading the weights is not ours.
        self.started: float | None = None
        self.coupled = False  # all rows decide together
        self.marks: Sequence[float] = ()  # noise levels that no forecast goes across
        self.blocks = BlockWatch(frozenset(), model.diffusion_model)
        self._warned: set[str] = set()

    @staticmethod
    def check(config: SpecaConfig, model: Any) -> None:
        """See at attach that the settings go with the model.

        Raises:
            UnsupportedModel: SpeCa does not know how to draft inside this model.
            ConfigError: the settings contradict what is known about it.
        """

    def predict(
        self,
        executor: Callable[..., torch.Tensor],
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict[str, Any],
        seed: int | None,
    ) -> torch.Tensor:
        """Answer one call of ComfyUI's `CFGGuider.predict_noise`, with its arguments.

        Args:
            executor: what answers without us; its `class_obj` is the guider.
            x: [images, ...] latents.
            timestep: [images] sigmas.

        Returns:
            [images, ...] the guided, denoised prediction.
        """
        self.started = self.started or time.perf_counter()
        return executor(x, timestep, model_options, seed)

    def evaluate(
        self,
        executor: Callable[..., torch.Tensor],
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **conds: Any,
    ) -> torch.Tensor:
        """Answer one call of ComfyUI's `BaseModel.apply_model`, with its arguments.

        Args:
            executor: what answers without us; its `class_obj` is the model.
            x: [rows, ...] latents. t: [rows] sigmas.

        Returns:
            [rows, ...] the denoised prediction of each row.
        """
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conds)

    def take_apart(self, sizes: Sequence[int]) -> None:
        """A row holds several latents end to end, of these sizes: video and audio."""
        self.session.parts = sizes
        if self.session.gatherer is not None:
            self.session.gatherer.parts = sizes

    def is_heard(self, options: Mapping[str, Any], guider: Any) -> bool:
        """Whether the sampler itself hears what the model says of each prompt, as CFG++ does, or
        takes part in it: it has put functions into the options of its calls. CFG++ goes by one of
        the prompts, and the errors of drafts grow from step to step: no check that was tried held
        them (pictures at 3 to 20 dB), so nothing is drafted. Beside foreign guidance all but that
        is called on drafts, too."""
        own = guider.model_options
        heard = len(options.get(LISTENERS, ())) > len(own.get(LISTENERS, ()))
        pairs = zip(functions_in(options), functions_in(own), strict=True)
        put_in = any(found is not None and found != known for found, known in pairs)
        if heard or (put_in and not self.foreign):
            self.warn_once(
                "this sampler goes by the model's answer to each prompt (CFG++), or changes it. "
                "Nothing is drafted; take a sampler without _cfg_pp in its name."
            )
            return True
        return False

    def window(self, sigma: float) -> tuple[bool, ...]:
        """On which side of the marks a noise level is. A profile has seen what happens there."""
        return () if self.session.path else tuple(sigma < mark for mark in self.marks)

    def compute(self, executor: Callable[..., torch.Tensor], *args: Any, **conds: Any) -> Any:
        """Ask the model, with the arguments of `evaluate`, and see that it runs."""
        with self.blocks.computed(args[5] or {}):
            answer = executor(*args, **conds)
        if self.blocks.skips:
            self.stand_aside()
        return answer

    def expect_calls(self, before: int) -> None:
        """A prediction is over, before which the report had so many calls. If it had some, and now
        no more, somebody has answered without the model."""
        if before and len(self.session.report.calls) == before:
            self.blocks.found()
            self.stand_aside()

    def stand_aside(self) -> None:
        """Another pack's cache answers in the model's place: draft nothing from here on."""
        self.session.stop(Reason.OTHER)
        names = "".join(f", {name}" for name in sorted(self.blocks.names))
        self.warn_once(
            f"another cache is on this model{names}: it answers without running the model's "
            "blocks. SpeCa drafts nothing beside it. Remove or bypass one of the two nodes."
        )

    def serve(
        self, prediction: Prediction, x: torch.Tensor, denoised: torch.Tensor
    ) -> torch.Tensor:
        """What the sampler gets; see `Prediction.serve`. An answer of a guider's own kind is handed
        on as it is: its sampler alone knows what it is."""
        if torch.is_tensor(denoised) and denoised.shape == x.shape:
            return prediction.serve(x, denoised)
        self.warn_once(
            "this guider's answers are no latents of the sampler's shape; drafts are not corrected "
            "later."
        )
        return denoised

    def parted(self, error: Exception) -> bool:
        """Whether an exception out of a call of some rows may come of their being alone; all rows
        are computed together then, from here on."""
        if is_oom(error) or isinstance(error, InterruptProcessingException):
            return False
        self.coupled = True
        self.warn_once(
            f"the model cannot do with some of the images ({type(error).__name__}: {error}); from "
            "here on they are computed together."
        )
        return True

    def foreseen(self, latents: torch.Tensor) -> int | None:
        """Bytes that will be kept in a run of such latents; None: nothing is known of them."""
        return None

    @property
    def way(self) -> str:
        """What is kept: it is another thing while a profile is made, and where one serves."""
        if self.session.gatherer is not None:
            return "learning"
        return "served" if self.session.path is not None else "alone"

    def close(self) -> None:
        """Sampling is over: whoever still holds the run holds numbers only."""
        self.session.close()

    def __deepcopy__(self, memo: Any) -> "Run":
        """A run is one, whoever copies the options that it lives in."""
        return self

    def warn_once(self, message: str) -> None:
        """Say something about this run in the log, the first time that it is true."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning("SpeCa: %s", message)


def functions_in(options: Mapping[str, Any]) -> list[Any]:
    """The functions of other packs in a model's options."""
    inside = options.get("transformer_options", {})
    return [options.get(name) or None for name in FUNCTIONS] + [
        inside.get(name) or None for name in INSIDE
    ]
