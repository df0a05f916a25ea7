"""Pictures of results: PSNR against speed-up, one curve for each group of methods."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from page import Point, points, settings_of
from results import Row

SHOWN = {
    "fewer steps": ("#999999", "o"),
    "EasyCache": ("#D55E00", "s"),
    "LazyCache": ("#E69F00", "D"),
    "interval, Taylor 2": ("#CC79A7", "v"),
    "SpeCa paper, strict": ("#F0E442", "P"),
    "level features": ("#000000", "X"),
    "checked": ("#0072B2", "X"),
    "target": ("#009E73", "*"),
}
NAMES = {
    "interval, Taylor 2": "Taylor 2 on fixed intervals",
    "level features": "SpeCa, level features",
    "checked": "SpeCa, checked drafts, by threshold",
    "target": "SpeCa, by target",
}


def curves(axes: plt.Axes, found: Sequence[Point], title: str) -> None:
    """Means as lines, worst images as faint marks."""
    for group, (colour, marker) in SHOWN.items():
        curve = sorted((p for p in found if p.group == group), key=lambda p: p.speedup)
        if curve:
            speeds = [p.speedup for p in curve]
            style = {"color": colour, "marker": marker}
            name = NAMES.get(group, group)
            axes.plot(speeds, [p.psnr for p in curve], **style, label=name, markersize=7)
            axes.scatter(speeds, [p.worst for p in curve], **style, alpha=0.35, s=26)
    axes.set(xlabel="speed-up, by the clock", ylabel="PSNR to the plain picture, dB", title=title)
    axes.grid(alpha=0.3)


def draw(rows: Sequence[Row], settings: Sequence[str], path: Path) -> None:
    """One panel for each setting, side by side."""
    size = (5.5 * len(settings), 4.4)
    figure, panels = plt.subplots(
        1, len(settings), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes, setting in zip(panels[0], settings, strict=True):
        curves(axes, points(rows, setting), f"{setting}; faint: worst image")
    panels[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_all(rows: Sequence[Row], folder: Path) -> Path:
    """A picture for each setting. Returns the folder."""
    for setting in settings_of(rows):
        name = setting.lower().replace(" ", "-").replace(",", "").replace(".", "_")
        draw(rows, [setting], folder / f"bench-{name}.png")
    return folder
