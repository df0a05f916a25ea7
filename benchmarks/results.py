"""Results: rows go to .runtime/bench/ while they are measured, and then to results.json.

While a part of the bench measures, it appends rows to .runtime/bench/<part>.jsonl, so that a second
start goes on where the first one ended. `run.py bench --page` takes them over into results.json.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
MEASURED = Path(__file__).resolve().parents[1] / ".runtime" / "bench"

Row = dict[str, Any]

KEYS = {  # part -> what tells its rows in results.json apart
    "methods": ("setting", "group", "label"),
    "thresholds": ("setting",),
    "targets": ("setting",),
    "batches": ("threshold", "decides"),
    "checks": ("cfg", "check"),
    "scale": ("model",),
}
AVERAGES = {  # field of a method's rows -> (average over the images, digits)
    "evaluations": (statistics.fmean, 1),
    "saved": (statistics.fmean, 3),
    "seconds": (statistics.median, 3),
    "speedup": (statistics.median, 3),
}


class Measured:
    """The rows of one part that were measured here.

    Args:
        name: of the file in `folder`.
        key: fields that tell rows apart.
    """

    def __init__(self, name: str, key: Sequence[str], folder: Path = MEASURED) -> None:
        self.path = folder / f"{name}.jsonl"
        self.key = key
        self.rows: dict[tuple[Any, ...], Row] = {}
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            self.rows = {self._key(row): row for row in map(json.loads, lines)}

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[field] for field in self.key)

    def has(self, *key: Any, images: int = 0) -> bool:
        """Whether this row was measured, on as many images."""
        return key in self.rows and self.rows[key].get("images", 0) >= images

    def add(self, rows: Iterable[Row]) -> None:
        """Keep these."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
                self.rows[self._key(row)] = row


def folder_of(bed: str) -> Path:
    """Where the rows of a bed go. The page is made of those of the first one."""
    return MEASURED if bed == "shapes" else MEASURED / bed


def of_images(name: str, folder: Path = MEASURED) -> Measured:
    """Methods, one row per image."""
    return Measured(name, (*KEYS["methods"], "image"), folder)


def of_part(part: str, folder: Path = MEASURED) -> Measured:
    """Any other part."""
    return Measured(part, KEYS[part], folder)


def aggregate(rows: Iterable[Row]) -> list[Row]:
    """One row per setting and method, of rows that are one per image.

    PSNR stays one number per image, in their order.
    """
    methods: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        methods[tuple(row[field] for field in KEYS["methods"])].append(row)
    found = []
    for key, images in methods.items():
        images.sort(key=lambda row: row["image"])
        row = dict(zip(KEYS["methods"], key, strict=True))
        for field, (average, digits) in AVERAGES.items():
            row[field] = round(average(one[field] for one in images), digits)
        found.append(row | {"psnr": [round(one["psnr"], 1) for one in images]})
    return found


def images_of(row: Row) -> int:
    """How many images a row of results.json is about."""
    return len(row["psnr"]) if isinstance(row.get("psnr"), list) else row.get("images", 0)


def merge(kept: Iterable[Row], new: Iterable[Row], key: Sequence[str]) -> list[Row]:
    """`kept`, with those of `new` in place that are about no fewer images, or about something else.

    Example: a row of 4 images, from a quick look, does not replace one of 16.
    """
    merged = {tuple(row[field] for field in key): row for row in kept}
    for row in new:
        name = tuple(row[field] for field in key)
        if name not in merged or images_of(row) >= images_of(merged[name]):
            merged[name] = row
    return list(merged.values())


def load(path: Path = RESULTS) -> dict[str, list[Row]]:
    """results.json, by part."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {part: found.get(part, []) for part in KEYS}


def save(results: dict[str, list[Row]], path: Path = RESULTS) -> None:
    """Write results.json, a row on each line, so that differences can be read."""
    parts = []
    for part, rows in results.items():
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        parts.append(f'"{part}":[\n{lines}\n]' if rows else f'"{part}":[]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def collect(folder: Path = MEASURED, path: Path = RESULTS) -> dict[str, list[Row]]:
    """Take over what was measured here into results.json; the rows of all parts."""
    results = load(path)
    for part, key in KEYS.items():
        images = of_images(part, folder) if part == "methods" else of_part(part, folder)
        rows = list(images.rows.values())
        new = aggregate(rows) if part == "methods" else rows
        results[part] = merge(results[part], new, key)
    save(results, path)
    return results
