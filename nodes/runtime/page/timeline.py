"""The run as a picture: one bar per call and image, error against tolerance, verdict by colour and
by shape. The page draws the same by the same rules: web/lib/report.js and strip.js."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ....speca_core.report import CallRecord, RowRecord, RunReport, Verdict

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SHEET = (Path(__file__).resolve().parents[3] / "web/speca.css").read_text(encoding="utf-8")
COLOURS: dict[Verdict, str] = dict(re.findall(r"--(\w+): (#\w{6});", _SHEET))
OPACITY = {name: float(share) for name, share in re.findall(r"--(\w+)-opacity: ([.\d]+);", _SHEET)}
INK, PAPER = "#dddddd", "#222222"
SEVERITY: list[Verdict] = ["accepted", "computed", "rejected"]
WORDS = {"accepted": "skipped", "computed": "computed", "rejected": "tried, then computed"}
MOST_IMAGES = 6
WIDTH, MARGIN, HEADER, FOOTER, PANEL, GAP = 1000, 56, 84, 76, 140, 22
ROOM = 18  # at the top of a panel, above the tallest bar, for the crosses


@dataclass
class Bar:
    """One image in one call: its branches' worst verdict and error, under their strictest
    tolerance.

    Attributes:
        infinite: a draft was rejected because its error was no finite number.
    """

    verdict: Verdict
    error: float | None
    tolerance: float | None
    hindcast: float | None
    infinite: bool

    def share(self, scale: float) -> float:
        """The height, from 0 to 1: the draft's error; if the call was computed, the error a draft
        would have had."""
        if self.infinite:
            return 1.0
        value = self.hindcast if self.verdict == "computed" else self.error
        return min((value or 0.0) / scale, 1.0)


def bar_of(rows: Sequence[RowRecord]) -> Bar:
    """Sum up the branches of one image in one call."""

    def known(values: Sequence[float | None]) -> list[float]:
        return [value for value in values if value is not None and isfinite(value)]

    errors = [row.error for row in rows]
    return Bar(
        max((row.verdict for row in rows), key=SEVERITY.index),
        max(known(errors), default=None),
        min(known([row.tolerance for row in rows]), default=None),
        max(known([row.hindcast for row in rows]), default=None),
        # In a report that was read from JSON, an infinite error is None.
        any(row.reason == "rejected" and not known([row.error]) for row in rows),
    )


def panels_of(calls: Sequence[CallRecord]) -> list[list[Bar | None]]:
    """One list of bars per image, in the order of the calls; None where a call lacks the image."""
    images = sorted({row.image for call in calls for row in call.rows})
    chosen = [
        [[row for row in call.rows if row.image == image] for call in calls] for image in images
    ]
    return [[bar_of(rows) if rows else None for rows in panel] for panel in chosen]


def scale_of(panels: Sequence[Sequence[Bar | None]]) -> float:
    """The error at the top of all panels: room above the tolerances, and bars up to twice as
    tall."""
    bars = [bar for panel in panels for bar in panel if bar]
    tolerance = max((bar.tolerance or 0.0 for bar in bars), default=0.0)
    error = max((max(bar.error or 0.0, bar.hindcast or 0.0) for bar in bars), default=0.0)
    most = 2 * tolerance or inf
    return max(1.15 * tolerance, min(1.15 * error, most)) or 1.0


def draw_timeline(report: RunReport) -> Image.Image:
    """Draw a run.

    Args:
        report: of a run; an empty one gives a picture that says so.

    Returns:
        An RGB picture, 1000 pixels wide; the height grows with the number of images (a few are
        shown at most).
    """
    panels = panels_of(report.calls)
    shown = panels[:MOST_IMAGES]
    scale = scale_of(panels)
    height = HEADER + max(1, len(shown)) * (PANEL + GAP) + FOOTER
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    title, text, small = (ImageFont.load_default(size) for size in (22, 16, 13))
    draw.text((MARGIN, 18), report.summary, INK, title)
    draw.text((MARGIN, 50), describe(report, len(panels) - len(shown)), faded(INK, 0.7), text)
    top = HEADER
    for image, bars in enumerate(shown):
        _panel(draw, top, bars, scale, f"image\n{image + 1}" if len(panels) > 1 else "", small)
        top += PANEL + GAP
    if report.calls:
        _axis(draw, top - GAP + 4, report.calls, small)
        _legend(draw, height - 34, text, small)
    else:
        draw.text((MARGIN, top + 40), "No call reached the model.", INK, text)
    return picture


def as_image(picture: Image.Image) -> torch.Tensor:
    """An RGB picture in the form of ComfyUI's images: [height, width, 3] float32, 0 to 1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)


def describe(report: RunReport, hidden: int = 0) -> str:
    """Model and settings in one line."""
    parts = [report.model, f"threshold {report.settings['threshold']:g}"]
    for kind in ("forecaster", "verifier", "budget"):
        choice = report.settings[kind]
        order = f" order {choice['order']}" if "order" in choice else ""
        parts.append(f"{kind} {choice['name']}{order}")
    return "  ·  ".join(parts) + (f"  ·  {hidden} more images not shown" if hidden else "")


def faded(colour: str, opacity: float) -> tuple[int, ...]:
    """A colour as it looks on the paper where it covers only a part of it."""
    pairs = zip(ImageColor.getrgb(colour), ImageColor.getrgb(PAPER), strict=True)
    return tuple(round(opacity * over + (1 - opacity) * under) for over, under in pairs)


def _panel(
    draw: ImageDraw.ImageDraw,
    top: int,
    bars: Sequence[Bar | None],
    scale: float,
    label: str,
    font: Font,
) -> None:
    left, right, bottom = MARGIN, WIDTH - MARGIN, top + PANEL

    def level(share: float) -> float:
        return bottom - share * (PANEL - ROOM)

    step = (right - left) / len(bars)
    inset = min(3.0, step * 0.14)
    for i, bar in enumerate(bars):
        if bar is None:
            continue
        a, b = left + i * step + inset, left + (i + 1) * step - inset
        y = min(level(bar.share(scale)), bottom - 3)
        if bar.verdict != "accepted":
            # The model ran: the whole column is filled, as that is where the time went.
            tint = faded(COLOURS[bar.verdict], OPACITY["column"])
            draw.rectangle((a, top, b, bottom), fill=tint)
        _sign(draw, (a, y, b, bottom), bar.verdict)
        if bar.verdict == "rejected":
            _cross(draw, (a + b) / 2, top + ROOM / 2, min(b - a, 10.0) / 2)
        if bar.tolerance is not None:
            y = level(min(bar.tolerance / scale, 1.0))
            _dashes(draw, left + i * step, left + (i + 1) * step, y)
    draw.line((left, bottom, right, bottom), fill=faded(INK, 0.3))
    draw.text((left - 8, level(1.0) - 4), f"{scale:.2g}", faded(INK, 0.7), font, anchor="ra")
    draw.text((left - 8, bottom - 12), "0", faded(INK, 0.7), font, anchor="ra")
    draw.text((right + 4, top), label, faded(INK, 0.7), font)


def _sign(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], verdict: Verdict
) -> None:
    """A bar in a verdict's colours: hollow where the model did not run."""
    colour = COLOURS[verdict]
    hollow = verdict == "accepted"
    fill = faded(colour, OPACITY["accepted"]) if hollow else colour
    draw.rectangle(box, fill=fill, outline=colour)


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float, half: float) -> None:
    colour = COLOURS["rejected"]
    draw.line((x - half, y - half, x + half, y + half), fill=colour, width=2)
    draw.line((x - half, y + half, x + half, y - half), fill=colour, width=2)


def _dashes(draw: ImageDraw.ImageDraw, left: float, right: float, y: float) -> None:
    x = left
    while x < right:
        draw.line((x, y, min(x + 6, right), y), fill=INK, width=2)
        x += 10


def _axis(draw: ImageDraw.ImageDraw, top: int, calls: Sequence[CallRecord], font: Font) -> None:
    step = (WIDTH - 2 * MARGIN) / len(calls)
    grey = faded(INK, 0.7)
    for i in range(0, len(calls), max(1, round(28 / step))):
        place = (MARGIN + (i + 0.5) * step, top)
        draw.text(place, f"{calls[i].position + 1:g}", grey, font, anchor="ma")
    draw.text((WIDTH / 2, top + 17), "step", grey, font, anchor="ma")


def _legend(draw: ImageDraw.ImageDraw, top: int, text: Font, small: Font) -> None:
    x = MARGIN
    for verdict in SEVERITY:
        rejected = verdict == "rejected"
        _sign(draw, (x, top + 10 if rejected else top, x + 16, top + 16), verdict)
        if rejected:
            _cross(draw, x + 8, top + 3, 4)
        draw.text((x + 24, top), WORDS[verdict], INK, text)
        x += 24 + round(draw.textlength(WORDS[verdict], text)) + 26
    _dashes(draw, x, x + 22, top + 8)
    draw.text((x + 30, top), "tolerance", INK, text)
    heights = "bar height: error of a skip, made or not"
    draw.text((WIDTH - MARGIN, top + 2), heights, faded(INK, 0.7), small, anchor="ra")
