"""The runs of a calibration: what makes its pictures, and what is seen on the way."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import comfy.sample
import torch

from ...speca_core.budgets import Target
from ...speca_core.call import Call
from ...speca_core.config import SpecaConfig
from ...speca_core.errors import SpecaError
from ...speca_core.gatherer import some_numbers
from ...speca_core.profile import MOST_LEVELS, Profile
from ...speca_core.sampler_response import SamplerResponse
from .attach import accelerate
from .fingerprint import Key, fingerprint
from .profiles import ProfileStore
from .run import Run
from .subjects.prediction import PredictionRun, PredictionSubject

TINY = 1e-9
NOTHING_LEARNED = (
    "SpeCa Calibrate: nothing can be learned of this model here; expected a sampler without noise "
    f"(euler, dpmpp_2m, heun, uni_pc, ...), up to {MOST_LEVELS} noise levels, and guidance that is "
    "ComfyUI's own. Choose another sampler or fewer steps, or take the patch of the guidance away."
)

Seen = dict[float, tuple[torch.Tensor, torch.Tensor]]  # sigma -> some numbers of latent and slope


@dataclass(frozen=True)
class Recipe:
    """How pictures are made: the inputs of a KSampler, with a latent [1, ...]."""

    model: Any
    positive: Any
    negative: Any
    latent: torch.Tensor
    steps: int
    cfg: float
    sampler: str
    scheduler: str

    def sample(self, model: Any, seed: int, steps: int | None = None) -> torch.Tensor:
        """A latent [1, ...]."""
        noise = comfy.sample.prepare_noise(self.latent, seed)
        latent: torch.Tensor = comfy.sample.sample(
            model,
            noise,
            steps or self.steps,
            self.cfg,
            self.sampler,
            self.scheduler,
            self.positive,
            self.negative,
            self.latent,
            disable_pbar=True,
            seed=seed,
        )
        return latent

    @property
    def digest(self) -> str:
        """The same for the same pictures."""
        told = hashlib.sha256(fingerprint(self.model).encode())
        for setting in fields(self):
            if setting.name != "model":
                for part in _parts(getattr(self, setting.name)):
                    told.update(part)
        return told.hexdigest()


@dataclass(frozen=True)
class PlainResult:
    """A plain run: its latent, what was seen on the way, and what it teaches."""

    latent: torch.Tensor
    seen: Seen
    key: Key
    profile: Profile
    response: SamplerResponse


@dataclass
class Witness:
    """What a run showed.

    Attributes:
        seen: some numbers of each latent that was computed and of the slope there, by sigma.
        response: of the sampler.
    """

    seen: Seen = field(default_factory=dict)
    response: SamplerResponse | None = None

    @property
    def run(self) -> type[Run]:
        """A kind of run that shows all this."""
        witness = self

        class WitnessSubject(PredictionSubject):
            def compute(self, call: Call, rows: Sequence[int]) -> Any:
                answers = super().compute(call, rows)
                x = torch.stack([self.x[row] for row in rows])
                slopes = (x - torch.stack([*answers])) / self.sigma
                witness.seen[self.sigma] = some_numbers(x).cpu(), some_numbers(slopes).cpu()
                return answers

        class WitnessRun(PredictionRun):
            subject = WitnessSubject

            def __init__(
                self,
                config: SpecaConfig,
                model: Any,
                sigmas: Sequence[float],
                flow: bool,
                response: SamplerResponse | None,
                *known: Any,
            ) -> None:
                super().__init__(config, model, sigmas, flow, response, *known)
                witness.response = response
                if not any(known):  # neither a profile nor the wish to make one
                    raise SpecaError(NOTHING_LEARNED)

        return WitnessRun


class TrialStore(ProfileStore):
    """Holds the one profile that is on trial, and no file."""

    def __init__(self, profile: Profile | None = None) -> None:
        super().__init__()
        self.key: Key | None = None
        self.profile = profile  # None: nothing yet

    def read(self, key: Key) -> list[Profile]:
        """That profile."""
        self.key = key
        return [self.profile] if self.profile is not None else []

    def keep(self, key: Key, profile: Profile) -> None:
        """In memory alone."""
        self.key, self.profile = key, profile


def plain_run(recipe: Recipe, seed: int) -> PlainResult:
    """Make a picture plainly, and learn.

    Raises:
        SpecaError: nothing can be learned.
    """
    witness, store = Witness(), TrialStore()
    model = accelerate(recipe.model, SpecaConfig(threshold=0.0), run=witness.run, profiles=store)
    latent = recipe.sample(model, seed)
    if store.key is None or store.profile is None or witness.response is None:
        raise SpecaError(NOTHING_LEARNED)
    return PlainResult(latent, witness.seen, store.key, store.profile, witness.response)


def trial_run(
    recipe: Recipe, seed: int, store: ProfileStore, speedup: float
) -> tuple[torch.Tensor, Seen]:
    """Make a picture with the plan of a profile: its latent, and what was seen on the way."""
    witness = Witness()
    config = SpecaConfig(threshold=1.0, budget=Target(speedup=speedup))
    model = accelerate(recipe.model, config, run=witness.run, profiles=store)
    return recipe.sample(model, seed), witness.seen


def distance(latent: torch.Tensor, truth: torch.Tensor) -> float:
    """||latent - truth|| / ||truth||."""
    off = (latent.float() - truth.float()).norm() / truth.float().norm()
    return max(float(off), TINY)


def _parts(value: Any) -> Iterator[bytes]:
    """All that makes a conditioning, a latent or a number what it is."""
    if isinstance(value, torch.Tensor):
        yield value.detach().float().cpu().numpy().tobytes()
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield str(key).encode()
            yield from _parts(inside)
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from _parts(inside)
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield repr(value).encode()
    else:
        yield str(id(value)).encode()
