"""How well does each check estimate the true error of a draft? run.py bench --study

The plain path is sampled; only every `gap`-th step leaves an anchor. At every other step each check
judges the draft that would have been made there, and the draft's true error (in the guided
prediction) is measured, because every draft is refused and computed.
"""

from testbed import Setting, Testbed, find  # first: it makes ComfyUI importable

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from comfy.patcher_extension import WrappersMP
from results import Row, folder_of, of_part
from scipy.stats import spearmanr
from sources import Through
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.run import Run
from speca_pack.nodes.runtime.subjects.features import FeatureRun, FeaturesSubject
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.anchors import HEAD_INPUT
from speca_pack.speca_core.axis import Schedule
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.call import Call
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.subject import Head
from speca_pack.speca_core.tensors import relative_error
from speca_pack.speca_core.verifiers import Embedded, FirstBlock, LastBlock, Verifier

CAPTIONS_SEED, IMAGE_SEED = 30, 60_000  # neither tuning nor benchmark prompts
STEPS, GAPS = 28, (2, 3, 4)
REFUSE_ALL = 1e-12
Pair = tuple[float, float, float]  # a check's estimate, the true error, progress

CHECKS = {
    "embedded": (Embedded(), True),
    "embedded, prompts apart": (Embedded(), False),
    "last_block": (LastBlock(), True),
    "first_block": (FirstBlock(), True),
}


class Sparse(Through):
    """Steps between the anchors are scored, and leave none."""

    def __init__(self, call: Call, gap: int) -> None:
        super().__init__(call)
        self.keeps = call.point.step % gap == 0

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Of the chosen steps."""
        if self.keeps:
            super().observe(tap, rows, features)

    def learn(self, rows: Sequence[int], features: torch.Tensor, output: Any, head: Head) -> None:
        """Everything from the chosen steps; from all others the error of the forecast."""
        if self.keeps:
            super().learn(rows, features, output, head)
        elif scorable := self.call.scorable(rows):
            forecast = self.call.forecast(HEAD_INPUT, scorable)
            errors = relative_error(head.measured(head(forecast)), head.measured(output))
            self.call.score(scorable, errors.tolist())


def sparse(gap: int) -> type[Run]:
    """A run that leaves an anchor at every `gap`-th step."""

    class SparseSubject(FeaturesSubject):
        def source(self, call: Call) -> Sparse:
            return Sparse(call, gap)

    class SparseRun(FeatureRun):
        subject = SparseSubject

    return SparseRun


def judged(
    bed: Testbed, setting: Setting, caption: str, seed: int, check: tuple[Verifier, bool], gap: int
) -> Iterator[tuple[int, float, float]]:
    """(step, estimate, true error) of every draft."""
    verifier, guided = check
    config = SpecaConfig(
        REFUSE_ALL,
        level="features",
        forecaster=Newton(),
        verifier=verifier,
        budget=Threshold(max_streak=100, give_up=0),
        guided=guided,
        hindsight=False,
    )
    run = sparse(gap)
    made = bed.make(setting, caption, seed, lambda model: accelerate(model, config, run=run))
    for call in find(made.latent).calls:
        for row in call.rows:
            known = row.error is not None and row.hindcast is not None
            if known and row.branch == 0 and call.index % gap:
                yield call.index, row.error, row.hindcast


def latents(
    bed: Testbed, setting: Setting, caption: str, seed: int
) -> tuple[Schedule, list[torch.Tensor]]:
    """The schedule, and the latent that enters each step, [1, 16, h, w]."""
    seen: list[torch.Tensor] = []
    sigmas: list[float] = []

    def watch(executor: Any, x: torch.Tensor, timestep: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(x.clone())
        sigmas.append(float(timestep[0]))
        result: torch.Tensor = executor(x, timestep, *rest)
        return result

    def patch(model: Any) -> Any:
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "watch", watch)
        return model

    bed.make(setting, caption, seed, patch)
    return Schedule([*sigmas, 0.0]), seen


def of_the_input(
    schedule: Schedule, seen: Sequence[torch.Tensor], step: int, gap: int
) -> Mapping[str, float]:
    """Two checks that look at the model's input alone: RFC compares its forecast with it, SeaCache
    its filtered form with that at the newest anchor."""
    anchors = list(range(0, step, gap))[-3:]
    places = [schedule.point(schedule.sigmas[i]).coordinate for i in (*anchors, step)]
    inputs = [seen[i] for i in anchors]
    forecast = Newton().forecast(places[:-1], inputs, places[-1])
    before, now = (sea(seen[i], schedule.sigmas[i])[None] for i in (anchors[-1], step))
    return {
        "input (RFC)": relative_error(forecast, seen[step]).item(),
        "filtered input (SeaCache)": relative_error(before, now).item(),
    }


def sea(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """SeaCache's filter (arXiv 2602.18993): G = a S / (a^2 S + b^2), S = 1 / |f|^2, a = 1 - sigma,
    b = sigma, of mean 1."""
    height, width = x.shape[-2:]
    vertical, horizontal = (torch.fft.fftfreq(size).square() for size in (height, width))
    frequency = vertical[:, None] + horizontal[None]
    spectrum = 1 / frequency.clamp_min(1 / (height * width))
    a, b = max(1 - sigma, 1e-3), max(sigma, 1e-3)
    gain = a * spectrum / (a * a * spectrum + b * b)
    return torch.fft.ifft2(torch.fft.fft2(x) * (gain / gain.mean())).real


def pairs_of(bed: Testbed, cfg: float, images: int) -> dict[str, list[Pair]]:
    """All drafts at one guidance scale, by check. True errors are those of the guided prediction
    for every check."""
    pairs: dict[str, list[Pair]] = defaultdict(list)
    setting = Setting(STEPS, cfg)
    for image, caption in enumerate(bed.bed.captions(CAPTIONS_SEED, images)):
        seed = IMAGE_SEED + image
        schedule, seen = latents(bed, setting, caption, seed)
        for gap in GAPS:
            truth: dict[int, float] = {}
            for name, check in CHECKS.items():
                for step, estimate, true in judged(bed, setting, caption, seed, check, gap):
                    truth.setdefault(step, true)
                    pairs[name].append((estimate, truth[step], step / STEPS))
            for step, true in truth.items():
                for name, estimate in of_the_input(schedule, seen, step, gap).items():
                    pairs[name].append((estimate, true, step / STEPS))
                pairs["distance alone"].append((float(step % gap), true, step / STEPS))
    return pairs


def summed_up(pairs: Sequence[Pair]) -> Row:
    """Rank correlation and true / estimate, over all and in each third of the run, and how far the
    ratio scatters."""
    estimate, true, progress = (np.asarray(column) for column in zip(*pairs, strict=True))
    ratio = np.log(true / np.maximum(estimate, 1e-9))
    thirds = [progress * 3 // 1 == third for third in range(3)]
    parts = [np.full(len(true), True), *thirds]
    return {
        "rank": [round(float(spearmanr(estimate[p], true[p]).statistic), 2) for p in parts],
        "ratio": [round(math.exp(ratio[p].mean()), 2) for p in parts],
        "spread": round(math.exp(ratio.std()), 2),
    }


def two_tiers(free: Sequence[Pair], block: Sequence[Pair]) -> dict[str, list[float]]:
    """How often a draft is misjudged, over all and in each third of the run: by the free check, by
    the block, and by the block only where the free check is in doubt. Last: how often that is.

    A draft is good if its true error is at most the median of all, and each check is given the
    threshold at which it is right most often, which is more than a user can do. The free check is
    in doubt within a factor of 2 of its threshold.
    """
    (cheap, true, progress), (dear, same, _) = (np.asarray(found).T for found in (free, block))
    if not np.allclose(true, same):
        raise ValueError("the checks have judged different drafts")
    good = true <= np.median(true)

    def threshold(estimate: Any) -> float:
        return float(min(estimate, key=lambda tau: np.mean((estimate <= tau) != good)))

    first, second = cheap <= threshold(cheap), dear <= threshold(dear)
    doubt = abs(np.log(cheap / threshold(cheap))) < math.log(2)
    verdicts = {"free": first, "block": second, "two tiers": np.where(doubt, second, first)}
    thirds = [progress * 3 // 1 == third for third in range(3)]
    parts = [np.full(len(true), True), *thirds]

    def shares(flags: Any) -> list[float]:
        return [round(float(np.mean(flags[part])), 3) for part in parts]

    wrong = {name: shares(verdict != good) for name, verdict in verdicts.items()}
    return {**wrong, "in doubt": shares(doubt)}


def measure_checks(bed: Testbed, images: int) -> None:
    """Measure what was not measured yet."""
    found = of_part("checks", folder_of(bed.bed.name))
    for cfg in (3.5, 1.0):
        if found.has(cfg, "embedded", images=images):
            continue
        pairs = pairs_of(bed, cfg, images)
        rows = [
            {"cfg": cfg, "check": check, "images": images, "drafts": len(told), **summed_up(told)}
            for check, told in pairs.items()
        ]
        found.add(rows)
        print(*rows, two_tiers(pairs["embedded"], pairs["last_block"]), sep="\n", flush=True)
