"""Tables of `--scale`: all of them for .runtime/bench/scale.md, one for docs/benchmarks.md."""

from collections.abc import Iterable, Sequence
from typing import Any

from results import Row

HEAD = """# What a draft costs, by size

{devices}. ComfyUI's own classes with random weights, sampled by ComfyUI's own Euler; computed,
drafted and rejected predictions follow a pattern, so nothing here is about quality.{reduced}
"""
REDUCED = """

**Reduced sizes on a CPU: these numbers show that the measurement works, and nothing else.** At this
size ComfyUI's own work around the blocks is a large part of a prediction, so a draft costs several
times its share of a full-size one, and times of a few milliseconds scatter by ten per cent and
more."""
WALLS = """By the wall clock; in brackets 1 / ((1 - a) + a d), with a the accepted share and d the
cost of a draft. Of other caches only the work of a draft is done: the newest output again, and a
Taylor series of order 2 for every block's output."""
SHARES = """At level features, checked by `embedded`, in percent of a full prediction. *Around* is
ComfyUI's own work and our bookkeeping, *check* two more forecasts, their heads and the comparison,
*path* the search for jumps and the deferred correction."""
GROWTH = """SpeCa's own part of one prediction on a reduced Wan, counted and so the same on every
machine; the model's own operations are left out."""
NAMES = {
    "prediction": "level prediction",
    "features": "level features",
    "last_block": "last block",
    "first_block": "first block",
    "none": "no check",
    "whole_output": "whole output reused",
    "every_block": "Taylor in every block",
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    titles, *lines = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return "\n".join([titles, "|---" * len(head) + "|", *lines])


def percent(value: float | None, full: float) -> str:
    """A share of a full prediction."""
    return "does not fit" if value is None else f"{100 * value / full:.1f} %"


def speed(value: float | None) -> str:
    """How many times as fast."""
    return f"{value:.2f}" if value else "does not fit"


def mib(size: int | None) -> str:
    """Bytes in MiB."""
    return "does not fit" if size is None else f"{size / 2**20:.{1 if size < 2**27 else 0}f}"


def cost(cell: Row, way: str, kind: str) -> float | None:
    """Milliseconds of one kind of prediction."""
    found = cell["drafts"][way]
    return found[kind] if found else None


def billions(parameters: int) -> str:
    """A number of parameters."""
    return f"{parameters / 1e9:.2f} B" if parameters > 1e8 else f"{parameters / 1e6:.1f} M"


def drafts(cells: list[Row]) -> str:
    """What each kind of prediction costs."""
    ways = ("prediction", "features", "last_block", "first_block", "none")
    rows = []
    for cell in cells:
        full = cell["full"]
        rows.append([cell["model"], billions(cell["parameters"]), str(cell["rows"]), f"{full:.1f}"])
        rows[-1] += [percent(cost(cell, way, "draft"), full) for way in ways]
        rows[-1] += [percent(cost(cell, way, "reject"), full) for way in ways[:-1]]
        rows[-1] += [percent(cost(cell, way, "full"), full) for way in ways[:2]]
    head = ["model", "parameters", "rows", "full, ms", *(f"draft, {NAMES[way]}" for way in ways)]
    head += [f"rejected, {NAMES[way]}" for way in ways[:-1]]
    return markdown([*head, *(f"computed, {NAMES[way]}" for way in ways[:2])], rows)


def walls(cells: list[Row]) -> str:
    """Speed-ups by the wall clock beside the formula."""
    ways = ("prediction", "features", "last_block")
    rows = []
    for cell in cells:
        for wall in cell["walls"]:
            a = wall["share"]
            row = [cell["model"], f"{a:.2f}"]
            for way in ways:
                draft = cost(cell, way, "draft")
                formula = f" ({1 / (1 - a + a * draft / cell['full']):.2f})" if draft else ""
                row.append(f"{speed(wall[way])}{formula}")
            row += [speed(wall[peer]) for peer in ("whole_output", "every_block")]
            rows.append([*row, f"{1 / (1 - a):.2f}"])
    others = ("whole_output", "every_block")
    return markdown(
        ["model", "accepted", *(NAMES[w] for w in (*ways, *others)), "free drafts"], rows
    )


def mixed(cells: list[Row]) -> str:
    """A batch of which some images are rejected."""
    rows = []
    for cell in cells:
        if found := cell["mixed"]:
            shares = [percent(found[str(n)], found["plain"]) for n in range(len(found) - 1)]
            rows.append([cell["model"], f"{found['plain']:.1f}", *shares])
    return markdown(["model, four images", "full, ms", *(f"{n} rejected" for n in range(5))], rows)


def shares(cells: list[Row]) -> str:
    """Where a draft's time goes."""
    parts = ("around", "embedders", "forecast", "head", "check", "path", "whole")
    rows = [
        [cell["model"], *(percent(cell["shares"][part], cell["full"]) for part in parts)]
        for cell in cells
        if cell["shares"]
    ]
    return markdown(["model", *parts], rows)


def memory(cells: list[Row]) -> str:
    """Peaks, and bytes per row."""
    kept = ("prediction", "features", "last_block", "first_block")
    ways = ("plain", *kept, "whole_output", "every_block")
    rows = []
    for cell in cells:
        sizes = cell["memory"] or {}
        rows.append([cell["model"], *(mib(sizes.get(way)) for way in ways)])
        rows[-1] += [mib(sizes.get(f"row_{way}")) for way in kept]
    head = ["model", *(f"peak, {NAMES.get(way, way)}" for way in ways)]
    return markdown([*head, *(f"kept per row, {NAMES[way]}" for way in kept)], rows)


def waits(cells: list[Row]) -> str:
    """How often the host waits for the device."""
    found = [cell for cell in cells if cell["waits"]]
    kinds = ("full", "draft", "reject")
    rows = [[cell["model"], *(str(cell["waits"][kind]) for kind in kinds)] for cell in found]
    return markdown(["model", *kinds], rows)


def growth(rows: list[Row]) -> str:
    """How our costs grow."""
    fields = ("operations", "allocated", "peak", "waits")
    names = ("operations", "MiB made", "MiB at once", "waits")

    def cell(row: Row, kind: str, field: str) -> str:
        value: Any = row[f"{kind}_{field}"]
        return f"{value / 2**20:.3f}" if field in ("allocated", "peak") else str(value)

    kinds = ("draft", "full")
    lines = []
    for row in rows:
        costs = [cell(row, kind, field) for kind in kinds for field in fields]
        lines.append([row["case"], *costs, f"{row['kept'] / 2**20:.3f}"])
    return markdown(["", *(f"{kind}: {n}" for kind in kinds for n in names), "kept, MiB"], lines)


def devices(cells: list[Row]) -> str:
    """Where they were measured."""
    return ", ".join(dict.fromkeys(f"{cell['device']}, PyTorch {cell['torch']}" for cell in cells))


def all_tables(cells: list[Row], counted: list[Row]) -> str:
    """Everything that was measured on one kind of device."""
    on_cpu = any("thread" in cell["device"] for cell in cells)
    sections = [HEAD.format(devices=devices(cells), reduced=REDUCED if on_cpu else "")]
    for title, text in (
        ("A prediction", drafts(cells)),
        ("A batch of four, in percent of the plain batch", mixed(cells)),
        ("Speed-up of whole runs", f"{WALLS}\n\n{walls(cells)}"),
        ("Where a draft's time goes", f"{SHARES}\n\n{shares(cells)}"),
        ("Memory beside the weights, MiB", memory(cells)),
        ("Waits for the device, of SpeCa's own", waits(cells)),
        ("How our part grows", f"{GROWTH}\n\n{growth(counted)}"),
    ):
        sections.append(f"## {title}\n\n{text}\n")
    return "\n".join(sections)


def on_gpus(cells: list[Row]) -> str:
    """The table of the benchmark page: one row for each model."""
    rows = []
    for cell in cells:
        full = cell["full"]
        wall = max(cell["walls"], key=lambda wall: wall["share"])
        row = [cell["model"], f"{full:.0f}"]
        row += [percent(cost(cell, way, "draft"), full) for way in ("prediction", "features")]
        row += [percent(cost(cell, "prediction", "reject"), full), f"{wall['share']:.2f}"]
        row += [speed(wall[way]) for way in ("prediction", "features", "whole_output")]
        rows.append([*row, speed(wall["every_block"]), f"{1 / (1 - wall['share']):.2f}"])
    head = ["model", "full, ms", "draft, prediction", "draft, features", "rejected", "accepted"]
    ways = ("prediction", "features", "whole_output", "every_block")
    return markdown([*head, *(f"run: {NAMES[way]}" for way in ways), "free drafts"], rows)
