"""What one threshold means elsewhere, and what deciding per image is worth: run.py bench --transfer writes benchmarks/transfer.md."""

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from testbed import PACK, Setting, Testbed, captions, clock, compare, conditioning  # first: it makes ComfyUI importable

import comfy.sample
import comfy.sd
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from speca_pack.speca_core import SpecaConfig
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.blocks.passes import FullPass
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core.bridge.run import Run
from speca_pack.speca_core.budgets import Target
from speca_pack.speca_core.session import Call, Session
from speca_pack.speca_core.replay import psnr_band

IMAGE_SETTINGS = (
    *(Setting(steps, cfg) for cfg in (3.5, 1.0) for steps in (20, 28, 50)),
    Setting(28, 3.5, "dpmpp_2m"),
    Setting(28, 3.5, size=256),
)
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
    """One picture or clip: relative latent distance to the plain one, largest in a frame; evaluations plain / computed; mean error of the
    drafts that were served, as the verifier saw it and as it was (None: no drafts); whether the PSNR is in the range that what-if tells
    (None: no range)."""

    distance: float
    saved: float
    estimate: float | None
    error: float | None
    foretold: bool | None


class Truth:
    """Lets a full pass score what the drafts of a call were off by, and nothing else: a `Source` for `FullPass`."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.errors: list[float] = []
        self.forecast, self.guided = call.forecast, call.guided

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """No anchor."""

    def scorable(self, rows: Sequence[int]) -> list[int]:
        """All of them."""
        return list(rows)

    def score(self, rows: Sequence[int], errors: Sequence[float]) -> None:
        """Of the drafts."""
        self.errors += errors


@contextmanager
def true_errors() -> Iterator[list[float]]:
    """The true errors of all drafts that are served inside, in the guided prediction: the model is evaluated behind each as well."""
    found: list[float] = []
    answer = Run._answer

    def _answer(run: Run, call: Call, evaluate: Any) -> torch.Tensor:
        output = answer(run, call, evaluate)
        if served := [row for row in call.draft_rows if call._rows[row].verdict == "accepted"]:
            truth = Truth(call)
            evaluate(FullPass(run.anatomy, run.verifier, truth, served), served)
            found.extend(truth.errors)
        return output

    with patch.object(Run, "_answer", _answer):
        yield found


def outcome(latent: torch.Tensor, plain: torch.Tensor, true: list[float], psnr: float | None = None) -> Outcome:
    """Of an accelerated latent [1, channels, ...], whose third dimension from the end counts frames where there are five.

    Args:
        plain: the plain model's latent. true: errors of the drafts. psnr: of the decoded picture, in dB.
    """
    report = find(latent)
    frames = [(latent, plain)] if latent.ndim == 4 else list(zip(latent.unbind(2), plain.unbind(2), strict=True))
    distance = max((torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b)).item() for a, b in frames)
    estimates = [row.error for call in report.calls for row in call.rows if row.verdict == "accepted"]
    assert len(true) == len(estimates)
    saved = report.rows / (report.rows - report.count("accepted"))
    band = psnr_band(report, report)
    foretold = None if psnr is None or band is None else band[0] <= psnr <= band[1]
    return Outcome(distance, saved, *(statistics.fmean(errors) if errors else None for errors in (estimates, true)), foretold)


def pictures(bed: Testbed, setting: Setting, config: SpecaConfig, count: int) -> list[Outcome]:
    """The same prompts and seeds in every setting."""
    made = []
    for i, caption in enumerate(captions(41, count)):
        plain = bed.make(setting, caption, 71_000 + i)
        with true_errors() as true:
            fast = bed.make(setting, caption, 71_000 + i, lambda model: accelerate(model, config))
        made.append(outcome(fast.latent, plain.latent, true, compare(fast, plain)["psnr"]))
    return made


def clips(steps: int, config: SpecaConfig, count: int) -> list[Outcome]:
    """The demo's tiny Wan, five latent frames."""
    wan = ModelSamplingSD3().patch(comfy.sd.load_diffusion_model(str(PACK / "demo/models/diffusion_models/wan_tiny.safetensors")), 3.0)[0]
    blank = torch.zeros(1, 16, 5, 8, 8)

    def sample(model: Any, clip: str, seed: int) -> torch.Tensor:
        noise = comfy.sample.prepare_noise(blank, seed)
        rest = (conditioning(clip), conditioning(""), blank)
        latent: torch.Tensor = comfy.sample.sample(model, noise, steps, 3.0, "euler", "simple", *rest, disable_pbar=True, seed=seed)
        return latent

    fast = accelerate(wan, config)
    made = []
    for i, clip in enumerate(CLIPS[:count]):
        with true_errors() as true:
            latent = sample(fast, clip, 100 + i)
        made.append(outcome(latent, sample(wan, clip, 100 + i), true))
    return made


@contextmanager
def whole_batches() -> Iterator[None]:
    """All rows of a call decide together."""
    open_call = Session.open_call

    def together(session: Session, lanes: Any, images: Any, branches: Any, together: bool = True) -> Call:
        return open_call(session, lanes, images, branches, together=True)

    with patch.object(Session, "open_call", together):
        yield


def batches(bed: Testbed, setting: Setting, config: SpecaConfig, count: int) -> tuple[float, float, float, float]:
    """(evaluations saved, speed-up, mean PSNR, worst PSNR) of batches of four images of one prompt."""
    blank = torch.zeros(4, 16, setting.size // 8, setting.size // 8)
    saved, speed, quality = [], [], []
    for i, caption in enumerate(captions(43, count)):
        prompts = conditioning(caption), conditioning("")
        noise = comfy.sample.prepare_noise(blank, 72_000 + i)

        def sample(model: Any, noise: torch.Tensor = noise, prompts: Any = prompts) -> tuple[torch.Tensor, float]:
            began = clock()
            settings = (setting.steps, setting.cfg, setting.sampler, setting.scheduler)
            latent = comfy.sample.sample(model, noise, *settings, *prompts, blank, disable_pbar=True, seed=1)
            return latent, clock() - began

        plain, slow = sample(bed.model)
        latent, quick = sample(accelerate(bed.model, config))
        report = find(latent)
        saved.append(report.rows / (report.rows - report.count("accepted")))
        speed.append(slow / quick)
        decoded, reference = (bed.vae.decode(x).movedim(-1, 1).clamp(0, 1) for x in (latent, plain))
        error = (decoded - reference).square().flatten(1).mean(1).clamp_min(1e-10)
        quality += (-10 * torch.log10(error)).tolist()
    return statistics.fmean(saved), statistics.median(speed), statistics.fmean(quality), min(quality)


def same_threshold(bed: Testbed, count: int) -> list[str]:
    """One row for each setting."""
    config = SpecaConfig(level="features")
    made: list[tuple[str, Callable[[], list[Outcome]]]] = [
        *((setting.name, functools.partial(pictures, bed, setting, config, count)) for setting in IMAGE_SETTINGS),
        *((f"tiny Wan, {steps} steps, CFG 3, worst frame", functools.partial(clips, steps, config, count)) for steps in (20, 28, 50)),
    ]
    rows = []
    for name, make in made:
        outcomes = make()
        found = {key: [getattr(o, key) for o in outcomes] for key in ("saved", "estimate", "error", "distance")}
        means = {key: statistics.fmean(value for value in values if value is not None) for key, values in found.items()}
        middle = statistics.median(o.distance for o in outcomes)
        shares = " | ".join(f"{value:.2%}" for value in (means["estimate"], means["error"], means["distance"], middle))
        foretold = [o.foretold for o in outcomes if o.foretold is not None]
        told = f"{sum(foretold)} of {len(foretold)}" if foretold else ""
        rows.append(f"| {name} | {means['saved']:.2f} | {shares} | {told} |")
        print(rows[-1], flush=True)
    return rows


def targets(bed: Testbed, count: int) -> list[str]:
    """One row for each sampler, guidance and number of steps."""
    rows = []
    for sampler in ("euler", "dpmpp_2m"):
        for cfg in (1.0, 3.5):
            for steps in (20, 28, 50):
                setting, cells = Setting(steps, cfg, sampler), []
                for speedup in (2.0, 3.0, 4.0):
                    config = SpecaConfig(level="features", budget=Target(speedup=speedup))
                    saved = []
                    for i, caption in enumerate(captions(44, count)):
                        report = find(bed.make(setting, caption, 73_000 + i, lambda model, c=config: accelerate(model, c)).latent)
                        saved.append(report.rows / (report.rows - report.count("accepted")))
                    least = "" if min(saved) == max(saved) else f" ({min(saved):.2f} to {max(saved):.2f})"
                    cells.append(f"{statistics.fmean(saved):.2f}{least}")
                rows.append(f"| {setting.name} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
    return rows


def per_image(bed: Testbed, count: int) -> list[str]:
    """One row for each threshold and way to decide."""
    rows = []
    setting = Setting(28, 3.5)
    for threshold in (0.1, 0.2):
        config = SpecaConfig(threshold, level="features")
        apart = batches(bed, setting, config, count)
        with whole_batches():
            together = batches(bed, setting, config, count)
        for name, (saved, speed, mean, worst) in (("each image", apart), ("whole batch", together)):
            rows.append(f"| {threshold:g} | {name} | {saved:.2f} | {speed:.2f} | {mean:.1f} | {worst:.1f} |")
            print(rows[-1], flush=True)
    return rows


def write_transfer(images: int) -> Path:
    """Measure, and write the sections."""
    bed = Testbed()
    bed.make(Setting(4, 3.5), "a big red circle on blue plain", 1)
    filmed, batched = min(images, len(CLIPS)), min(images, 8)
    lines = [
        "## What one threshold means elsewhere",
        "",
        f"`python3 run.py bench --transfer`: the default settings at level `features`, {images} prompts or {filmed} clips, the same in",
        "each row. The mean error of the drafts that were served, in the guided prediction, as the check saw it and as it was; and the",
        "distance of the final latents to the plain ones. Last, how many pictures' PSNR lay in the range that what-if tells.",
        "",
        "| | evaluations, x | estimated error | true error | distance, mean | median | PSNR as foretold |",
        "|---|---|---|---|---|---|---|",
        *same_threshold(bed, images),
        "",
        "## Does `target` meet its number?",
        "",
        f"Evaluations of the plain model per computed one, {batched} prompts; in brackets the least and the most, where pictures differ.",
        "",
        "| | 2x | 3x | 4x |",
        "|---|---|---|---|",
        *targets(bed, batched),
        "",
        "## Each image for itself",
        "",
        f"Batches of four images of one prompt, {batched} prompts, 28 steps Euler, CFG 3.5, level `features`; *whole batch*: all are",
        "computed as soon as one is.",
        "",
        "| threshold | who decides | evaluations, x | time, x | PSNR mean, dB | worst |",
        "|---|---|---|---|---|---|",
        *per_image(bed, batched),
    ]
    path = Path(__file__).with_name("transfer.md")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
