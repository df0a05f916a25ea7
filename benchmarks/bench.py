"""Measure every method against the plain model: run.py bench [--quick] [--steps N ...] ...

Each image is made by the plain model and by every method, same seed, in one process. A method's
speed is the plain run's seconds over the method's, per image, with the plain model timed before and
after; its quality is the PSNR to the plain picture. Rows go to .runtime/bench/ as they come; a
second start goes on where the first one ended. --page takes them over into the page.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "SPECA_BENCH_DEVICE", "any" if "--scale" in sys.argv and "small" not in sys.argv else "cpu"
)

from testbed import BEDS, Setting, Testbed, psnr  # first: it makes ComfyUI importable

from floor import Floor, ours_and_others, write_floor
from gate import write_gate
from methods import METHODS, QUICK, Method
from page import PICTURE, PICTURED, table, write_page
from pictures import draw, draw_all
from results import (
    KEYS,
    MEASURED,
    Measured,
    Row,
    aggregate,
    collect,
    folder_of,
    images_of,
    load,
    of_images,
)
from scale import measure_scale
from study import measure_checks
from systems import STEPS, systems
from transfer import measure_transfer

CAPTIONS_SEED = 20  # prompts that tuned nothing; seeds of the images likewise
IMAGE_SEED = 40_000


def rows_of(
    bed: Testbed, setting: Setting, methods: list[Method], image: int, caption: str
) -> list[Row]:
    """One image by every method."""
    seed = IMAGE_SEED + image
    plain = bed.make(setting, caption, seed)
    rows = []
    for method in methods:
        made = bed.make(method.change(setting), caption, seed, method.patch)
        rows.append(
            {"setting": setting.name, "group": method.group, "label": method.label}
            | {"image": image, "psnr": round(psnr(made, plain)[0], 4)}
            | {"seconds": round(made.seconds, 4), "evaluations": made.evaluations}
        )
    again = bed.make(setting, caption, seed)
    seconds = (plain.seconds + again.seconds) / 2
    for row in rows:
        row["speedup"] = round(seconds / row["seconds"], 4)
        row["saved"] = round(plain.evaluations / row["evaluations"], 4)
    return rows


def measure(
    bed: Testbed,
    settings: list[Setting],
    methods: list[Method],
    images: int,
    found: Measured,
    kept: Container[tuple[Any, ...]],
) -> None:
    """Make every image with every method, but those that were found here or are kept."""

    def missing(setting: Setting, image: int) -> list[Method]:
        keys = {(setting.name, m.group, m.label, image): m for m in methods}
        return [m for key, m in keys.items() if not found.has(*key) and key not in kept]

    work = [
        (setting, image, caption, missing(setting, image))
        for setting in settings
        for image, caption in enumerate(bed.bed.captions(CAPTIONS_SEED, images))
    ]
    total = sum(len(left) for *_, left in work)
    print(f"{total} images to make; {len(work) * len(methods) - total} are there", flush=True)
    begun, made = time.monotonic(), 0
    for setting, image, caption, left in work:
        if left:
            found.add(rows_of(bed, setting, left, image, caption))
            made += len(left)
            minutes = (time.monotonic() - begun) / made * (total - made) / 60
            place = f"{setting.name}, image {image + 1}"
            print(f"{made}/{total}, {minutes:.0f} min left: {place}", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="run.py bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few methods, four images, one setting: 3 minutes"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[28, 50, 20])
    parser.add_argument("--cfg", type=float, nargs="+", default=[3.5, 1.0])
    parser.add_argument("--sampler", nargs="+", default=["euler"])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="only methods of these groups")
    parser.add_argument(
        "--new", action="store_true", help="only methods that benchmarks/results.json lacks"
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--transfer",
        action="store_true",
        help="the same threshold in other settings and on video, targets, batches",
    )
    parts.add_argument(
        "--study", action="store_true", help="how well each check estimates a draft's error"
    )
    parts.add_argument(
        "--scale",
        choices=["auto", "small"],
        nargs="?",
        const="auto",
        help="published sizes on a GPU, random weights: what drafts cost;\n"
        "without a GPU, or with 'small', reduced sizes",
    )
    parts.add_argument(
        "--page",
        action="store_true",
        help="measure nothing: take over what was measured here into\n"
        "benchmarks/results.json, and write docs/benchmarks.md",
    )
    parts.add_argument(
        "--pictures", action="store_true", help="measure nothing: a picture for each setting"
    )
    parts.add_argument(
        "--gate", action="store_true", help="does the bed behave like published real models?"
    )
    parts.add_argument(
        "--floor",
        action="store_true",
        help="is SpeCa ever worse than fewer steps? With --steps, --cfg and\n--sampler",
    )
    parts.add_argument(
        "--systems",
        action="store_true",
        help="published systems in their settings, beside fewer steps, at 28 steps;\n"
        "with --cfg, --sampler and all options of --floor",
    )
    parser.add_argument("--prompts-seed", type=int, default=123, help="with --floor")
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help="with --floor: only these"
    )
    parser.add_argument(
        "--taught",
        type=int,
        default=1,
        metavar="RUNS",
        help="with --floor: plain runs learned from",
    )
    parser.add_argument(
        "--school",
        type=lambda text: (text.partition(":")[0], int(text.partition(":")[2])),
        metavar="SAMPLER:STEPS",
        help="with --floor: of these runs; else as what is measured",
    )
    parser.add_argument(
        "--bed", choices=BEDS, default="shapes", help="the test bed; the page is of shapes"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="with --gate and --floor: the numbers"
    )
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="with --scale: only these (parts of names)"
    )
    return parser.parse_args()


def main() -> int:
    """Measure one part, or write what was measured. Returns the exit code."""
    options = parse()
    if options.page:
        results = collect()
        draw(results["methods"], PICTURED, PICTURE)
        print(f"page: {write_page(results)}")
    elif options.pictures:
        print(f"pictures: {draw_all(load()['methods'], MEASURED)}")
    elif options.gate:
        write_gate(bed_of(options), options.json)
    elif options.floor or options.systems:
        pictures, learns = (options.prompts_seed, options.images), (options.taught, options.school)
        bed, methods = bed_of(options), ours_and_others
        if options.systems:
            methods, options.steps = functools.partial(systems, bed.bed), [STEPS]
        floor = Floor(bed, methods, *pictures, options.methods, *learns)
        write_floor(floor, settings_of(options), options.json)
    elif options.scale:
        print(f"tables: {measure_scale(options.models)}")
    elif options.study:
        measure_checks(bed_of(options), options.images)
    elif options.transfer:
        measure_transfer(bed_of(options), options.images)
    else:
        measure_methods(options)
    return 0


def bed_of(options: argparse.Namespace) -> Testbed:
    """The bed that is asked for."""
    return Testbed(BEDS[options.bed])


def settings_of(options: argparse.Namespace) -> list[Setting]:
    """Every combination that is asked for."""
    return [
        Setting(steps, cfg, sampler)
        for sampler in options.sampler
        for steps in options.steps
        for cfg in options.cfg
    ]


def measure_methods(options: argparse.Namespace) -> None:
    """Measure, show a table of the first setting, draw all."""
    settings = settings_of(options)
    methods, images = METHODS, options.images
    if options.quick:
        settings, methods, images = [Setting(28, 3.5)], QUICK, 4
    if options.only:
        methods = [method for method in methods if method.group in options.only]
    folder = folder_of(options.bed)
    found = of_images("quick" if options.quick else "methods", folder)
    kept = {
        (*(row[field] for field in KEYS["methods"]), image)
        for row in (load()["methods"] if options.new else [])
        for image in range(images_of(row))
    }
    measure(bed_of(options), settings, methods, images, found, kept)
    rows = aggregate(found.rows.values())
    print(table([row for row in rows if row["setting"] == settings[0].name]))
    print(f"pictures: {draw_all(rows, folder)}")


if __name__ == "__main__":
    sys.exit(main())
