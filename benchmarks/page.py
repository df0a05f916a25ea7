"""docs/benchmarks.md, made from results.json and page.md.

A {name} in page.md stands for a table, or for a number in the prose, so that the page cannot
contradict the results.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from results import Row, images_of
from scale_page import devices, markdown, on_gpus

TEMPLATE = Path(__file__).with_name("page.md")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
PICTURE = PAGE.parent / "images" / "bench-euler-28-steps.png"
PICTURED = ("euler 28 steps, CFG 1", "euler 28 steps, CFG 3.5")

CLOCK, EVALUATIONS = "speedup", "saved"
SPEEDS = (2.0, 3.0)
OURS = ("checked", "target")
THRESHOLD = 0.1
# The other checks in results.json are no verifiers.
CHECKS = ("embedded", "last_block", "first_block")
CHECKED = ("checked", f"{THRESHOLD:g}")
NOT_YET = "No GPU was at hand yet: `python3 run.py bench --scale` fills a table here."
ON_GPUS = (
    "`python3 run.py bench --scale`, {devices}, published sizes with random weights: milliseconds "
    "of a prediction, and the\nspeed-up of whole runs whose drafts all pass.\n\n"
)
TRIED = {  # (group, label) -> its name on the page
    ("level features", "0.1"): "level features",
    ("level features, no hindsight", "0.1"): "without hindsight",
    ("level features, prompts apart", "0.05"): "errors per prompt",
    ("level features, fitted", "0.1"): "forecaster `fitted`",
    ("level features, hindcast", "0.1"): "budget `hindcast`",
    ("last block, accumulated", "0.025"): "verifier `last_block`, 0.025",
    ("first block, accumulated", "0.03"): "verifier `first_block`, 0.03",
    ("SpeCa paper, strict", "0.01"): "SpeCa's rule, strict, 0.01",
    ("SpeCa paper, deferred", "0.01"): "SpeCa's rule, as released, 0.01",
}
DUELS = {  # name in page.md -> (kind of rivals, speed, its axis)
    "fewer_2x": ("plain", 2.0, CLOCK),
    "fewer_3x": ("plain", 3.0, CLOCK),
    "intervals_2x": ("intervals", 2.0, CLOCK),
}


@dataclass(frozen=True)
class Point:
    """One method in one setting, over all images: PSNR in dB, and how many times as fast it is."""

    group: str
    label: str
    speedup: float
    saved: float
    psnr: float
    worst: float

    @property
    def quality(self) -> str:
        """Mean / worst."""
        return quality(self.psnr, self.worst)


def quality(mean: float, worst: float) -> str:
    """For a cell."""
    return f"{mean:.1f}/{worst:.1f}"


def settings_of(rows: Iterable[Row]) -> list[str]:
    """In the order they were measured."""
    return list(dict.fromkeys(row["setting"] for row in rows))


def points(rows: Iterable[Row], setting: str) -> list[Point]:
    """The methods of a setting, in the order they were measured."""
    return [
        Point(
            row["group"],
            row["label"],
            row["speedup"],
            row["saved"],
            statistics.fmean(row["psnr"]),
            min(row["psnr"]),
        )
        for row in rows
        if row["setting"] == setting
    ]


def table(rows: Sequence[Row]) -> str:
    """All methods of a setting, for the terminal."""
    head = ["method", "", "time, x", "evaluations, x", "PSNR mean / worst, dB"]
    found = points(rows, rows[0]["setting"]) if rows else []
    return markdown(
        head, [[p.group, p.label, f"{p.speedup:.2f}", f"{p.saved:.2f}", p.quality] for p in found]
    )


def at(curve: Sequence[Point], speed: float, axis: str) -> tuple[float, float] | None:
    """(mean, worst) of a curve where its `axis` is `speed`, linear between its points; None outside
    of them."""
    ordered = sorted(curve, key=lambda p: float(getattr(p, axis)))
    for a, b in pairwise(ordered):
        low, high = getattr(a, axis), getattr(b, axis)
        if low <= speed <= high and high > low:
            share = (speed - low) / (high - low)
            mean = (1 - share) * a.psnr + share * b.psnr
            return mean, (1 - share) * a.worst + share * b.worst
    return None


def best(
    found: Sequence[Point], groups: Sequence[str], speed: float, axis: str
) -> tuple[float, float] | None:
    """(mean PSNR, worst image's) of the best of some groups where `axis` is `speed` or more; None
    where none gets there.

    Between two measured points of a group lies one that was not; a faster point that is better
    counts as well.
    """
    reached = [(p.psnr, p.worst) for p in found if p.group in groups and getattr(p, axis) >= speed]
    for group in groups:
        if between := at([p for p in found if p.group == group], speed, axis):
            reached.append(between)
    return max(reached, default=None)


def rivals(found: Sequence[Point]) -> dict[str, list[str]]:
    """Groups that were measured, by kind."""
    groups = list(dict.fromkeys(p.group for p in found))
    own = ("interval, damped Newton", "interval, spline", "interval, hindsight")
    fewer = [g for g in groups if g.startswith("fewer steps")]
    return {
        "SpeCa": [g for g in groups if g in OURS],
        "intervals": [g for g in groups if g.startswith("interval, ") and g not in own],
        "fewer": fewer,
        "plain": [*fewer, *(g for g in groups if g in ("EasyCache", "LazyCache"))],
    }


def shown(value: tuple[float, float] | None, most: bool = False) -> str:
    """A cell; the highest mean of a comparison is bold."""
    if value is None:
        return "-"
    return f"**{quality(*value)}**" if most else quality(*value)


def equal(rows: Sequence[Row], axis: str, settings: Sequence[str]) -> str:
    """Settings at a few speeds by `axis`, or faster."""
    kinds = {"SpeCa": "SpeCa", "intervals": "intervals", "plain": "fewer steps"}
    head = ["", *(f"{speed:g}x: {name}" for speed in SPEEDS for name in kinds.values())]
    lines = []
    for setting in settings:
        found = points(rows, setting)
        groups, line = rivals(found), [setting]
        for speed in SPEEDS:
            values = [best(found, groups[kind], speed, axis) for kind in kinds]
            most = max((value for value in values if value), default=None)
            line += [shown(value, value == most) for value in values]
        lines.append(line)
    return markdown(head, lines)


def of_euler(rows: Sequence[Row]) -> list[str]:
    """The settings whose sampler is Euler."""
    return [setting for setting in settings_of(rows) if setting.startswith("euler")]


def untouched(rows: Sequence[Row]) -> str:
    """The node as it is with Euler, and the others at its evaluations and at its time."""
    lines = []
    for setting in of_euler(rows):
        found = points(rows, setting)
        ours, groups = point(found, CHECKED), rivals(found)
        cells = [f"{ours.saved:.2f}", f"{ours.speedup:.2f}", ours.quality]
        for kind in ("fewer", "intervals"):
            cells.append(shown(best(found, groups[kind], ours.speedup, CLOCK)))
        lines.append([setting.removeprefix("euler "), *cells])
    head = ["Euler", "evaluations, x", "time, x", "SpeCa", "fewer steps", "intervals"]
    return markdown(head, lines)


def point(found: Sequence[Point], name: tuple[str, str]) -> Point:
    """One method."""
    return next(p for p in found if (p.group, p.label) == name)


def tried(rows: Sequence[Row]) -> str:
    """Other ways at 28 steps of Euler, with SpeCa at the same evaluations."""
    head, columns = ["28 steps, Euler"], []
    for setting in PICTURED:
        found = points(rows, setting)
        groups, column = rivals(found), []
        for p in (point(found, name) for name in TRIED):
            same = best(found, groups["SpeCa"], p.saved, EVALUATIONS)
            column.append([f"{p.saved:.2f}", p.quality, shown(same)])
        columns.append(column)
        cfg = setting.rpartition(", ")[2]
        head += [f"{cfg}: evaluations, x", "mean/worst", "SpeCa there"]
    names = zip(TRIED.values(), *columns, strict=True)
    return markdown(head, [[name, *first, *second] for name, first, second in names])


def checks(rows: Sequence[Row]) -> str:
    """How well each check estimates the error."""
    by_name: dict[str, dict[float, Row]] = {}
    for row in rows:
        by_name.setdefault(row["check"], {})[row["cfg"]] = row
    scales = sorted({row["cfg"] for row in rows})
    head = ["check"]
    for cfg in scales:
        head += [f"CFG {cfg:g}: rank", "true / estimate", "spread"]
    lines = []
    for name, found in by_name.items():
        if name not in CHECKS:
            continue
        line = [name]
        for row in (found[cfg] for cfg in scales):
            numbers = row["rank"][0], row["ratio"][0], row["spread"]
            line += [f"{number:.2f}" for number in numbers]
        lines.append(line)
    return markdown(head, lines)


def batches(rows: Sequence[Row]) -> str:
    """Deciding per image and per batch, in words."""
    found = [
        f"{row['decides']} {quality(statistics.fmean(row['psnr']), min(row['psnr']))} at "
        f"{row['saved']:.2f} (time {row['speedup']:.2f})"
        for row in rows
        if row["threshold"] == THRESHOLD
    ]
    return ", ".join(found)


def span(values: Iterable[float], digits: int = 0) -> str:
    """The least and the most."""
    found = sorted(values)
    low, high = (f"{value:.{digits}f}" for value in (found[0], found[-1]))
    return low if low == high else f"{low} to {high}"


def duel(rows: Sequence[Row], kind: str, speed: float, axis: str) -> str:
    """In how many settings SpeCa's mean is ahead, and by how much."""
    means, worsts = [], []
    for setting in settings_of(rows):
        found = points(rows, setting)
        groups = rivals(found)
        ours = best(found, groups["SpeCa"], speed, axis)
        other = best(found, groups[kind], speed, axis)
        if ours and other:
            means.append(ours[0] - other[0])
            worsts.append(ours[1] - other[1])
    ahead, behind = [m for m in means if m > 0], [-m for m in means if m <= 0]
    text = f"ahead in {len(ahead)} of {len(means)} settings"
    text += f" by {span(ahead)} dB" if ahead else ""
    text += f", behind in {len(behind)} by {span(behind)} dB" if behind else ""
    return f"{text}; their worst image is ahead in {sum(worst > 0 for worst in worsts)}"


def numbers(results: Mapping[str, list[Row]]) -> dict[str, str]:
    """The names in page.md that stand for numbers."""
    rows = results["methods"]
    found = {setting: points(rows, setting) for setting in settings_of(rows)}
    euler = of_euler(rows)

    def over(settings: Iterable[str], method: tuple[str, str], field: str) -> list[float]:
        return [float(getattr(point(found[name], method), field)) for name in settings]

    def draft(group: str) -> str:
        """A draft's share of a computed evaluation, in percent."""
        chosen = [point(found[name], (group, label)) for name in found for label in ("3x", "4x")]
        return span(100 * (1 / p.speedup - 1 / p.saved) / (1 - 1 / p.saved) for p in chosen)

    levels = (over(euler, method, "psnr") for method in (CHECKED, ("level features", "0.1")))
    thresholds = results["thresholds"]
    made = {
        "images": str(images_of(rows[0])),
        "settings": str(len(found)),
        "methods": str(max(map(len, found.values()))),
        "levels": f"{max(abs(a - b) for a, b in zip(*levels, strict=True)):.1f}",
        "draft_features": draft("level features, target"),
        "draft_prediction": draft("target"),
        "check_images": str(results["checks"][0]["images"]),
        "check_drafts": str(results["checks"][0]["drafts"]),
        "threshold_images": str(max(map(images_of, thresholds))),
        "threshold_clips": str(min(map(images_of, thresholds))),
        "batch_count": str(images_of(results["batches"][0]) // 4),
        "foretold": f"{sum(row['foretold'] for row in thresholds if row['ranges'])} of "
        f"{sum(row['ranges'] or 0 for row in thresholds)}",
    }
    for kind, begin in (("euler", "euler"), ("dpmpp", "dpmpp"), ("wan", "tiny Wan")):
        off = (100 * row["latent"] for row in thresholds if row["setting"].startswith(begin))
        made[f"off_{kind}"] = span(off, 1)
    for speed in (2, 3, 4):
        gained = [value for row in results["targets"] for value in row[f"{speed}x"]]
        made[f"target_{speed}"] = span(gained, 2)
    return made | {name: duel(rows, *of) for name, of in DUELS.items()}


def page(results: Mapping[str, list[Row]]) -> str:
    """The whole page."""
    rows, cells = results["methods"], [cell for cell in results["scale"] if "waits" in cell]
    scale = ON_GPUS.format(devices=devices(cells)) + on_gpus(cells) if cells else NOT_YET
    tables = {
        "untouched": untouched(rows),
        "by_clock": equal(rows, CLOCK, [s for s in settings_of(rows) if not s.startswith("heun")]),
        "tried": tried(rows),
        "checks": checks(results["checks"]),
        "batches": batches(results["batches"]),
        "scale": scale,
    }
    return TEMPLATE.read_text(encoding="utf-8").format(**tables, **numbers(results))


def write_page(results: Mapping[str, list[Row]]) -> Path:
    """Write docs/benchmarks.md."""
    PAGE.write_text(page(results), encoding="utf-8")
    return PAGE
