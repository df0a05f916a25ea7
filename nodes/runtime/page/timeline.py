"""The run as a picture: one bar per call and image, error against tolerance, verdict by colour and
by shape."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from ....speca_core.report import CallRecord, RowRecord, RunReport, Verdict

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS: dict[Verdict, str] = {"computed": "#56B4E9", "accepted": "#2BB58A", "rejected": "#E8743B"}
FILLS: dict[Verdict, str] = {"computed": "#2A3A47", "accepted": "#20403A", "rejected": "#E8743B"}
LABELS: dict[Verdict, str] = {
    "computed": "computed",
    "accepted": "drafted (error)",
    "rejected": "rejected, then computed",
}
INK, PAPER, FRAME, TOLERANCE = "#E6E6E6", "#1F1F23", "#45454D", "#F0E442"
WIDTH, MARGIN, HEADER, FOOTER, PANEL, GAP = 1000, 56, 84, 76, 140, 22
ROOM = 18  # at the top of a panel, above the tallest bar, for the crosses
MOST_IMAGES = 6


@dataclass
class Bar:
    """What one call did to one image: its branches' worst error, under their strictest tolerance."""

    verdict: Verdict
    error: float | None
    tolerance: float | None
    hindcast: float | None


def bar_of(rows: Sequence[RowRecord]) -> Bar:
    """Sum up the branches of one image in one call."""
    order: list[Verdict] = ["accepted", "computed", "rejected"]
    return Bar(
        max((row.verdict for row in rows), key=order.index),
        max((row.error for row in rows if row.error is not None), default=None),
        min((row.tolerance for row in rows if row.tolerance is not None), default=None),
        max((row.hindcast for row in rows if row.hindcast is not None), default=None),
    )


def bars_of(calls: Sequence[CallRecord], image: int) -> list[Bar | None]:
    """One bar per call for an image; None for a call without it."""
    chosen = [[row for row in call.rows if row.image == image] for call in calls]
    return [bar_of(rows) if rows else None for rows in chosen]


def draw_timeline(report: RunReport) -> Image.Image:
    """Draw a run.

    Args:
        report: of a run; an empty one gives a picture that says so.

    Returns:
        An RGB picture, 1000 pixels wide; the height grows with the number of images (six are shown
        at most).
    """
    images = sorted({row.image for call in report.calls for row in call.rows})
    shown = images[:MOST_IMAGES]
    height = HEADER + max(1, len(shown)) * (PANEL + GAP) + FOOTER
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    title, text, small = (ImageFont.load_default(size) for size in (22, 16, 13))
    draw.text((MARGIN, 18), report.summary, INK, title)
    draw.text((MARGIN, 50), describe(report, len(images) - len(shown)), "#A8A8B0", text)
    top = HEADER
    for image in shown:
        _panel(
            draw,
            top,
            bars_of(report.calls, image),
            f"image {image + 1}" if len(images) > 1 else "",
            small,
        )
        top += PANEL + GAP
    if report.calls:
        _axis(draw, top - GAP + 4, report.calls, small)
        _legend(draw, height - 34, text)
    else:
        draw.text((MARGIN, top + 40), "No call reached the model.", INK, text)
    return picture


def describe(report: RunReport, hidden: int = 0) -> str:
    """Model and settings in one line."""
    parts = [report.model, f"threshold {report.settings['threshold']:g}"]
    for kind in ("forecaster", "verifier", "budget"):
        choice = report.settings[kind]
        order = f" order {choice['order']}" if "order" in choice else ""
        parts.append(f"{kind} {choice['name']}{order}")
    return "  ·  ".join(parts) + (f"  ·  {hidden} more images not shown" if hidden else "")


def _panel(
    draw: ImageDraw.ImageDraw, top: int, bars: Sequence[Bar | None], label: str, font: Font
) -> None:
    left, right, bottom = MARGIN, WIDTH - MARGIN, top + PANEL
    tolerances = [
        b.tolerance for b in bars if b and b.tolerance is not None and b.tolerance != float("inf")
    ]
    errors = [b.error for b in bars if b and b.error is not None and b.error != float("inf")]
    hindcasts = [
        b.hindcast for b in bars if b and b.hindcast is not None and b.hindcast != float("inf")
    ]
    # The tolerance sets the scale, so that the eye compares with it; higher bars are cut.
    scale = 1.6 * max(tolerances) if tolerances else 1.2 * max([*errors, *hindcasts], default=1.0)
    scale = scale or 1.0

    def level(value: float) -> float:
        return bottom - min(value / scale, 1.0) * (PANEL - ROOM)

    step = (right - left) / len(bars)
    inset = min(3.0, step * 0.15)
    draw.rectangle((left, top, right, bottom), outline=FRAME)
    for i, bar in enumerate(bars):
        if bar is None:
            continue
        a, b = left + i * step + inset, left + (i + 1) * step - inset
        colour = COLOURS[bar.verdict]
        if bar.verdict == "computed":
            # A computed call is a full column, outlined; its dot is the hindcast, the error a draft
            # would have had.
            draw.rectangle((a, level(scale), b, bottom), fill=FILLS["computed"], outline=colour)
        else:
            draw.rectangle(
                (a, min(level(bar.error or 0.0), bottom - 2), b, bottom),
                fill=FILLS[bar.verdict],
                outline=colour,
            )
        if bar.verdict == "rejected":
            x, y, half = (a + b) / 2, top + ROOM / 2, min(b - a, 10.0) / 2
            draw.line((x - half, y - half, x + half, y + half), fill=colour, width=2)
            draw.line((x - half, y + half, x + half, y - half), fill=colour, width=2)
        if bar.hindcast is not None:
            y, x, r = level(bar.hindcast), (a + b) / 2, min(4.0, step / 4)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=INK)
        if bar.tolerance is not None and bar.tolerance != float("inf"):
            y = level(bar.tolerance)
            draw.line((left + i * step, y, left + (i + 1) * step, y), fill=TOLERANCE, width=2)
    draw.text((left - 8, level(scale) - 4), f"{scale:.2g}", "#A8A8B0", font, anchor="ra")
    draw.text((left - 8, bottom - 12), "0", "#A8A8B0", font, anchor="ra")
    if label:
        draw.text((right + 4, top), label.replace(" ", "\n"), "#A8A8B0", font)


def _axis(draw: ImageDraw.ImageDraw, top: int, calls: Sequence[CallRecord], font: Font) -> None:
    step = (WIDTH - 2 * MARGIN) / len(calls)
    every = max(1, round(28 / step))
    for i in range(0, len(calls), every):
        draw.text(
            (MARGIN + (i + 0.5) * step, top),
            f"{calls[i].position + 1:g}",
            "#A8A8B0",
            font,
            anchor="ma",
        )
    draw.text((WIDTH / 2, top + 17), "step", "#A8A8B0", font, anchor="ma")


def _legend(draw: ImageDraw.ImageDraw, top: int, font: Font) -> None:
    x = MARGIN
    for verdict, label in LABELS.items():
        draw.rectangle((x, top, x + 16, top + 16), fill=FILLS[verdict], outline=COLOURS[verdict])
        if verdict == "rejected":
            draw.line((x, top, x + 16, top + 16), fill=PAPER, width=2)
            draw.line((x, top + 16, x + 16, top), fill=PAPER, width=2)
        draw.text((x + 24, top), label, INK, font)
        x += 24 + round(draw.textlength(label, font)) + 26
    draw.line((x, top + 8, x + 22, top + 8), fill=TOLERANCE, width=2)
    draw.text((x + 30, top), "tolerance", INK, font)
    x += 30 + round(draw.textlength("tolerance", font)) + 26
    draw.ellipse((x, top + 4, x + 8, top + 12), fill=INK)
    draw.text((x + 16, top), "hindcast", INK, font)
