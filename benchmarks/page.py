"""The benchmark page and its pictures, made from a results file."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS = ["default", "target"]
SPEEDS = (1.5, 2.0, 2.5, 3.0, 4.0)
CHOICES = [("default", "0.1"), ("default", "0.2"), ("interval, Taylor 2", "1/2"), ("interval, Taylor 2", "1/3"), ("fewer steps", "50%")]
SHOWN = {
    "fewer steps": ("#999999", "o"),
    "EasyCache": ("#D55E00", "s"),
    "LazyCache": ("#E69F00", "D"),
    "interval, Taylor 2": ("#CC79A7", "v"),
    "interval, damped Newton": ("#56B4E9", "^"),
    "SpeCa paper, strict": ("#F0E442", "P"),
    "level features": ("#000000", "X"),
    "default": ("#0072B2", "X"),
    "target": ("#009E73", "*"),
}


@dataclass(frozen=True)
class Point:
    """A method's results over all images: medians of the ratios, mean, spread and worst of PSNR in dB."""

    group: str
    label: str
    images: int
    speedup: float
    saved: float
    psnr: float
    spread: float
    worst: float
    ssim: float
    latent: float


def points(lines: Iterable[Mapping[str, Any]], setting: str) -> list[Point]:
    """One point per method, in the order they were measured."""
    by_method: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["setting"] == setting:
            by_method[line["group"], line["label"]].append(line)

    def mean(rows: list[Mapping[str, Any]], key: str) -> float:
        return statistics.fmean(row[key] for row in rows)

    return [
        Point(
            group,
            label,
            len(rows),
            statistics.median(row["speedup"] for row in rows),
            mean(rows, "saved"),
            mean(rows, "psnr"),
            statistics.stdev(row["psnr"] for row in rows) if len(rows) > 1 else 0.0,
            min(row["psnr"] for row in rows),
            mean(rows, "ssim"),
            mean(rows, "latent"),
        )
        for (group, label), rows in by_method.items()
    ]


def table(lines: Iterable[Mapping[str, Any]], setting: str) -> str:
    """A Markdown table of a setting."""
    rows = [
        "| method | | time, x | evaluations, x | PSNR mean ± sd, dB | worst | SSIM | latent distance |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for p in points(lines, setting):
        quality = f"{p.psnr:.1f} ± {p.spread:.1f} | {p.worst:.1f} | {p.ssim:.3f} | {p.latent:.3f}"
        rows.append(f"| {p.group} | {p.label} | {p.speedup:.2f} | {p.saved:.2f} | {quality} |")
    return "\n".join(rows)


def at(curve: list[Point], speed: float, axis: str, key: str) -> float | None:
    """A curve's value where its `axis` (speedup, saved) is `speed`, linear between its points; None outside them."""
    ordered = sorted(curve, key=lambda p: float(getattr(p, axis)))
    for a, b in pairwise(ordered):
        low, high = getattr(a, axis), getattr(b, axis)
        if low <= speed <= high and high > low:
            share = (speed - low) / (high - low)
            return float((1 - share) * getattr(a, key) + share * getattr(b, key))
    return None


def rivals(found: list[Point]) -> dict[str, list[str]]:
    """Whose curves are compared: the groups that were measured, by the column they stand in."""
    groups = list(dict.fromkeys(p.group for p in found))
    unchecked = "interval, hindsight"
    own = ("interval, damped Newton", "interval, spline", unchecked)
    return {
        "ours": [g for g in groups if g in OURS],
        "ours, level features": [g for g in groups if g.startswith("level features")],
        "ours on fixed intervals, unchecked": [g for g in groups if g == unchecked],
        "others' forecasters on fixed intervals": [g for g in groups if g.startswith("interval, ") and g not in own],
        "fewer steps, EasyCache, LazyCache": [g for g in groups if g.startswith("fewer steps") or g in ("EasyCache", "LazyCache")],
    }


def best(found: list[Point], groups: list[str], speed: float, axis: str) -> tuple[float, float, str] | None:
    """(mean PSNR, worst image's, group) of the best of some groups where `axis` is `speed` or more; None where none gets there.

    Between two measured points of a group lies one that was not; a faster point that is better counts as well.
    """
    reached = [(p.psnr, p.worst, p.group) for p in found if p.group in groups and getattr(p, axis) >= speed]
    for group in groups:
        curve = [p for p in found if p.group == group]
        mean, worst = at(curve, speed, axis, "psnr"), at(curve, speed, axis, "worst")
        if mean is not None and worst is not None:
            reached.append((mean, worst, group))
    return max(reached, default=None)


def versus(found: list[Point], axis: str) -> str:
    """At five speeds by `axis`, or faster: ours, and the best of each kind of rival."""

    def cell(groups: list[str], speed: float) -> str:
        if not groups:
            return "not measured"
        if chosen := best(found, groups, speed, axis):
            psnr, worst, group = chosen
            return f"{psnr:.1f} / {worst:.1f} ({group.removeprefix('interval, ')})"
        return "none reaches it"

    columns = rivals(found)
    rows = [f"| {'time' if axis == 'speedup' else 'evaluations'}, x | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    rows += [f"| {s:g} | {' | '.join(cell(groups, s) for groups in columns.values())} |" for s in SPEEDS]
    return "\n".join(rows)


def overview(lines: list[Mapping[str, Any]]) -> str:
    """All settings at five measured speeds, or faster: mean PSNR of ours at both levels, of others' fixed intervals, of the plain ways."""
    rows = [f"| | {' | '.join(f'{s:g}x' for s in SPEEDS)} |", "|---" * (len(SPEEDS) + 1) + "|"]
    for setting in dict.fromkeys(line["setting"] for line in lines):
        found = points(lines, setting)
        ours, features, _, fixed, plain = rivals(found).values()
        cells = []
        for speed in SPEEDS:
            values = [
                chosen and chosen[0] for chosen in (best(found, groups, speed, "speedup") for groups in (ours, features, fixed, plain))
            ]
            most = max((value for value in values if value), default=None)
            cells.append(" / ".join("-" if v is None else f"**{v:.1f}**" if v == most else f"{v:.1f}" for v in values))
        rows.append(f"| {setting} | {' | '.join(cells)} |")
    return "\n".join(rows)


def everywhere(lines: list[Mapping[str, Any]]) -> str:
    """The same choice in all settings: mean / worst PSNR at the evaluations saved."""
    rows = [f"| | {' | '.join(' '.join(choice) for choice in CHOICES)} |", "|---" * (len(CHOICES) + 1) + "|"]
    for setting in dict.fromkeys(line["setting"] for line in lines):
        found = {(p.group, p.label): p for p in points(lines, setting)}
        chosen = [found.get(choice) for choice in CHOICES]
        rows.append(f"| {setting} | {' | '.join(f'{p.psnr:.1f} / {p.worst:.1f} at {p.saved:.2f}' if p else '' for p in chosen)} |")
    return "\n".join(rows)


def draw(found: list[Point], setting: str, path: Path) -> None:
    """PSNR against measured speed-up: means as lines, worst images as faint marks."""
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    for group, (colour, marker) in SHOWN.items():
        curve = sorted((p for p in found if p.group == group), key=lambda p: p.speedup)
        if curve:
            axes.plot([p.speedup for p in curve], [p.psnr for p in curve], color=colour, marker=marker, label=group, markersize=8)
            axes.scatter([p.speedup for p in curve], [p.worst for p in curve], color=colour, marker=marker, alpha=0.35, s=28)
    axes.set(xlabel="speed-up of sampling, measured (x)", ylabel="PSNR to the plain picture (dB)", title=f"{setting}; faint: worst image")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


INTRO = Path(__file__).with_name("intro.md")  # with {overview} and {everywhere}
TRANSFER = Path(__file__).with_name("transfer.md")  # made by run.py bench --transfer


def write_page(results: Path, folder: Path, pictures: str = ".") -> Path:
    """Write benchmarks.md into `folder`, and one picture per setting into the folder `pictures` below it."""
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines() if line.strip()]
    parts = [INTRO.read_text(encoding="utf-8").format(overview=overview(lines), everywhere=everywhere(lines))]
    parts += [TRANSFER.read_text(encoding="utf-8")] if TRANSFER.exists() else []
    for setting in dict.fromkeys(line["setting"] for line in lines):
        found = points(lines, setting)
        picture = f"{pictures}/bench-{setting.replace(' ', '-').replace(',', '').replace('.', '_').lower()}.png"
        draw(found, setting, folder / picture)
        head = f"## {setting}\n\n{found[0].images} images.\n\n![PSNR against time]({picture})"
        equal = f"At equal measured time:\n\n{versus(found, 'speedup')}\n\nAt equal evaluations:\n\n{versus(found, 'saved')}"
        parts.append(f"{head}\n\n{equal}\n\nAll of it:\n\n{table(lines, setting)}\n")
    page = folder / "benchmarks.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page
