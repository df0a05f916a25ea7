"""docs/benchmarks-scale.md, made from benchmarks/scale.json."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

INTRO = """# Benchmarks: real size, real seconds

Made by `python3 run.py bench --scale` from [its results](../benchmarks/scale.json). On an accelerator that command measures the models
at their published size and fills the first section below; elsewhere it measures reduced ones. It takes up where it stopped, model by
model.

**What is measured.** ComfyUI's own classes with random weights, sampled by ComfyUI's own Euler. No checkpoint is read. Which
predictions are computed, drafted and rejected is prescribed, because random weights say nothing about which drafts would pass; nothing
here says anything about quality. Times are medians of whole *predictions*, what a sampler asks for at a step, ComfyUI's own work
included; on an accelerator between device events, after a warm-up.

**Columns.** *full* is the plain model's prediction. *draft* and *reject* are in percent of it: `embedded` is the default, `last` and
`first` check a block, `none` checks nothing. A rejected prediction contains the computation that follows. *full, ours* is a computed
prediction with everything of ours: anchors, and the hindcast.
"""
NOT_YET = """
**Not measured yet: this table is empty.** No accelerator has been used so far, and nothing on this page says how fast SpeCa is on a real
model. What was checked without one: each of these models is built from its class at its published size (without memory), and the
number of its parameters is the published one; and each goes through every measurement in its reduced form, below.
"""
REDUCED = """
The same classes with four to seven blocks, 128 or 256 channels and 80 to 580 tokens, in float32 on a CPU. **These numbers show that the
measurement works, and nothing else**: at this size ComfyUI's own work around the blocks is a large part of a prediction, and one block is a
large part of all blocks, so a draft costs several times the share that it has of a full size. Times of a few milliseconds scatter by
ten per cent and more: a rejected prediction below 100 %, or a speed-up above that of free drafts, is noise.
"""
SHARES = """In percent of a full prediction; drafts checked by `embedded`. *Around the model* is ComfyUI's own work in a prediction and
our bookkeeping; *check* makes two more forecasts, runs the head on them and compares; *path, repairs* watches the latent for jumps and
repairs past drafts.
"""
WALLS = """By the wall clock; in brackets `1 / ((1 - a) + a d)`, with `a` accepted and `d` = draft / full of the table above. *Free drafts*
is `1 / (1 - a)`. Of the other caches, whose rules are left out, only the work of a draft is done: the newest output again, and a Taylor
series of order 2 for every block's output.
"""
COUNTED = """
## How our part grows, counted

Operations, bytes and waits of SpeCa's own code in one prediction, on a reduced Wan (CPU, float32; the model's own are left out):
counted, so the numbers are the same on every machine. A draft's prediction forecasts three times for the embedded check, else once; a
computed one keeps its anchor and scores the forecast it would have had. *kept* is all that a run holds at its end. Waits are the
places where the host has to wait for the device: one for sigma in each prediction, one for the errors of a draft, one for the
hindcast.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    cells = [list(head)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*cells, ["---"] * len(cells[0]), *map(list, rows)])


def percent(value: float | None, full: float) -> str:
    """A share of a full prediction."""
    return "does not fit" if value is None else f"{100 * value / full:.1f} %"


def mib(size: int | None) -> str:
    """Bytes in MiB."""
    return "does not fit" if size is None else f"{size / 2**20:.{1 if size < 2**27 else 0}f}"


def drafts(cells: list[dict[str, Any]]) -> str:
    """What each kind of prediction costs."""
    head = ["model", "parameters", "rows", "full, ms", *(f"draft, {v}" for v in ("embedded", "last", "first", "none"))]
    head += [*(f"reject, {v}" for v in ("embedded", "last", "first")), "full, ours"]
    rows = []
    for cell in cells:
        kinds, full = cell["verifiers"], cell["full"]

        def share(verifier: str, kind: str, kinds: Any = kinds, full: float = full) -> str:
            return percent(kinds[verifier] and kinds[verifier][kind], full)

        names = ("embedded", "last_block", "first_block")
        size = f"{cell['parameters'] / 1e9:.2f} B" if cell["parameters"] > 1e8 else f"{cell['parameters'] / 1e6:.1f} M"
        shares = [*(share(v, "draft") for v in (*names, "none")), *(share(v, "reject") for v in names), share("embedded", "full")]
        rows.append([cell["name"], size, str(cell["rows"]), f"{full:.1f}", *shares])
    return table(head, rows)


def walls(cells: list[dict[str, Any]]) -> str:
    """Speed-ups by the wall clock beside the formula."""
    rows = []
    for cell in cells:
        for wall in cell["walls"]:
            row = [cell["name"], f"{wall['share']:.2f}"]
            for verifier in ("embedded", "last_block"):
                kinds = cell["verifiers"][verifier]
                ratio = kinds and kinds["draft"] / cell["full"]
                formula = f"{1 / (1 - wall['share'] + wall['share'] * ratio):.2f}" if ratio else "?"
                row.append(f"{wall[verifier]:.2f} ({formula})" if wall[verifier] else "does not fit")
            row += [f"{wall[peer]:.2f}" if wall[peer] else "does not fit" for peer in ("whole_output", "every_block")]
            rows.append([*row, f"{1 / (1 - wall['share']):.2f}"])
    return table(
        ["model", "accepted", "embedded (formula)", "last block (formula)", "whole output reused", "Taylor in every block", "free drafts"],
        rows,
    )


def memory(cells: list[dict[str, Any]]) -> str:
    """Peaks, and bytes per row."""
    rows = []
    for cell in cells:
        sizes = cell["memory"] or {}
        kept = [mib(sizes.get(f"row_{v}")) for v in ("embedded", "last_block", "first_block")]
        peaks = [mib(sizes.get(way)) for way in ("plain", "embedded", "last_block", "first_block", "whole_output", "every_block")]
        rows.append([cell["name"], *peaks, *kept])
    ways = ["plain", "embedded", "last", "first", "whole output reused", "Taylor in every block"]
    return table(["model", *(f"peak, {way}" for way in ways), *(f"kept per row, {v}" for v in ways[1:4])], rows)


def parts(cells: list[dict[str, Any]]) -> str:
    """Our parts alone."""
    rows = []
    for cell in cells:
        if (found := cell["parts"]) is None:
            continue
        shape, kind, _ = found["stream"]
        forecasts = [f"{found['forecast'][count]:.3f}" for count in ("1", "2", "3", "4")]
        errors = [f"{found[part]:.3f}" for part in ("error_output", "error_stream")]
        waits = cell["waits"] and "{full} / {draft} / {reject}".format(**cell["waits"])
        rows.append(
            [cell["name"], f"{' x '.join(map(str, shape))} {kind}", *forecasts, *errors, f"{found['install_us']:.0f}", waits or "?"]
        )
    head = ["model", "stream of a row", *(f"forecast from {n}, ms" for n in (1, 2, 3, 4)), "error of outputs, ms", "error of streams, ms"]
    return table([*head, "install, µs", "waits: full / draft / reject"], rows)


def shares(cells: list[dict[str, Any]]) -> str:
    """Where a draft's time goes."""
    inside = ("embedders", "forecast", "head", "check", "path")
    rows = []
    for cell in cells:
        if found := cell["shares"]:
            around = found["whole"] - sum(found[part] for part in inside)
            rows.append([cell["name"], *(percent(ms, cell["full"]) for ms in (around, *(found[part] for part in inside), found["whole"]))])
    return table(["model", "around the model", "embedders", "forecast", "head", "check", "path, repairs", "the whole draft"], rows)


def mixed(cells: list[dict[str, Any]]) -> str:
    """A batch of which some images are rejected."""
    rows = []
    for cell in cells:
        if found := cell["mixed"]:
            images = len(found) - 2
            shares = [percent(found[str(rejected)], found["plain"]) for rejected in range(images + 1)]
            rows.append([cell["name"], f"{found['plain']:.1f}", *shares])
    return table(["model, four images", "full, ms", *(f"{n} rejected" for n in range(5))], rows)


def section(title: str, cells: list[dict[str, Any]]) -> list[str]:
    """All tables of one size."""
    devices = ", ".join(dict.fromkeys(f"{cell['device']}, PyTorch {cell['torch']}" for cell in cells))
    return [
        f"\n{devices}.\n\n### {title}: what a prediction costs\n\n{drafts(cells)}",
        "\nA batch of four images whose drafts are checked by `embedded`; in percent of the plain batch.\n",
        mixed(cells),
        f"\n### {title}: where a draft's time goes\n",
        SHARES,
        shares(cells),
        f"\n### {title}: speed-up of whole runs\n",
        WALLS,
        walls(cells),
        f"\n### {title}: memory, MiB\n",
        "Most that was held beside the weights during a run, and what is kept for one row.\n",
        memory(cells),
        f"\n### {title}: parts alone\n",
        "For one row. A forecast by the number of anchors it is made of; the error of two outputs, and of two streams (first block).\n",
        parts(cells),
    ]


def counted(rows: list[dict[str, Any]]) -> str:
    """The laws of growth."""
    head = [
        "",
        *(f"{kind}: {what}" for kind in ("draft", "full") for what in ("operations", "MiB made", "MiB at once", "waits")),
        "kept, MiB",
    ]
    lines = []
    for row in rows:
        cells = [row["case"]]
        for kind in ("draft", "full"):
            sizes = [f"{row[f'{kind}_{field}'] / 2**20:.2f}" for field in ("allocated", "peak")]
            cells += [str(row[f"{kind}_operations"]), *sizes, str(row[f"{kind}_waits"])]
        lines.append([*cells, f"{row['kept'] / 2**20:.2f}"])
    return table(head, lines)


def write_scale_page(results: dict[str, list[dict[str, Any]]], page: Path) -> Path:
    """Write the page."""
    full, reduced = ([cell for cell in results[size] if "waits" in cell] for size in ("full", "reduced"))  # those that were finished
    parts = [INTRO, "## Full size, on an accelerator", *(section("Full size", full) if full else [NOT_YET])]
    parts += ["\n## Reduced size", REDUCED, *(section("Reduced size", reduced) if reduced else ["**Not measured yet.**"])]
    parts += [COUNTED, counted(results["counted"])]
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return page
