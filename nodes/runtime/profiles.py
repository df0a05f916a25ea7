"""Profiles of the models on this machine: a JSON file each, under ComfyUI's user directory."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from ...speca_core.errors import ConfigError
from ...speca_core.path_model import PathModel
from ...speca_core.profile import Profile
from ...speca_core.reaction import reaction
from ...speca_core.sampler_response import SamplerResponse

if TYPE_CHECKING:  # it needs ComfyUI's models, and the command that lists profiles has none
    from .fingerprint import Key

KEEP = 8  # path models, with their arithmetic
MOST = 32  # profiles per model
MOST_BYTES = 1_250_000  # of a file; exported it fits into a request
STEP = 1.2  # of the surprise that a plan takes into account
UNREADABLE = OSError, ValueError, TypeError, AttributeError, RecursionError, ConfigError
NAME = re.compile("[0-9a-f]{24}-[0-9a-f]{16}")
log = logging.getLogger("speca")


class ProfileStore:
    """Profiles in a folder.

    Args:
        folder: where they lie; None: ComfyUI's user directory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._paths: OrderedDict[Any, PathModel] = OrderedDict()
        self._changing = threading.RLock()  # the page changes files while runs do

    def __deepcopy__(self, memo: Any) -> ProfileStore:
        """A store is one, whoever copies the options of a model that leads to it."""
        return self

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
        except UNREADABLE as error:
            log.warning("SpeCa: the profile %s cannot be read: %s", file, error)
            return []

    def find(self, key: Key, sigmas: Sequence[float]) -> Profile | None:
        """The profile that serves a key at these noise levels best: of its guidance, else of the
        next higher one."""
        known = self.read(key)
        serving = [p for p in known if p.serves(key.guidance, key.flow) and p.spans(sigmas)]
        return min(serving, key=lambda p: abs(p.guidance - key.guidance), default=None)

    def keep(self, key: Key, profile: Profile) -> None:
        """Write a profile in the place of those of the same guidance that it spans. The stages of a
        sampling in two have one each."""
        with self._changing:
            others = [
                p
                for p in self.read(key)
                if p.guidance != profile.guidance or not profile.spans(p.sigmas)
            ]
            self._write(key.name, key.about, [p.to_dict() for p in [profile, *others]])

    def renew(self, key: Key, before: Profile, profile: Profile) -> None:
        """Write a profile in the place of what it was, unless that was deleted or changed in the
        meantime."""
        with self._changing:
            if before in self.read(key):
                self.keep(key, profile)

    def learn(self, key: Key, run: Profile) -> None:
        """Merge a plain run into the profile of its guidance and noise levels."""
        with self._changing:
            alike = (p for p in self.read(key) if p.guidance == run.guidance)
            known = next((p for p in alike if p.spans(run.sigmas) or run.spans(p.sigmas)), None)
            self.keep(key, known.merged(run) if known else run)

    def path(
        self, key: Key, profile: Profile, response: SamplerResponse, end: float = 0.0
    ) -> PathModel | None:
        """What the profile says of a run that ends at a noise level, where another sampler goes on
        if it is above 0; None if nothing."""
        rest = [end, *(sigma for sigma in profile.sigmas if sigma < end)] if end > 0 else []
        response = response.onward(rest)
        # As it is stored, so that the plans that the teaching run has told serve the next one.
        known = _json(replace(profile, surprise=1.0, judged=0).to_dict())
        told = known, key.guidance, response, len(rest)
        path = self._paths.pop(told, None)
        if path is None:
            gram = profile.carried(response.sigmas)
            if gram is None:
                return None
            expected = reaction(response.sigmas, key.guidance, key.flow, profile.reaction)
            path = PathModel(gram, response, expected, profile.trials, onward=len(rest))
        self._paths[told] = path
        while len(self._paths) > KEEP:
            self._paths.popitem(last=False)
        # In steps, so that the plan of a graph that is queued again seldom is another.
        path.surprise = STEP ** round(math.log(profile.surprise, STEP))
        return path

    def _file(self, key: Key) -> Path:
        return self.folder / f"{key.name}.json"

    # --- for people ------------------------------------------------------------------------------

    def told(self, name: str) -> dict[str, Any] | None:
        """One file: {"model", "changed": seconds since 1970, "profiles": [...]}; None if there is
        none that holds profiles."""
        try:
            file = self.folder / f"{proper(name)}.json"
            if not file.is_file():
                return None
            told = checked(json.loads(file.read_text("utf-8")))
            return told | {"changed": file.stat().st_mtime}
        except UNREADABLE as error:
            log.warning("SpeCa: the profile %s cannot be read: %s", name, error)
            return None

    def each(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All files by name, one read at a time, in no order."""
        for file in self.folder.glob("*.json"):
            told = self.told(file.stem)
            if told is not None:
                yield file.stem, told

    def all(self) -> dict[str, dict[str, Any]]:
        """All files by name, the newest first."""
        return newest_first(self.each())

    def delete(self, name: str) -> bool:
        """Forget a model. Returns whether it was known."""
        file = self.folder / f"{proper(name)}.json"
        with self._changing:
            known = file.is_file()
            file.unlink(missing_ok=True)
        return known

    def exported(self, name: str) -> dict[str, Any] | None:
        """What `take` takes on another machine: {"name", "model", "profiles"}; None if there is
        no such file."""
        told = self.told(name)
        return told and {"name": name, "model": told["model"], "profiles": told["profiles"]}

    def take(self, source: Any) -> str:
        """Write what another machine has learned, in the place of what is known of its guidance.
        Returns the name of the file.

        Args:
            source: what `exported` gave there.

        Raises:
            ConfigError: it is something else.
        """
        told, name = checked(source), proper(source.get("name"))
        brought = {profile["guidance"] for profile in told["profiles"]}
        with self._changing:
            known = (self.told(name) or {"profiles": []})["profiles"]
            others = [p for p in known if p["guidance"] not in brought]
            self._write(name, told["model"], told["profiles"] + others)
        return name

    def _write(self, name: str, model: str, profiles: Sequence[Mapping[str, Any]]) -> None:
        """As many profiles as a file holds, the first ones."""
        kept = profiles[:MOST]
        while len(text := _json({"model": model, "profiles": kept})) > MOST_BYTES:
            kept = kept[:-1]
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.json"
        partial = file.with_suffix(".partial")
        partial.write_text(text, "utf-8")
        os.replace(partial, file)


def newest_first(files: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Files by name, in that order."""
    return dict(sorted(files, key=lambda file: file[1]["changed"], reverse=True))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def proper(name: Any) -> str:
    """A file's name, without its ending, as `Key.name` makes them; nothing leaves the folder.

    Raises:
        ConfigError: it is no such name.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"profile: found the name {str(name)[:60]!r}; expected 24 and 16 hexadecimal digits. "
            "Leave exported files as they are."
        )
    return name


def checked(source: Any) -> dict[str, Any]:
    """{"model", "profiles"} from anywhere, if every profile is one.

    Raises:
        ConfigError: it is something else.
    """
    profiles = source.get("profiles") if isinstance(source, Mapping) else None
    if not isinstance(profiles, list) or not 0 < len(profiles) <= MOST:
        raise ConfigError(
            f"profile: found no list of 1 to {MOST} profiles; expected an exported file. "
            "Export it again."
        )
    read = [Profile.read(each).to_dict() for each in profiles]
    return {"model": str(source.get("model", ""))[:80], "profiles": read}


STORE = ProfileStore()
