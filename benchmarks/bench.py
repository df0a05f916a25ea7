"""Measure every method against the plain model: run.py bench [--quick] [--steps N ...] [--cfg C ...] [--sampler S ...] ...

Each image is made by the plain model and by every method, same seed, in one process. A method's speed is the plain run's seconds over its
own, per image, with the plain model timed before and after; its quality is the distance to the plain picture. Results are appended to a
file of JSON lines as they come; a second start goes on where the first one ended.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("SPECA_BENCH_DEVICE", "any" if "--scale" in sys.argv and "small" not in sys.argv else "cpu")

from testbed import PACK, Setting, Testbed, captions, compare  # first: it makes ComfyUI importable

from methods import METHODS, QUICK, Method
from page import table, write_page
from scale import write_scale
from study import write_study
from transfer import write_transfer

CAPTIONS_SEED = 20  # prompts that tuned nothing; seeds of the images likewise
IMAGE_SEED = 40_000


def measured(path: Path) -> dict[tuple[str, str, str, int], dict[str, object]]:
    """What a results file holds, by (setting, group, label, image)."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {(line["setting"], line["group"], line["label"], line["image"]): line for line in lines}


def run(bed: Testbed, setting: Setting, methods: list[Method], images: int, path: Path, progress: "Progress") -> None:
    """Make every image with every method that the file does not hold yet."""
    done = measured(path)
    for image, caption in enumerate(captions(CAPTIONS_SEED, images)):
        missing = [m for m in methods if (setting.name, m.group, m.label, image) not in done]
        progress.skip(len(methods) - len(missing))
        if not missing:
            continue
        seed = IMAGE_SEED + image
        plain = bed.make(setting, caption, seed)
        lines = []
        for method in missing:
            made = bed.make(method.change(setting), caption, seed, method.patch)
            lines.append({"setting": setting.name, "group": method.group, "label": method.label, "image": image})
            lines[-1] |= {"seconds": made.seconds, "evaluations": made.evaluations, **compare(made, plain)}
            progress.step(f"{setting.name}, image {image + 1}: {method.name}")
        again = bed.make(setting, caption, seed)
        seconds = (plain.seconds + again.seconds) / 2
        with path.open("a", encoding="utf-8") as file:
            for line in lines:
                speed = {"plain_seconds": seconds, "speedup": seconds / line["seconds"], "saved": plain.evaluations / line["evaluations"]}
                rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in (line | speed).items()}
                file.write(json.dumps(rounded, separators=(",", ":")) + "\n")


class Progress:
    """One line on the terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self.fresh, self.began = total, 0, 0, time.monotonic()

    def skip(self, count: int) -> None:
        """Results that were there already."""
        self.count += count

    def step(self, what: str) -> None:
        """One more."""
        self.count += 1
        self.fresh += 1
        left = (time.monotonic() - self.began) / self.fresh * (self.total - self.count)
        end = "" if sys.stdout.isatty() else "\n"
        if sys.stdout.isatty() or self.count % 50 == 0 or self.count == self.total:
            print(f"\r{self.count}/{self.total}, {left / 60:.0f} min left  {what:<70.70}", end=end, flush=True)


def main() -> int:
    """Run, then write the page. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few methods, four images, one setting: under three minutes")
    parser.add_argument("--steps", type=int, nargs="+", default=[28, 50, 20])
    parser.add_argument("--cfg", type=float, nargs="+", default=[3.5, 1.0])
    parser.add_argument("--sampler", nargs="+", default=["euler"])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="only methods of these groups")
    parser.add_argument("--json", type=Path, default=PACK / "out/bench/results.jsonl", help="results file, appended to")
    parser.add_argument("--study", action="store_true", help="how well each verifier foretells errors: writes docs/verifiers.md")
    parser.add_argument("--transfer", action="store_true", help="one threshold elsewhere, and per image: writes benchmarks/transfer.md")
    parser.add_argument(
        "--scale", choices=["auto", "small"], nargs="?", const="auto", help="real sizes and real seconds: writes docs/benchmarks-scale.md"
    )
    parser.add_argument("--fresh", action="store_true", help="with --scale: measure again what was measured before")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="with --scale: only models whose names contain one of these")
    parser.add_argument("--docs", action="store_true", help="measure nothing: write docs/benchmarks.md from benchmarks/results.jsonl")
    options = parser.parse_args()
    if options.docs:
        print(f"page: {write_page(PACK / 'benchmarks/results.jsonl', PACK / 'docs', 'images')}")
        return 0
    if options.scale:
        print(f"page: {write_scale(options.models, options.fresh)}")
        return 0
    if options.study:
        print(f"page: {write_study(options.images)}")
        return 0
    if options.transfer:
        print(f"section: {write_transfer(options.images)}")
        return 0
    settings = [Setting(steps, cfg, sampler) for sampler in options.sampler for steps in options.steps for cfg in options.cfg]
    methods, images = METHODS, options.images
    if options.quick:
        settings, methods, images = [Setting(28, 3.5)], QUICK, 4
    if options.only:
        methods = [m for m in methods if m.group in options.only]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    bed = Testbed()
    bed.make(Setting(4, 3.5), "a big red circle on blue plain", 1)  # warm-up
    progress = Progress(len(settings) * len(methods) * images)
    for setting in settings:
        run(bed, setting, methods, images, options.json, progress)
    print()
    print(table(measured(options.json).values(), settings[0].name))
    print(f"page: {write_page(options.json, options.json.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
