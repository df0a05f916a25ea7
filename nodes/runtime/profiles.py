"""Profiles of the models on this machine: a JSON file each, under ComfyUI's user directory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ...speca_core.axis import blended
from ...speca_core.config import SpecaConfig
from ...speca_core.errors import ConfigError
from ...speca_core.path_model import PathModel
from ...speca_core.profile import Gatherer, Profile
from ...speca_core.reaction import reaction
from ...speca_core.report import RunReport
from ...speca_core.sampler_response import SamplerResponse
from .guidance import is_foreign
from .harmless import harmless

SAMPLED = 16  # weights of which some numbers are read
NUMBERS = 8  # of each
KEEP = 8  # path models, with their arithmetic
MOST = 32  # profiles per model
STEP = 1.2  # of the surprise that a plan takes into account
PATCHES = (
    "sampler_cfg_function",
    "sampler_calc_cond_batch_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
)
log = logging.getLogger("speca")


@dataclass(frozen=True)
class Key:
    """What a profile belongs to.

    Attributes:
        model: fingerprint of the weights and of everything that is patched into them.
        name: of the model's class, for people.
        variant: the guider and whatever else takes part in a prediction.
        guidance: CFG scale.
        flow: the model is a flow model.
    """

    model: str
    name: str
    variant: str
    guidance: float
    flow: bool


def key_of(guider: Any, flow: bool) -> Key | None:
    """The key of a run; None if its guidance is not one number."""
    if is_foreign(guider):
        return None
    patcher, conds = guider.model_patcher, getattr(guider, "conds", None) or {}
    guidance = getattr(guider, "cfg", None)
    if not isinstance(guidance, (int, float)):
        return None
    options = guider.model_options
    transformer = options.get("transformer_options", {})
    functions = [options.get(name) or () for name in PATCHES]
    wrappers = [*named(transformer.get("wrappers", {}))]
    distilled = [cond.get("guidance") for prompts in conds.values() for cond in prompts]
    told = (
        type(guider).__name__,
        {name: len(prompts) for name, prompts in conds.items()},
        distilled,
        [*named(functions)],
        [*named({k: transformer[k] for k in ("patches", "patches_replace") if k in transformer})],
        wrappers,
    )
    diffusion = patcher.model.diffusion_model
    return Key(
        fingerprint(patcher),
        type(diffusion).__name__,
        hashlib.sha256(repr(told).encode()).hexdigest()[:16],
        float(guidance) if "negative" in conds else 1.0,
        flow,
    )


def named(value: Any) -> Iterator[str]:
    """The names of the functions in nested containers, SpeCa's own left out."""
    if isinstance(value, Mapping):
        for key, inside in value.items():
            for name in named(inside):
                yield f"{key}:{name}"
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from named(inside)
    else:
        own = getattr(value, "func", value)  # of a partial
        name = getattr(own, "__qualname__", type(own).__qualname__)
        module = str(getattr(own, "__module__", ""))
        if __name__.rpartition(".")[0] not in module:
            yield name


def fingerprint(patcher: Any) -> str:
    """A hash of a model: the shapes of its weights, some of their numbers, and its patches. Other
    weights, another quantisation and another LoRA are other models."""
    told = hashlib.sha256()
    weights = sorted(patcher.model.diffusion_model.named_parameters())
    for name, weight in weights:
        told.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
    patches = getattr(patcher, "patches", {})
    own = [(n, w) for n, w in weights if f"diffusion_model.{n}" not in patches and w.numel()]
    for name, weight in spread(own):
        told.update(f"{name}{some(weight)}".encode())
    for name, changes in sorted((str(k), v) for k, v in patches.items()):
        told.update(f"{name}{[change[0] for change in changes]}".encode())
    for _, changes in spread(sorted((str(k), v) for k, v in patches.items())):
        for change in changes:
            for tensor in tensors_in(change[1]):
                told.update(str(some(tensor)).encode())
    return told.hexdigest()[:24]


def spread(items: list[Any]) -> list[Any]:
    """At most `SAMPLED` of the items, evenly spread."""
    step = max(1, -(-len(items) // SAMPLED))
    return items[::step]


def some(tensor: torch.Tensor) -> list[float]:
    """A few numbers of a tensor, from its middle."""
    if tensor.is_meta:
        return []
    flat = tensor.detach().reshape(-1)
    middle = len(flat) // 2
    return [float(f"{n:.4g}") for n in flat[middle : middle + NUMBERS].float().tolist()]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a patch, whatever its kind."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from tensors_in(inside)
    elif hasattr(value, "weights"):
        yield from tensors_in(value.weights)


class ProfileStore:
    """Profiles in a folder.

    Args:
        folder: where they lie; None: ComfyUI's user directory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._paths: OrderedDict[Any, PathModel] = OrderedDict()

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder or Path(folder_paths.get_user_directory()) / "__speca" / "profiles"

    def read(self, key: Key) -> list[Profile]:
        """The profiles of a model and variant. A file that cannot be read is left alone, and
        said so."""
        file = self._file(key)
        try:
            source = json.loads(file.read_text("utf-8")) if file.is_file() else {}
            return [Profile.read(each) for each in source.get("profiles", [])[:MOST]]
        except (OSError, ValueError, AttributeError, ConfigError) as error:
            log.warning("SpeCa: the profile %s cannot be read: %s", file, error)
            return []

    def find(self, key: Key) -> Profile | None:
        """The profile that serves a key best: of its guidance, else of the next higher one."""
        serving = [p for p in self.read(key) if p.serves(key.guidance, key.flow)]
        return min(serving, key=lambda p: abs(p.guidance - key.guidance), default=None)

    def keep(self, key: Key, profile: Profile) -> None:
        """Write a profile in the place of the one of the same guidance."""
        others = [p for p in self.read(key) if p.guidance != profile.guidance]
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "model": key.name,
            "profiles": [p.to_dict() for p in [profile, *others][:MOST]],
        }
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(told, separators=(",", ":")), "utf-8")
        os.replace(partial, file)

    def learn(self, key: Key, run: Profile) -> Profile:
        """Merge a plain run into the profile of its guidance. Returns that."""
        known = next((p for p in self.read(key) if p.guidance == run.guidance), None)
        profile = known.merged(run) if known else run
        self.keep(key, profile)
        return profile

    def path(self, key: Key, profile: Profile, response: SamplerResponse) -> PathModel | None:
        """What the profile says of a run; None if nothing."""
        told = (replace(profile, surprise=1.0, judged=0), key.guidance, response)
        path = self._paths.pop(told, None)
        if path is None:
            gram = profile.carried(response.sigmas)
            if gram is None:
                return None
            expected = reaction(response.sigmas, key.guidance, key.flow, profile.reaction)
            places = blended([*response.sigmas, 0.0], key.flow)[:-1]
            path = PathModel(
                gram, response, expected, profile.lead, places=places, trials=profile.trials
            )
        self._paths[told] = path
        while len(self._paths) > KEEP:
            self._paths.popitem(last=False)
        # In steps, so that the plan of a graph that is queued again seldom is another.
        path.surprise = STEP ** round(math.log(profile.surprise, STEP))
        return path

    def _file(self, key: Key) -> Path:
        return self.folder / f"{key.model}-{key.variant}.json"


STORE = ProfileStore()


class Knowledge:
    """What a run begins with: a profile that serves it, or the wish to make one of it, where its
    settings ask for that.

    Attributes:
        config: settings of the run: without a profile, as far as none can be had.
        path: what a profile says of the run; None: nothing.
        gatherer: makes a profile of it; the run is plain then.
        trouble: why there can be neither, where one is asked for; empty otherwise.
    """

    def __init__(
        self,
        store: ProfileStore,
        config: SpecaConfig,
        guider: Any,
        flow: bool,
        response: SamplerResponse | None,
    ) -> None:
        self.config = config
        self.path: PathModel | None = None
        self.gatherer: Gatherer | None = None
        self.trouble = ""
        self._store = store
        self._key: Key | None = None
        self._profile: Profile | None = None
        if config.forecaster.name != "learned":
            self.config = config.without_profile
            if self.config != config:
                self.trouble = f"the forecaster is {config.forecaster.name}, not learned"
            return
        with harmless("reading the weights of the model"):
            self._key = key_of(guider, flow)
        if config.effective_level != "prediction":
            self.trouble = f"level is {config.effective_level}, not prediction"
        elif not config.hindsight:
            self.trouble = "hindsight is off"
        elif response is None:
            self.trouble = "this sampler's steps do not follow from the model's answers alone"
        elif self._key is None:
            self.trouble = "the model could not be read, or its guidance is not one number"
        if self.trouble or response is None or self._key is None:
            self.config = config.without_profile
            return
        with harmless("reading the profile of the model"):
            self._profile = None if config.threshold == 0 else store.find(self._key)
            if self._profile is not None:
                self.path = store.path(self._key, self._profile, response)
        if self.path is None:
            self.gatherer = Gatherer()

    @property
    def told(self) -> dict[str, Any] | None:
        """For the report; None if the settings ask for no profile."""
        if self.trouble:
            return {"state": "none", "why": self.trouble}
        if self.gatherer is not None:
            return {"state": "learning"}
        if self._profile is None:
            return None
        return {
            "state": "served",
            "runs": self._profile.runs,
            "guidance": self._profile.guidance,
            "surprise": self._profile.surprise,
        }

    def tell(self, report: RunReport) -> None:
        """The run is over: its report gets what was foretold of it, and the plans for other
        thresholds."""
        if self.path is None or report.profile is None or not report.rows:
            return
        plans = self.path.plans()
        computed = self.path.turns * report.evaluations / report.rows
        report.profile |= {"foretold": plans.distance(computed), "plans": plans.to_json()}

    def learn(self, report: RunReport) -> None:
        """The run is over, and finished: keep what it has taught."""
        if self._key is None:
            return
        if self.gatherer is not None:
            run = self.gatherer.profile(self._key.guidance, self._key.flow)
            if run is not None:
                self._store.learn(self._key, run)
        elif self._profile is not None:
            rows = (row for call in report.calls for row in call.rows)
            surprises = [row.surprise for row in rows if row.surprise is not None]
            if surprises:
                usual = self._profile.surprise
                judged = self._profile.judged_by([usual * surprise for surprise in surprises])
                self._store.keep(self._key, judged)
