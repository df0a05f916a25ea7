"""Does a test bed behave like a real model? `run.py bench --gate` holds it against published runs.

A small model can be too kind. Its output may change too smoothly, so that every extrapolation looks
good. Each check compares one quantity of the bed with what was published of real models, most of it
of FLUX.1-dev; docs/beds.md names the sources. Everything is measured with Euler at CFG 3.5, because
that is what people run, and because FLUX's distilled guidance of 3.5 is its counterpart.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed import Testbed  # first: it makes ComfyUI importable

import comfy.sample
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from numpy.polynomial.chebyshev import chebvander
from speca_pack.speca_core.axis import lagrange
from speca_pack.speca_core.forecasters.taylor import ladder

CFG, PROMPTS, CAPTIONS_SEED, IMAGE_SEED = 3.5, 8, 9001, 500
HORIZONS = (1, 2, 4, 8)  # steps, for reuse, line and parabola


@dataclass(frozen=True)
class Check:
    """One quantity.

    Attributes:
        name: with its unit.
        value: of the bed.
        low, high: the range of real models, both included.
        ok: whether the value is in it.
    """

    name: str
    value: float
    low: float
    high: float
    ok: bool


def check(name: str, value: float, low: float, high: float) -> Check:
    """A check of a value."""
    return Check(name, round(value, 4), low, high, low <= value <= high)


# --- the plain path ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainPath:
    """One plain run: sigmas, steps + 1 values; latents and slopes, [numbers] float64 per step."""

    sigmas: Sequence[float]
    latents: Sequence[torch.Tensor]
    slopes: Sequence[torch.Tensor]


def behaviour(paths: Sequence[PlainPath]) -> dict[str, float]:
    """How the slopes of plain runs change, in the units of the papers.

    Steps count after the first seventh of a run, which every published method computes.
    """
    found: dict[str, list[float]] = defaultdict(list)
    norm = torch.linalg.vector_norm
    for path in paths:
        v, first = path.slopes, max(3, round(len(path.slopes) / 7))
        for i in range(1, len(v)):
            change = (v[i] - v[i - 1]).abs().mean() / v[i].abs().mean()
            found["change"].append(change.item())
        parts = [split(x, slope) for x, slope in zip(path.latents, v, strict=True)]
        for i in range(max(first, 4), len(v)):
            (a0, _, u0), (a1, _, _), (a, _, u) = parts[i - 1], parts[i - 2], parts[i]
            found["length error"].append(abs(2 * a0 - a1 - a) / abs(a))
            found["angle"].append(1 - float(u0 @ u))
            basis, _ = torch.linalg.qr(torch.stack([v[i - 1], v[i - 2], v[i - 3]], 1))
            explained = norm(basis.T @ v[i]) / norm(v[i])
            found["unexplained"].append(1 - explained.item())
            for k in HORIZONS:
                for order, name in enumerate(("reuse", "line", "parabola")):
                    if i - (order + 1) * k >= 0:
                        anchors = [v[i - (j + 1) * k] for j in range(order, -1, -1)]
                        weights = lagrange([-(j + 1) for j in range(order, -1, -1)], 0)
                        guess = sum(w * anchor for w, anchor in zip(weights, anchors, strict=True))
                        error = norm(guess - v[i]) / norm(v[i])
                        found[f"{name} {k}"].append(error.item())
    medians = {"length error", "angle"}
    means = {name: statistics.fmean(values) for name, values in found.items()}
    return means | {name: statistics.median(found[name]) for name in medians}


def split(x: torch.Tensor, slope: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    """VDE's parts of a slope: its share along the latent, the length of the rest relative to the
    latent, and the direction of the rest."""
    along = (slope @ x) / (x @ x)
    rest = slope - along * x
    length = torch.linalg.vector_norm(rest)
    return along.item(), (length / torch.linalg.vector_norm(x)).item(), rest / length


# --- published schedules, at the level of the slope -------------------------------------------

Anchor = tuple[int, torch.Tensor, torch.Tensor]  # step, slope, latent
Forecast = Callable[[Sequence[Anchor], int, torch.Tensor, int], torch.Tensor]


def taylor(order: int) -> Forecast:
    """TaylorSeer's ladder."""

    def forecast(anchors: Sequence[Anchor], step: int, x: torch.Tensor, steps: int) -> torch.Tensor:
        newest = anchors[-(order + 1) :]
        places = [float(place) for place, _, _ in newest]
        reach = step - places[-1]
        total = torch.zeros_like(x)
        for power, weights in enumerate(ladder(places)):
            share = reach**power / math.factorial(power)
            for weight, (_, slope, _) in zip(weights, newest, strict=True):
                total = total + share * weight * slope
        return total

    return forecast


reuse = taylor(0)


def vde(anchors: Sequence[Anchor], step: int, x: torch.Tensor, steps: int) -> torch.Tensor:
    """VDE: both scalars go on along a line, the direction is reused."""
    place, slope, latent = anchors[-1]
    along, length, direction = split(latent.flatten(), slope.flatten())
    if len(anchors) > 1:
        before, slope, latent = anchors[-2]
        along0, length0, _ = split(latent.flatten(), slope.flatten())
        share = (step - place) / (place - before)
        along, length = along + (along - along0) * share, length + (length - length0) * share
    flat = x.flatten()
    direction = direction - flat * (direction @ flat) / (flat @ flat)
    direction = direction / torch.linalg.vector_norm(direction)
    made = along * flat + length * torch.linalg.vector_norm(flat) * direction
    return made.reshape(x.shape)


def spectrum(anchors: Sequence[Anchor], step: int, x: torch.Tensor, steps: int) -> torch.Tensor:
    """Spectrum: ridge regression on four Chebyshev polynomials, ten anchors."""
    newest = anchors[-10:]
    places = torch.tensor([place for place, _, _ in newest] + [step]) * 2 / steps - 1
    basis = torch.from_numpy(chebvander(places.double().numpy(), 4))
    rows, target = basis[:-1], basis[-1]
    ridge = 0.1 * torch.eye(5, dtype=torch.float64)
    ridge[0, 0] = 1e-9
    weights = target @ torch.linalg.solve(rows.T @ rows + ridge, rows.T)
    return sum(  # type: ignore[return-value]
        (weight * slope for weight, (_, slope, _) in zip(weights.tolist(), newest, strict=True)),
        torch.zeros_like(x),
    )


def every(steps: int, interval: int, warmup: int, last: bool = True) -> set[int]:
    """Each `interval`-th step after warm-up, and the last one."""
    plan = {*range(warmup), *range(warmup - 1, steps, interval)}
    return plan | {steps - 1} if last else plan


def growing(steps: int, count: int, start: float = 0.15) -> set[int]:
    """`count` steps with gaps that grow geometrically: the shape of BudCache's masks."""
    places = [(1 + 1 / start) ** (i / (count - 1)) - 1 for i in range(count)]
    plan = [round((steps - 1) * start * place) for place in places]
    for i in range(1, count):
        plan[i] = max(plan[i], plan[i - 1] + 1)
    return {min(step, steps - 1) for step in plan} | {steps - 1}


def adaptive(steps: int, growth: float, window: float = 2.0, warmup: int = 5) -> set[int]:
    """Spectrum's: each window is longer than the one before."""
    plan, since = set(range(warmup)), 0
    for step in range(warmup, steps):
        since += 1
        if since % math.floor(window) == 0:
            plan.add(step)
            window, since = window + growth, 0
    return plan


MEANCACHE = {0, 1, 2, 3, 5, 7, 10, 12, 17, 25, 33, 41, 45, 48, 49}


@dataclass(frozen=True)
class Published:
    """A schedule with its published PSNR on FLUX.1-dev, dB; None: no table has it."""

    name: str
    kind: str
    steps: int
    plan: frozenset[int]
    forecast: Forecast
    flux: float | None = None


def schedules() -> Iterator[Published]:
    """What is made again."""
    vdes = ((3, 25.81), (4, 24.02), (5, 23.19))
    for interval, flux in vdes:
        plan = frozenset(every(50, interval, 7))
        yield Published(f"VDE, {len(plan)} of 50", "VDE", 50, plan, vde, flux)
    for order, interval, flux in ((1, 4, 22.31), (2, 4, 20.76), (1, 6, 20.24)):
        plan = frozenset(every(50, interval, 3, last=False))
        name = f"TaylorSeer N={interval} order {order}"
        yield Published(name, "Taylor", 50, plan, taylor(order), flux)
    for growth, flux in ((0.75, 24.32), (3.0, 22.21)):
        plan = frozenset(adaptive(50, growth))
        yield Published(f"Spectrum {growth:g}", "Spectrum", 50, plan, spectrum, flux)
    mean = frozenset(MEANCACHE)
    yield Published("MeanCache, 15 of 50, reuse", "reuse", 50, mean, reuse, 24.83)
    for count, flux in ((10, 24.90), (8, 22.16)):
        plan = frozenset(growing(28, count))
        yield Published(f"BudCache, {count} of 28, reuse", "reuse", 28, plan, reuse, flux)
    line = frozenset(adaptive(50, 0.75))
    yield Published("line on Spectrum's plan", "line", 50, line, taylor(1))
    yield Published("line on BudCache's 10", "line", 28, frozenset(growing(28, 10)), taylor(1))


class Runs:
    """Samples of one bed."""

    def __init__(self, bed: Testbed) -> None:
        self.model, self.vae, self.bed = bed.model, bed.vae, bed.bed
        self.captions = self.bed.captions(CAPTIONS_SEED, PROMPTS)
        self._plain: dict[tuple[int, int], tuple[PlainPath, torch.Tensor]] = {}

    def plain(self, steps: int, image: int) -> tuple[PlainPath, torch.Tensor]:
        """A plain run and its picture, [1, 3, H, W] in 0..1; made once."""
        if (steps, image) not in self._plain:
            self._plain[steps, image] = self.sample(steps, image, None)
        return self._plain[steps, image]

    def sample(
        self, steps: int, image: int, published: Published | None
    ) -> tuple[PlainPath, torch.Tensor]:
        """A run in which only the steps of a plan are computed, and its picture."""
        model = self.model.clone()
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)
        anchors: list[Anchor] = []
        latents: list[torch.Tensor] = []
        slopes: list[torch.Tensor] = []

        def predict(
            executor: Any, x: torch.Tensor, timestep: torch.Tensor, *rest: Any
        ) -> torch.Tensor:
            sigma = float(timestep.flatten()[0])
            step = int((sigmas[:-1] - sigma).abs().argmin())
            if published is None or step in published.plan or not anchors:
                slope = (x - executor(x, timestep, *rest)) / sigma
                anchors.append((step, slope, x.clone()))
            else:
                slope = published.forecast(anchors, step, x, steps)
            latents.append(x.flatten().double())
            slopes.append(slope.flatten().double())
            return x - sigma * slope

        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "gate", predict)
        size = self.bed.size // 8
        empty = torch.zeros(1, 16, size, size)
        seed = IMAGE_SEED + image
        latent = comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(empty, seed),
            steps,
            CFG,
            "euler",
            "simple",
            self.bed.conditioning(self.captions[image]),
            self.bed.conditioning(""),
            empty,
            disable_pbar=True,
            seed=seed,
        )
        picture = self.vae.decode(latent).movedim(-1, 1).clamp(0, 1)
        return PlainPath(sigmas.tolist(), latents, slopes), picture

    def quality(self, published: Published) -> list[float]:
        """PSNR of each picture to the plain one, dB."""
        pairs = [
            (self.plain(published.steps, i)[1], self.sample(published.steps, i, published)[1])
            for i in range(PROMPTS)
        ]
        return [-10 * math.log10((a - b).square().mean().item() + 1e-10) for a, b in pairs]

    def fewer(self, steps: int, count: int) -> list[float]:
        """PSNR of the plain model with fewer steps."""
        pairs = [(self.plain(steps, i)[1], self.plain(count, i)[1]) for i in range(PROMPTS)]
        return [-10 * math.log10((a - b).square().mean().item() + 1e-10) for a, b in pairs]


def gate(bed: Testbed) -> dict[str, Any]:
    """All checks of a bed, and the numbers that they are made of."""
    runs = Runs(bed)
    found = behaviour([runs.plain(28, i)[0] for i in range(PROMPTS)])
    quality = {published.name: runs.quality(published) for published in schedules()}
    means = {name: statistics.fmean(values) for name, values in quality.items()}
    offsets: dict[str, list[float]] = defaultdict(list)
    for published in schedules():
        if published.flux is not None:
            offsets[published.kind].append(means[published.name] - published.flux)
    families = {kind: statistics.fmean(values) for kind, values in offsets.items()}
    orders = means["TaylorSeer N=4 order 2"] - means["TaylorSeer N=4 order 1"]
    spread = max(families.values()) - min(families.values())
    checks = [
        check("change per step, 28 steps", found["change"], 0.15, 0.25),
        check("slope that the last three do not explain", found["unexplained"], 0.01, 0.10),
        check(
            "length error of a linear forecast (VDE's alpha)", found["length error"], 0.008, 0.016
        ),
        check("angle to the slope before, 1 - cos", found["angle"], 0.0008, 0.0051),
        check("parabola over line, 1 step", found["parabola 1"] / found["line 1"], 1.0, 2.0),
        check("parabola over line, 4 steps", found["parabola 4"] / found["line 4"], 1.2, 3.0),
        check("line over reuse, 4 steps", found["line 4"] / found["reuse 4"], 0.9, 1.6),
        check("TaylorSeer N=4, order 2 minus order 1, dB", orders, -3.0, -0.5),
        check("TaylorSeer N=4 order 1, dB", means["TaylorSeer N=4 order 1"], 19.3, 25.3),
        check("BudCache 10 of 28, dB", means["BudCache, 10 of 28, reuse"], 21.9, 27.9),
        check(
            "Spectrum minus TaylorSeer order 1 at as many evaluations, dB",
            means["Spectrum 0.75"] - means["TaylorSeer N=4 order 1"],
            0.0,
            4.0,
        ),
        check("spread of the families' offsets to FLUX, dB", spread, 0.0, 3.0),
    ]
    fewer = {f"{a} to {b}": runs.fewer(a, b) for a, b in ((50, 25), (50, 17), (28, 14), (28, 10))}
    return {
        "bed": bed.bed.name,
        "checks": [asdict(one) for one in checks],
        "passed": sum(one.ok for one in checks),
        "of": len(checks),
        "behaviour": {name: round(value, 5) for name, value in sorted(found.items())},
        "offsets": {kind: round(value, 2) for kind, value in families.items()},
        "psnr": {
            name: [round(statistics.fmean(values), 2), round(min(values), 2)]
            for name, values in (
                quality | {f"fewer steps, {k}": v for k, v in fewer.items()}
            ).items()
        },
    }


def write_gate(bed: Testbed, path: Path | None) -> dict[str, Any]:
    """Measure, print a table, and write the JSON."""
    made = gate(bed)
    print(f"\n{made['bed']}: {made['passed']} of {made['of']} checks passed\n")
    for one in made["checks"]:
        sign = "ok  " if one["ok"] else "FAIL"
        name, value = one["name"], one["value"]
        print(f"  {sign} {name:<62}{value:>9.4g}   real models {one['low']:g} to {one['high']:g}")
    print()
    for name, (mean, worst) in made["psnr"].items():
        print(f"  {name:<36}{mean:6.1f} / {worst:.1f} dB")
    if path:
        path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return made
