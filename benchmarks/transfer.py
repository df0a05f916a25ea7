"""One threshold in other settings and on video, whether `target` keeps its number, and the value of
deciding per image: run.py bench --transfer"""

from testbed import BEDS, PACK, Setting, Testbed, find, psnr  # first

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.sample
import comfy.sd
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from results import Measured, Row, folder_of, of_part
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.run import Run
from speca_pack.nodes.runtime.subjects.prediction import PredictionRun, PredictionSubject
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.config import WITHOUT_PROFILE
from speca_pack.speca_core.budgets import Target
from speca_pack.speca_core.replay import psnr_band
from speca_pack.speca_core.call import Call
from speca_pack.speca_core.tensors import relative_error

IMAGE_SETTINGS = (
    *(Setting(steps, cfg) for cfg in (3.5, 1.0) for steps in (20, 28, 50)),
    Setting(28, 3.5, "dpmpp_2m"),
    Setting(28, 3.5, size=256),
)
VIDEO_STEPS = (20, 28, 50)
CHECKED = SpecaConfig(0.1, **WITHOUT_PROFILE)
CLIPS = [
    f"a big {colour} {shape} moving {way} on {background} plain"
    for colour, shape, way, background in (
        ("red", "circle", "right", "blue"),
        ("yellow", "star", "down", "purple"),
        ("white", "ring", "up", "black"),
        ("blue", "square", "left", "yellow"),
        ("green", "heart", "left", "white"),
        ("pink", "cross", "down", "gray"),
        ("orange", "diamond", "right", "cyan"),
        ("purple", "moon", "up", "brown"),
    )
]


@dataclass(frozen=True)
class Outcome:
    """One picture or clip.

    Attributes:
        latent: relative distance of the latent to the plain one, largest in a frame.
        saved: evaluations, plain / computed.
        estimate: mean error of the drafts that were served, as the verifier saw it.
        error: and as it was. Both are None if there was no draft.
        foretold: the PSNR is in the range that what-if gives; None if there is no range.
    """

    latent: float
    saved: float
    estimate: float | None
    error: float | None
    foretold: bool | None


def scored(errors: list[float]) -> type[Run]:
    """A run that evaluates the model after each accepted draft too, and appends the draft's true
    error, in the guided prediction."""

    class ScoredSubject(PredictionSubject):
        def draft(self, call: Call, rows: Sequence[int]) -> tuple[Sequence[int], Any]:
            accepted, outputs = super().draft(call, rows)
            if accepted:
                x, truth = self.x[accepted], self.evaluate(accepted)[accepted]
                errors.extend(relative_error(x - torch.stack([*outputs]), x - truth).tolist())
            return accepted, outputs

    class ScoredRun(PredictionRun):
        subject = ScoredSubject

    return ScoredRun


class WholeBatchRun(PredictionRun):
    """All images of a batch decide together."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.coupled = True


def outcome(
    latent: torch.Tensor, plain: torch.Tensor, true: list[float], psnr: float | None = None
) -> Outcome:
    """Of an accelerated latent [1, channels, ...]; with five dimensions, the third counts frames.

    Args:
        plain: the plain model's latent.
        true: errors of the drafts.
        psnr: of the decoded picture, in dB.
    """
    report = find(latent)
    frames = [(latent, plain)]
    if latent.ndim == 5:
        frames = list(zip(latent.unbind(2), plain.unbind(2), strict=True))
    distance = max(relative_error(a, b).item() for a, b in frames)
    drafts = [row for call in report.calls for row in call.rows if row.verdict == "accepted"]
    assert len(true) == len(drafts)
    means = [statistics.fmean(e) if e else None for e in ([row.error for row in drafts], true)]
    band = psnr_band(report, report)
    foretold = None if psnr is None or band is None else band[0] <= psnr <= band[1]
    return Outcome(distance, report.rows / report.evaluations, *means, foretold)


def pictures(bed: Testbed, setting: Setting, count: int) -> list[Outcome]:
    """The same prompts and seeds in every setting."""
    made = []
    for i, caption in enumerate(bed.bed.captions(41, count)):
        true: list[float] = []
        run, seed = scored(true), 71_000 + i
        plain = bed.make(setting, caption, seed)
        fast = bed.make(
            setting, caption, seed, lambda model, run=run: accelerate(model, CHECKED, run=run)
        )
        made.append(outcome(fast.latent, plain.latent, true, psnr(fast, plain)[0]))
    return made


def clips(steps: int, count: int) -> list[Outcome]:
    """The demo's tiny Wan, five latent frames."""
    path = PACK / "demo/models/diffusion_models/wan_tiny.safetensors"
    wan = ModelSamplingSD3().patch(comfy.sd.load_diffusion_model(str(path)), 3.0)[0]
    blank = torch.zeros(1, 16, 5, 8, 8)
    words = BEDS["shapes"]

    def sample(model: Any, clip: str, seed: int) -> torch.Tensor:
        noise = comfy.sample.prepare_noise(blank, seed)
        prompts = words.conditioning(clip), words.conditioning("")
        how = steps, 3.0, "euler", "simple"
        latent: torch.Tensor = comfy.sample.sample(
            model, noise, *how, *prompts, blank, disable_pbar=True, seed=seed
        )
        return latent

    made = []
    for i, clip in enumerate(CLIPS[:count]):
        true: list[float] = []
        latent = sample(accelerate(wan, CHECKED, run=scored(true)), clip, 100 + i)
        made.append(outcome(latent, sample(wan, clip, 100 + i), true))
    return made


def measure_thresholds(bed: Testbed, images: int) -> None:
    """Checked drafts everywhere, one row for each setting."""
    work: list[tuple[str, int, Callable[[int], list[Outcome]]]] = [
        (setting.name, images, lambda count, s=setting: pictures(bed, s, count))
        for setting in IMAGE_SETTINGS
    ]
    work += [
        (f"tiny Wan, {steps} steps, CFG 3", min(images, len(CLIPS)), lambda n, s=steps: clips(s, n))
        for steps in VIDEO_STEPS
    ]
    found = of_part("thresholds", folder_of(bed.bed.name))
    for name, count, make in work:
        if found.has(name, images=count):
            continue
        outcomes = make(count)
        row: Row = {"setting": name, "images": count}
        for field in ("saved", "estimate", "error", "latent"):
            values = [getattr(o, field) for o in outcomes if getattr(o, field) is not None]
            row[field] = round(statistics.fmean(values), 4)
        row["latent_median"] = round(statistics.median(o.latent for o in outcomes), 4)
        foretold = [o.foretold for o in outcomes if o.foretold is not None]
        row |= {"foretold": sum(foretold), "ranges": len(foretold)}
        keep(found, row)


def measure_targets(bed: Testbed, images: int) -> None:
    """One row for each sampler, guidance and number of steps: [mean, least, most] evaluations that
    are saved, by the speed-up that was asked for."""
    settings = [
        Setting(steps, cfg, sampler)
        for sampler in ("euler", "dpmpp_2m")
        for cfg in (1.0, 3.5)
        for steps in (20, 28, 50)
    ]
    found = of_part("targets", folder_of(bed.bed.name))
    for setting in settings:
        if found.has(setting.name, images=images):
            continue
        row: Row = {"setting": setting.name, "images": images}
        for speedup in (2.0, 3.0, 4.0):
            config = replace(CHECKED, budget=Target(speedup=speedup))
            saved = []
            for i, caption in enumerate(bed.bed.captions(44, images)):
                made = bed.make(
                    setting, caption, 73_000 + i, lambda model, c=config: accelerate(model, c)
                )
                report = find(made.latent)
                saved.append(report.rows / report.evaluations)
            row[f"{speedup:g}x"] = [
                round(value, 3) for value in (statistics.fmean(saved), min(saved), max(saved))
            ]
        keep(found, row)


def measure_batches(bed: Testbed, images: int) -> None:
    """Batches of four images of one prompt: one row for each threshold and way to decide."""
    found, setting = of_part("batches", folder_of(bed.bed.name)), Setting(28, 3.5)
    for threshold in (0.1, 0.2):
        config = replace(CHECKED, threshold=threshold)
        for decides, run in (("each image", None), ("whole batch", WholeBatchRun)):
            if found.has(threshold, decides, images=4 * images):
                continue
            saved, speed, quality = [], [], []
            for i, caption in enumerate(bed.bed.captions(43, images)):
                plain = bed.make(setting, caption, 72_000 + i, images=4)
                fast = bed.make(
                    setting,
                    caption,
                    72_000 + i,
                    lambda model, c=config, r=run: accelerate(model, c, run=r),
                    images=4,
                )
                saved.append(plain.evaluations / fast.evaluations)
                speed.append(plain.seconds / fast.seconds)
                quality += psnr(fast, plain)
            row = {"threshold": threshold, "decides": decides, "images": 4 * images}
            row |= {"saved": round(statistics.fmean(saved), 3)}
            row |= {"speedup": round(statistics.median(speed), 3)}
            keep(found, row | {"psnr": [round(value, 1) for value in quality]})


def keep(found: Measured, row: Row) -> None:
    """Keep a row, and show it."""
    found.add([row])
    print(row, flush=True)


def measure_transfer(bed: Testbed, images: int) -> None:
    """Measure what was not measured yet."""
    measure_thresholds(bed, images)
    measure_targets(bed, min(images, 8))
    measure_batches(bed, min(images, 8))
