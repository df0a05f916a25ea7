"""Is SpeCa ever worse than fewer steps? `run.py bench --floor` compares at equal evaluations.

Every method makes the same pictures, and each picture is held against the plain one. Fewer steps
are made with as many steps as a method has computed, rounded up. The profile that SpeCa learned
comes from one plain run of another prompt, or from several.
"""

import json
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed import Setting, Testbed, psnr, unchanged  # first: it makes ComfyUI importable

import torch
from comfy_extras.nodes_easycache import EasyCacheNode
from methods import core_cache
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.config import PRESETS, WITHOUT_PROFILE
from speca_pack.speca_core.budgets import Distance, Target
from speca_pack.speca_core.forecasters import Learned
from speca_pack.speca_core.verifiers import Innovation

TAUGHT_BY = 55_001  # seed of the captions and the first image of the runs that are learned from
SHARES = (0.75, 0.5, 0.4, 0.33, 0.25)  # of the steps that are computed
IMAGE_SEED = 70_000
CALLS = {"heun": 2}  # of the model, per step; one elsewhere
LEARNED: dict[str, Any] = {
    "forecaster": Learned(),
    "verifier": Innovation(),
    "budget": Distance(),
}
WORSE = 0.5  # dB: a picture that has lost more has lost


@dataclass(frozen=True)
class Row:
    """One method in one setting.

    Attributes:
        steps: of the plain run.
        evaluations: of the guided model, mean over the pictures.
        psnr: of each picture to the plain one, dB.
        foretold: distance of the last latent to the plain one, over the foretold one: the median
            picture's. None: none was foretold.
    """

    sampler: str
    steps: int
    cfg: float
    evaluations: float
    method: str
    psnr: list[float]
    foretold: float | None = None


Patch = Callable[[Any], Any]
Methods = Callable[[ProfileStore], Iterator[tuple[str, Patch]]]  # (name, what is done to a model)


def ours_and_others(store: ProfileStore) -> Iterator[tuple[str, Patch]]:
    """The node with and without a profile, and EasyCache."""

    def speca(**config: Any) -> Patch:
        settings = SpecaConfig(**{**WITHOUT_PROFILE, **config})
        return lambda model: accelerate(model, settings, profiles=store)

    for share in SHARES:
        yield "learned, target", speca(**LEARNED | {"budget": Target(speedup=1 / share)})
    for changed in PRESETS.values():
        yield "learned, distance", speca(**LEARNED, threshold=SpecaConfig.build(changed).threshold)
    for threshold in (0.05, 0.1, 0.2, 0.4, 0.8):
        yield "checked", speca(threshold=threshold)
    for share in SHARES:
        yield "polynomials, target", speca(budget=Target(speedup=1 / share))
    for threshold in (0.03, 0.06, 0.1):
        yield "EasyCache", core_cache(EasyCacheNode, threshold).patch


class Floor:
    """Measures a bed.

    Args:
        bed: the test bed.
        methods: what is measured, beside fewer steps.
        prompts_seed: of the captions. images: how many.
        wanted: beginnings of the names of methods; empty: all.
        taught: how many plain runs the profile is learned from.
        school: sampler and steps of those runs; None: those that are measured.
    """

    def __init__(
        self,
        bed: Testbed,
        methods: Methods,
        prompts_seed: int,
        images: int,
        wanted: Sequence[str] = (),
        taught: int = 1,
        school: tuple[str, int] | None = None,
    ) -> None:
        self.methods = methods
        self.wanted = tuple(wanted) or ("",)
        self.school = school
        self.lessons = [*enumerate(bed.bed.captions(TAUGHT_BY, taught), TAUGHT_BY)]
        self.bed = bed
        self.captions = bed.bed.captions(prompts_seed, images)
        self.seeds = [IMAGE_SEED + prompts_seed + image for image in range(images)]

    def rows(self, setting: Setting) -> Iterator[Row]:
        """Every method, each followed by fewer steps at its evaluations, if those are new."""
        plain = self.bed.make_each(setting, self.captions, self.seeds)
        calls = CALLS.get(setting.sampler, 1)
        seen: set[int] = set()

        def row(method: str, changed: Setting, patch: Patch) -> Row:
            made = self.bed.make_each(changed, self.captions, self.seeds, patch)
            spent = made.evaluations / len(self.captions) / (2 if setting.cfg != 1 else 1)
            values = [round(value, 3) for value in psnr(made, plain)]
            told = foretold(made.latent, plain.latent)
            return Row(setting.sampler, setting.steps, setting.cfg, spent, method, values, told)

        with tempfile.TemporaryDirectory() as folder:
            store, taught = ProfileStore(Path(folder, "store")), Path(folder, "taught")
            # At threshold 0 every run is plain, and teaches.
            teach = accelerate(
                self.bed.model, SpecaConfig(**LEARNED, threshold=0.0), profiles=store
            )
            sampler, steps = self.school or (setting.sampler, setting.steps)
            lesson = replace(setting, sampler=sampler, steps=steps)
            for seed, caption in self.lessons:
                self.bed.make(lesson, caption, seed, lambda _: teach)
            shutil.copytree(store.folder, taught)
            for name, patch in self.methods(store):
                if not name.startswith(self.wanted):
                    continue
                # Each begins with what one run has taught.
                shutil.copytree(taught, store.folder, dirs_exist_ok=True)
                found = row(name, setting, patch)
                yield found
                # The last step of two calls has one.
                steps = math.ceil((found.evaluations + calls - 1) / calls - 0.01)
                if steps not in seen and 2 <= steps < setting.steps:
                    seen.add(steps)
                    yield row("fewer steps", replace(setting, steps=steps), unchanged)


def foretold(latent: torch.Tensor, plain: torch.Tensor) -> float | None:
    """See `Row`."""
    report = find(latent)
    distance = (report.profile or {}).get("foretold") if report else None
    if distance is None:
        return None
    off = (latent - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    return round(float(off.median()) / distance, 3)


def against_fewer(rows: Sequence[Row]) -> str:
    """A table of one setting: each method beside fewer steps at its evaluations or more."""
    fewer = sorted((r for r in rows if r.method == "fewer steps"), key=lambda r: r.evaluations)
    first = rows[0]
    lines = [
        f"\n### {first.sampler}, {first.steps} steps, CFG {first.cfg:g}\n",
        "| method | evaluations | distance / foretold | mean / worst, dB | fewer steps | lost | "
        "largest loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.method == "fewer steps":
            continue
        met = "" if row.foretold is None else f"{row.foretold:.2f}"
        told = f"| {row.method} | {row.evaluations:.2f} | {met} | {_mean_worst(row.psnr)} |"
        beside = next((r for r in fewer if r.evaluations >= row.evaluations - 0.01), None)
        if beside is None:
            lines.append(f"{told} the plain run | | |")
            continue
        losses = [b - a for a, b in zip(row.psnr, beside.psnr, strict=True)]
        lost = sum(loss > WORSE for loss in losses)
        lines.append(
            f"{told} {_mean_worst(beside.psnr)} | {lost} of {len(losses)} | "
            f"{max(0.0, max(losses)):.1f} |"
        )
    return "\n".join(lines)


def _mean_worst(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} / {min(values):.1f}"


def write_floor(floor: Floor, settings: Sequence[Setting], out: Path | None) -> None:
    """Measure, print a table per setting, and keep the rows as JSON."""
    found: list[dict[str, Any]] = []
    for setting in settings:
        rows = [*floor.rows(setting)]
        found += [vars(row) for row in rows]
        print(against_fewer(rows), flush=True)
        if out is not None:
            out.write_text(json.dumps(found), "utf-8")
