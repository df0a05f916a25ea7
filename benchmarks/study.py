"""How well does each check foretell the true error of a draft? run.py bench --study writes docs/verifiers.md.

The plain path is sampled; only every `gap`-th step leaves an anchor. At every other step each check judges the draft that would have been
made there, and the draft's true error (in the guided prediction) is measured, because every draft is refused and computed.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed import PACK, Setting, Testbed, captions  # first: it makes ComfyUI importable

import numpy as np
import torch
from comfy.patcher_extension import WrappersMP
from scipy.stats import spearmanr
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.bridge import run as bridge
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.axis import Schedule
from speca_pack.speca_core.session import Call
from speca_pack.speca_core.verifiers import Embedded, FirstBlock, LastBlock, Verifier, relative_error

CAPTIONS_SEED, IMAGE_SEED = 30, 60_000  # neither tuning nor benchmark prompts
STEPS, GAPS = 28, (2, 3, 4)
REFUSE_ALL = 1e-12
Pairs = dict[str, list[tuple[float, float, float]]]  # check -> (its estimate, true error, progress)


class SparseCall(Call):
    """A call that leaves an anchor at every `gap`-th step only."""

    gap = 1

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Keep the features of the chosen steps."""
        if self.point.step % self.gap == 0:
            super().observe(tap, rows, features)


def judged(bed: Testbed, setting: Setting, caption: str, seed: int, verifier: Verifier, guided: bool) -> Iterator[tuple[int, float, float]]:
    """(step, estimate, true error) of every draft."""
    config = SpecaConfig(
        REFUSE_ALL, level="features", verifier=verifier, budget=Threshold(max_streak=100, give_up=0), guided=guided, hindsight=False
    )
    latent = bed.make(setting, caption, seed, lambda model: accelerate(model, config)).latent
    for call in find(latent).calls:
        for row in call.rows:
            if row.error is not None and row.hindcast is not None and row.branch == 0 and call.index % SparseCall.gap:
                yield call.index, row.error, row.hindcast


def latents(bed: Testbed, setting: Setting, caption: str, seed: int) -> tuple[Schedule, list[torch.Tensor]]:
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


def of_the_input(schedule: Schedule, seen: Sequence[torch.Tensor], step: int, gap: int) -> Mapping[str, float]:
    """What checks that look at the model's input alone would say: RFC's forecast error of the input, SeaCache's filtered change."""
    anchors = list(range(0, step, gap))[-3:]
    places = [schedule.point(schedule.sigmas[i]).coordinate for i in (*anchors, step)]
    forecast = SpecaConfig().forecaster.forecast(places[:-1], [seen[i] for i in anchors], places[-1])
    change = torch.stack([sea(seen[i], schedule.sigmas[i]) for i in (anchors[-1], step)])
    return {
        "input (RFC)": relative_error(forecast, seen[step]).item(),
        "filtered input (SeaCache)": relative_error(change[:1], change[1:]).item(),
    }


def sea(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """SeaCache's filter (arXiv 2602.18993): G = a S / (a^2 S + b^2), S = 1 / |f|^2, a = 1 - sigma, b = sigma, of mean 1."""
    height, width = x.shape[-2:]
    frequency = torch.fft.fftfreq(height)[:, None].square() + torch.fft.fftfreq(width)[None].square()
    spectrum = 1 / frequency.clamp_min(1 / (height * width))
    a, b = max(1 - sigma, 1e-3), max(sigma, 1e-3)
    gain = a * spectrum / (a * a * spectrum + b * b)
    return torch.fft.ifft2(torch.fft.fft2(x) * (gain / gain.mean())).real


CHECKS = {
    "embedded": (Embedded(), True),
    "embedded, prompts apart": (Embedded(), False),
    "last_block": (LastBlock(), True),
    "first_block": (FirstBlock(), True),
}


def measure(bed: Testbed, cfg: float, images: int) -> Pairs:
    """All pairs at one guidance scale. True errors are those of the guided prediction for every check."""
    pairs: Pairs = defaultdict(list)
    setting = Setting(STEPS, cfg)
    for image, caption in enumerate(captions(CAPTIONS_SEED, images)):
        schedule, seen = latents(bed, setting, caption, IMAGE_SEED + image)
        for SparseCall.gap in GAPS:
            truth: dict[int, float] = {}
            for name, (verifier, guided) in CHECKS.items():
                for step, estimate, true in judged(bed, setting, caption, IMAGE_SEED + image, verifier, guided):
                    truth.setdefault(step, true)
                    pairs[name].append((estimate, truth[step], step / STEPS))
            for step, true in truth.items():
                for name, estimate in of_the_input(schedule, seen, step, SparseCall.gap).items():
                    pairs[name].append((estimate, true, step / STEPS))
                pairs["distance alone"].append((float(step % SparseCall.gap), true, step / STEPS))
    return pairs


def row(name: str, found: Sequence[tuple[float, float, float]]) -> str:
    """One line of the table."""
    estimate, true, progress = (np.asarray(column) for column in zip(*found, strict=True))
    ratio = np.log(true / np.maximum(estimate, 1e-9))
    thirds = [spearmanr(estimate[part], true[part]).statistic for part in (progress * 3 // 1 == third for third in range(3))]
    calibration = [math.exp(ratio[progress * 3 // 1 == third].mean()) for third in range(3)]
    cells = [f"{spearmanr(estimate, true).statistic:.2f}", *(f"{value:.2f}" for value in thirds)]
    cells += [f"{math.exp(ratio.mean()):.2f}", *(f"{value:.2f}" for value in calibration), f"{math.exp(ratio.std()):.2f}"]
    return f"| {name} | " + " | ".join(cells) + " |"


INTRO = """# Verifiers: how well does each check foretell the error?

Made by `python3 run.py bench --study`. The demo's tiny trained Flux, {steps} steps of euler, {images} prompts that tuned nothing; every
{gaps} step leaves an anchor, and each check judges the drafts at the steps between. *Rank* is Spearman's correlation of
the check's estimate with the true relative error of the guided prediction, over all drafts and in each third of the schedule. *True /
estimate* is the geometric mean of their ratio (1 is perfectly calibrated), again over all and in each third; *spread* is the factor
of one geometric standard deviation around it.

The last rows need no block either: RFC's check forecasts the model's input and compares it with the true one; SeaCache's compares the
filtered input with that at the newest anchor; *distance alone* only counts steps.
"""
HEADER = """
## CFG {cfg:g}, {drafts} drafts per check

| check | rank | early | middle | late | true / estimate | early | middle | late | spread |
|---|---|---|---|---|---|---|---|---|---|
"""


def write_study(images: int) -> Path:
    """Measure, and write the page."""
    bridge.Call = SparseCall  # type: ignore[attr-defined,misc]
    import speca_pack.speca_core.session as session

    session.Call = SparseCall  # type: ignore[misc]
    bed = Testbed()
    page = INTRO.format(steps=STEPS, images=images, gaps=" or ".join(("second", "third", "fourth")))
    for cfg in (3.5, 1.0):
        pairs = measure(bed, cfg, images)
        page += HEADER.format(cfg=cfg, drafts=len(pairs["embedded"]))
        page += "\n".join(row(name, found) for name, found in pairs.items() if name != "distance alone" or found) + "\n"
        print(page, flush=True)
    notes = Path(__file__).with_name("study.md")
    page += "\n" + notes.read_text(encoding="utf-8") if notes.exists() else ""
    path = PACK / "docs/verifiers.md"
    path.write_text(page, encoding="utf-8")
    return path
