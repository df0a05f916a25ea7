"""The tables in the docs that are made from the code: `python3 run.py pages` writes them.

A page marks a table with `<!-- name -->` before and `<!-- /name -->` after it. This module runs in
ComfyUI's environment, as a part of the pack.
"""

import ast
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ..nodes.runtime.models.table import FAMILIES, REFUSED
from ..speca_core import SpecaConfig
from ..speca_core.config import PRESETS
from ..speca_core.settings import Entry, Number, Rule, settings_of

ROOT = Path(__file__).resolve().parents[1]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row_of(name: str, default: Any, rule: Rule) -> Sequence[str]:
    """One setting: name, default and range, what it does."""
    shown = {True: "on", False: "off"}.get(default) if isinstance(default, bool) else default
    shown = default.name if isinstance(rule, Entry) else shown
    if name.endswith(": computed"):  # too long for a cell
        shown = "{...}"
    bounds = f", {rule.low:g} to {rule.high:g}" if isinstance(rule, Number) else ""
    folded = " (advanced)" if rule.advanced else ""
    return f"`{name}`{folded}", f"`{shown}`{bounds}", rule.help.rstrip(".")


def settings_table() -> str:
    """Every setting of the node, and below each choice the settings of its entries.

    A setting that an entry shares with an earlier one stands once, under the choice's name.
    """
    rows = []
    for name, (default, rule) in settings_of(SpecaConfig).items():
        rows.append(row_of(name, default, rule))
        if not isinstance(rule, Entry):
            continue
        entries = {key: settings_of(entry) for key, entry in rule.table.items()}
        of_all = [(key, *of) for entry in entries.values() for key, of in entry.items()]
        shared = [
            of for i, of in enumerate(of_all) if of in of_all[:i] and of not in of_all[i + 1 :]
        ]
        rows += [row_of(f"{name}: {setting}", *of) for setting, *of in shared]
        for key, entry in entries.items():
            own = [(setting, *of) for setting, of in entry.items()]
            rows += [
                row_of(f"{key}: {setting}", *of)
                for setting, *of in own
                if (setting, *of) not in shared
            ]
    return table(("setting", "default, range", "what it does"), rows)


def families_table() -> str:
    """Every family, and below the table their limits and what is refused."""
    rows, limits = [], []
    for family in FAMILIES:
        rows.append((family.name, ", ".join(f"`{name}`" for name in family.models)))
        if family.no_last_block:
            limits.append(f"* {family.name}: not `last_block`, because {family.no_last_block}")
        if family.coupled:
            limits.append(f"* {family.name}: coupled, because {family.coupled}")
        if family.batch is None:
            limits.append(f"* {family.name}: one image at a time")
    refused = [f"* `{name}`: {reason}" for name, reason in REFUSED.items()]
    return "\n".join(
        [
            table(("family", "class"), rows),
            "",
            "Limits:",
            "",
            *limits,
            "",
            "Refused at level `features`:",
            "",
            *refused,
        ]
    )


def company_table() -> str:
    """What SpeCa goes with, as the tests say that show it: their mark `goes_with(what, how)`."""
    rows = []
    for path in sorted((ROOT / "tests/comfy").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for mark in getattr(node, "decorator_list", ()):
                if ast.unparse(mark).startswith("pytest.mark.goes_with("):
                    what, how = map(ast.literal_eval, mark.args)
                    rows.append((what, how, f"`{path.stem}`"))
    return table(("you use", "", "shown by"), sorted(rows, key=lambda row: row[0].lower()))


def gate_table() -> str:
    """What `bench --gate` has measured on each bed, as benchmarks/beds.json keeps it."""
    beds = json.loads((ROOT / "benchmarks/beds.json").read_text("utf-8"))["gate"]

    def shown(check: dict[str, Any]) -> str:
        return f"{check['value']:.3g}" + ("" if check["ok"] else " ✗")

    rows = [
        (first["name"], f"{first['low']:g} to {first['high']:g}", *map(shown, (first, *others)))
        for first, *others in zip(*(bed["checks"] for bed in beds), strict=True)
        if not all(check["ok"] for check in (first, *others))
    ]
    more = len(beds[0]["checks"]) - len(rows)
    rows.append((f"{more} more, of how far polynomials hold", "", *["inside"] * len(beds)))
    rows.append(("passed", "", *(f"{bed['passed']} of {bed['of']}" for bed in beds)))
    return table(("check", "real models", *(bed["bed"] for bed in beds)), rows)


def floor_table() -> str:
    """What `bench --floor` has measured of the untouched node: one row for each setting, one cell
    for each quality."""
    floors = json.loads((ROOT / "benchmarks/beds.json").read_text("utf-8"))["floor"]
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for bed, found in floors.items():
        for row in found:
            if row["method"] == "learned, distance":  # its thresholds, in their order
                setting = f"{row['sampler']} {row['steps']}, CFG {row['cfg']:g}"
                cells[bed, setting].append(cell_of(found, row) or alone(row))
    rows = [(bed.partition(",")[0], setting, *found) for (bed, setting), found in cells.items()]
    return table(("bed", "sampler, steps", *(name.title() for name in PRESETS)), rows)


def systems_table() -> str:
    """What `bench --systems` has measured: one row for each system, one column for each bed."""
    beds = json.loads((ROOT / "benchmarks/beds.json").read_text("utf-8"))["systems"]
    cells: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for bed, found in beds.items():
        for row in found:
            if row["method"] != "fewer steps":
                cell = cell_of(found, row)
                cells[row["method"]][bed].append(cell.partition(";")[0] + ")" if cell else "")
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)  # settings and systems may be
    for system, by_bed in cells.items():
        shown = tuple("<br>".join(filter(None, dict.fromkeys(by_bed[bed]))) for bed in beds)
        alike[shown].append(system)
    return table(("system", *beds), [("; ".join(names), *shown) for shown, names in alike.items()])


def cell_of(found: Sequence[dict[str, Any]], row: dict[str, Any]) -> str:
    """A row beside fewer steps at as many evaluations, rounded up; empty where there are none."""
    beside = fewer_steps(found, row)
    return f"{alone(row)} {against(row, beside)}" if beside else ""


def alone(row: dict[str, Any]) -> str:
    """A row by itself."""
    return f"{row['evaluations']:.1f}: {mean_worst(row['psnr'])}"


def marks_table() -> str:
    """What others have published of real models."""
    marks = json.loads((ROOT / "benchmarks/beds.json").read_text("utf-8"))["marks"]
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for m in marks:
        cell = f"{m['method']}: {m['speedup']:g}x, {m['psnr']:g}"
        told[m["model"], m["source"]].append(cell)
    rows = [(*key, "; ".join(cells)) for key, cells in told.items()]
    return table(("model, steps", "arXiv", "method: by the clock, PSNR in dB"), rows)


def fewer_steps(found: Sequence[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any] | None:
    """The row of as many plain steps as `row` has evaluations, rounded up; None if that is the
    plain run, or was not measured."""
    same = [
        other
        for other in found
        if other["method"] == "fewer steps" != row["method"]
        and all(other[key] == row[key] for key in ("sampler", "steps", "cfg"))
        and other["evaluations"] >= row["evaluations"] - 0.01
    ]
    return min(same, key=lambda other: float(other["evaluations"]), default=None)


def against(row: dict[str, Any], beside: dict[str, Any]) -> str:
    """(gain of the mean; largest loss of a picture), in dB."""
    gains = [fast - plain for plain, fast in zip(beside["psnr"], row["psnr"], strict=True)]
    return f"({mean(gains):+.1f}; {max(0.0, -min(gains)):.1f})"


def mean_worst(values: Sequence[float]) -> str:
    """Of some pictures."""
    return f"{mean(values):.1f}/{min(values):.1f}"


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/guide.md": {"company": company_table, "settings": settings_table},
    "docs/beds.md": {
        "gate": gate_table,
        "floor": floor_table,
        "systems": systems_table,
        "marks": marks_table,
    },
    "docs/models.md": {"families": families_table},
}


def written(page: str) -> str:
    """The text of a page with its tables as the code is now."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, make in PAGES[page].items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- /{name} -->")
        if not (begin and end):
            raise ValueError(f"{page} does not mark the table {name}; expected <!-- {name} -->")
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def main() -> None:
    """Write all pages."""
    for page in PAGES:
        (ROOT / page).write_text(written(page), encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
