"""Real sizes: what a draft costs beside a full prediction, on whole architectures with random
weights. run.py bench --scale

A GPU measures the published sizes; without one, or with `--scale small`, reduced ones are measured.
Rows go to .runtime/bench/ part by part; a second start goes on where the first one ended. All
tables are in .runtime/bench/scale.md; `--page` takes over the rows of a GPU alone.

Acceptance is prescribed (forced.py), so nothing here is about quality. All times are of
predictions, one per step of the sampler: ComfyUI's own work around the model's calls and all of
ours are in them. On a GPU they are taken with device events.
"""

from testbed import find  # first: it makes ComfyUI importable

import gc
import platform
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from counting import OURS, Counting, metered
from forced import Forced
from giants import GIANTS, REDUCED, Giant
from peers import EveryBlock, Peer, WholeOutput
from results import KEYS, MEASURED, Measured, Row
from scale_page import all_tables
from shares import Laps, medians, timed, watched
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.blocks.family import bare
from speca_pack.nodes.runtime.compat import is_oom
from speca_pack.nodes.runtime.run import Run
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.verifiers import VERIFIERS

C = None  # a computed prediction; a number: drafted, and as many images rejected
WARM_UP = 3  # computed predictions before the first draft
SHARES = ((0.5, 12), (0.7, 10), (0.8, 15), (0.86, 22), (0.9, 30))  # accepted share, predictions
SLOW = 1.0  # seconds of a full prediction, above which fewer are made
SLOW_SHARES = ((0.5, 10), (0.7, 10))
PLAIN = 10  # predictions of a plain run
Pattern = list[int | None]

WAYS = {  # name -> (level, verifier)
    "prediction": ("prediction", "embedded"),
    "features": ("features", "embedded"),
    "last_block": ("features", "last_block"),
    "first_block": ("features", "first_block"),
    "none": ("features", "none"),
}


def spread(predictions: int, share: float) -> Pattern:
    """A pattern with this share of drafts: the warm-up, and the other computed ones evenly among
    the drafts."""
    later = round(predictions * (1 - share)) - WARM_UP
    gap = (predictions - WARM_UP) / (later + 1)
    places = {WARM_UP + round((i + 1) * gap) for i in range(later)}
    return [C if i < WARM_UP or i in places else 0 for i in range(predictions)]


class Device:
    """The clock and the memory of a device.

    Attributes:
        name: of the device, for the page.
    """

    def __init__(self) -> None:
        self.device = comfy.model_management.get_torch_device()
        self.cuda = self.device.type == "cuda"
        cpu = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread"
        self.name = torch.cuda.get_device_name(self.device) if self.cuda else cpu

    def wait(self) -> None:
        """Until the device has done all of its work."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def stamp(self) -> Any:
        """The time now; on a GPU the place in its queue, without waiting for it."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begun: Any, ended: Any) -> float:
        """Milliseconds from one stamp to another; on a GPU after `wait`."""
        return float(begun.elapsed_time(ended)) if self.cuda else 1000 * (ended - begun)

    def peak(self, work: Callable[[], Any]) -> int:
        """Most bytes that `work` held at the same time; on a GPU as its allocator counts them, else
        counted by operations."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            work()
            return torch.cuda.max_memory_allocated(self.device) - before
        with Counting() as costs:
            work()
        return costs.peak


class Bench:
    """One model on one device."""

    def __init__(self, giant: Giant, device: Device) -> None:
        self.giant, self.device = giant, device
        self.model = giant.build(device.device)
        self.report: Any = None  # of the newest sampling

    def sample(self, model: Any, predictions: int, images: int = 1) -> tuple[list[float], float]:
        """(milliseconds of each prediction, seconds from the first one's begin to the last one's
        end)."""
        stamps: list[tuple[Any, Any]] = []
        wall = [0.0, 0.0]

        @contextmanager
        def meter() -> Iterator[None]:
            if not stamps:
                self.device.wait()
                wall[0] = time.perf_counter()
            begun = self.device.stamp()
            yield
            stamps.append((begun, self.device.stamp()))
            if len(stamps) == predictions:
                self.device.wait()
                wall[1] = time.perf_counter()

        latent = self.giant.sample(metered(model, meter), predictions, images)
        self.report = find(latent)
        return [self.device.between(*pair) for pair in stamps], wall[1] - wall[0]

    def ours(
        self,
        pattern: Pattern,
        way: str = "prediction",
        images: int = 1,
        run: type[Run] | None = None,
    ) -> Any:
        """The model with SpeCa."""
        level, verifier = WAYS[way]
        budget = Forced(pattern, images)
        config = SpecaConfig(
            level=level, forecaster=Newton(), verifier=VERIFIERS[verifier](), budget=budget
        )
        return accelerate(self.model, config, run=run)

    def kinds(self, model: Any, pattern: Pattern, images: int = 1) -> dict[Any, float]:
        """Median milliseconds of each entry of the pattern, after the warm-up."""
        found = defaultdict(list)
        times, _ = self.sample(model, len(pattern), images)
        for entry, spent in list(zip(pattern, times, strict=True))[WARM_UP:]:
            found[entry].append(spent)
        return {entry: statistics.median(values) for entry, values in found.items()}

    def measure(self, cell: Row, keep: Callable[[], None]) -> None:
        """Add to `cell` the parts that it lacks, as JSON values, and call `keep` after each. A part
        that does not fit in memory is null."""
        giant, module = self.giant, self.model.model.diffusion_model
        self.sample(self.model, 2)
        slow = self.kinds(self.model, [C] * (WARM_UP + 2))[C] > 1000 * SLOW
        rounds, shares = (8 if self.device.cuda else 3), SHARES
        if slow:
            rounds, shares = 2, SLOW_SHARES
        cell |= {
            "device": self.device.name,
            "torch": torch.__version__,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "rows": 1 if giant.cfg == 1 else 2,
        }
        parts: dict[str, Callable[[], Any]] = {
            "full": lambda: self.kinds(self.model, [C] * (WARM_UP + 2 * rounds))[C],
            "drafts": lambda: {
                way: self.attempt(lambda w=way: self.way(w, rounds)) for way in WAYS
            },
            "mixed": lambda: self.attempt(lambda: self.mixed(rounds)) if giant.batch > 1 else None,
            "walls": lambda: [self.walls(share, predictions) for share, predictions in shares],
            "memory": lambda: self.attempt(self.memory),
            "shares": lambda: self.attempt(lambda: self.shares(rounds)),
            "waits": lambda: self.attempt(self.waits),
        }
        for name, part in parts.items():
            if name not in cell:
                cell[name] = part()
                keep()

    def attempt(self, work: Callable[[], Any]) -> Any:
        """The result of `work`; None if it does not fit in memory."""
        try:
            return work()
        except Exception as error:
            if not is_oom(error):
                raise
        gc.collect()
        comfy.model_management.soft_empty_cache()
        return None

    def way(self, way: str, rounds: int) -> dict[str, float]:
        """Milliseconds of a prediction that is drafted, drafted and rejected, or computed."""
        pattern: Pattern = [C] * WARM_UP + [0, 1, 0, C] * rounds
        found = self.kinds(self.ours(pattern, way), pattern)
        rejected = {} if way == "none" else {"reject": found[1]}
        return {"draft": found[0], **rejected, "full": found[C]}

    def mixed(self, rounds: int) -> dict[str, float]:
        """Milliseconds of a prediction for a batch: plain, and drafted with none to all of its
        images rejected."""
        images = self.giant.batch
        pattern: Pattern = [C] * WARM_UP + [*range(images + 1)] * rounds
        plain = self.kinds(self.model, [C] * (WARM_UP + rounds), images)[C]
        found = self.kinds(self.ours(pattern, images=images), pattern, images)
        return {"plain": plain} | {str(n): found[n] for n in range(images + 1)}

    def walls(self, share: float, predictions: int) -> dict[str, Any]:
        """Speed-up of a whole run at an accepted share, by the wall clock, against a plain one of
        as many predictions."""
        pattern = spread(predictions, share)
        plain = self.sample(self.model, PLAIN)[1] * predictions / PLAIN
        ways = {way: self.ours(pattern, way) for way in ("prediction", "features", "last_block")}
        ways |= {name: peer.attached(self.model) for name, peer in self.peers(pattern).items()}
        speed = {}
        for name, model in ways.items():
            seconds = self.attempt(lambda model=model: self.sample(model, predictions)[1])
            speed[name] = seconds and plain / seconds
        return {"share": pattern.count(0) / predictions, "predictions": predictions, **speed}

    def memory(self) -> dict[str, Any]:
        """Bytes: the most that was held beside the weights, by the plain model and with SpeCa; and
        `row_...`, what SpeCa keeps for one row."""
        pattern: Pattern = [C] * WARM_UP + [0, C]
        found: Row = {
            "plain": self.device.peak(lambda: self.giant.sample(self.model, len(pattern)))
        }
        for way in WAYS:
            model = self.ours(pattern, way)
            found[way] = self.device.peak(lambda model=model: self.sample(model, len(pattern)))
            found[f"row_{way}"] = self.report.cache_bytes // len(self.report.calls[0].rows)
        for name, peer in self.peers(pattern).items():
            model = peer.attached(self.model)
            found[name] = self.attempt(
                lambda model=model: self.device.peak(lambda: self.giant.sample(model, len(pattern)))
            )
        return found

    def shares(self, rounds: int) -> dict[str, float]:
        """Milliseconds of the parts of a drafted prediction at level features."""
        pattern: Pattern = [C] * WARM_UP + [0, 0, C] * rounds
        laps = Laps(self.device.stamp, self.device.between)
        with watched(bare(self.model.model.diffusion_model), laps):
            self.sample(self.ours(pattern, "features", run=timed(laps)), len(pattern))
        return medians(laps, [i for i, entry in enumerate(pattern) if entry is not C])

    def waits(self) -> Row:
        """How often the host waits for the device in a prediction: for us, counted; on CUDA also
        all that PyTorch warns of."""
        pattern: Pattern = [C] * (WARM_UP + 1) + [0, 1]
        counted: list[Counting] = []

        def meter() -> Counting:
            counted.append(Counting(OURS))
            return counted[-1]

        self.giant.sample(metered(self.ours(pattern), meter), len(pattern))
        kinds = zip(("full", "draft", "reject"), counted[WARM_UP:], strict=True)
        found: Row = {name: len(counting.costs.waits) for name, counting in kinds}
        if self.device.cuda:
            for name, model in (("plain", self.model), ("ours", self.ours(pattern))):
                found[f"cuda_{name}"] = self.warned(model, len(pattern))
        return found

    def warned(self, model: Any, predictions: int) -> list[int]:
        """Waits of each prediction, all of ComfyUI's included, by CUDA's own debug mode."""
        seen: list[int] = []

        @contextmanager
        def meter() -> Iterator[None]:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    yield
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            seen.append(sum("synchroniz" in str(warning.message) for warning in caught))

        self.giant.sample(metered(model, meter), predictions)
        return seen

    @staticmethod
    def peers(pattern: Pattern) -> dict[str, Peer]:
        """The other caches, ready for a run."""
        return {"whole_output": WholeOutput(pattern), "every_block": EveryBlock(pattern)}


def growth() -> dict[str, tuple[Giant, int, int, str, int]]:
    """Cases: (model, images, steps, way, the forecaster's order), on a reduced Wan."""
    base = next(giant for giant in REDUCED if giant.config == "WAN21_T2V")
    channels, frames, height, width = base.latent
    large = replace(base, latent=(channels, frames, 2 * height, 2 * width))
    long = replace(base, latent=(channels, 2 * frames, height, width))
    deep = replace(base, unet=base.unet | {"num_layers": 2 * base.unet["num_layers"]})
    return {
        "level prediction": (base, 1, 12, "prediction", 2),
        "level prediction, height and width x 2": (large, 1, 12, "prediction", 2),
        "level features": (base, 1, 12, "features", 2),
        "height and width x 2": (large, 1, 12, "features", 2),
        "frames x 2": (long, 1, 12, "features", 2),
        "batch x 2": (base, 2, 12, "features", 2),
        "guidance: two rows per image": (replace(base, cfg=5.0), 1, 12, "features", 2),
        "steps x 2": (base, 1, 24, "features", 2),
        "blocks x 2": (deep, 1, 12, "features", 2),
        "four anchors in place of three": (base, 1, 12, "features", 3),
        "last block checked": (base, 1, 12, "last_block", 2),
        "first block checked": (base, 1, 12, "first_block", 2),
        "nothing checked": (base, 1, 12, "none", 2),
    }


def count(case: str) -> Row:
    """Costs of a draft and of a computed prediction that is scored, and what is kept at the end."""
    giant, images, steps, way, order = growth()[case]
    pattern: Pattern = ([C] * (WARM_UP + 1) + [0, C] * steps)[:steps]
    counted: list[Counting] = []

    def meter() -> Counting:
        counted.append(Counting(OURS))
        return counted[-1]

    level, verifier = WAYS[way]
    config = SpecaConfig(
        level=level,
        verifier=VERIFIERS[verifier](),
        forecaster=Newton(order=order),
        budget=Forced(pattern, images),
    )
    model = accelerate(metered(giant.build(torch.device("cpu")), meter), config)
    row: Row = {"case": case, "kept": find(giant.sample(model, steps, images)).cache_bytes}
    for kind, costs in (("draft", counted[-2].costs), ("full", counted[-1].costs)):
        for field in ("operations", "allocated", "peak"):
            row[f"{kind}_{field}"] = getattr(costs, field)
        row[f"{kind}_waits"] = len(costs.waits)
    return row


def measure_scale(only: list[str] | None = None) -> Path:
    """Measure what was not measured yet, and write all tables.

    Args:
        only: parts of the names of the models to measure; None is all.
    """
    device = Device()
    giants = GIANTS if device.cuda else REDUCED
    found = Measured("scale" if device.cuda else "scale-reduced", KEYS["scale"])
    laws = Measured("growth", ("case",))
    for case in growth():
        if not laws.has(case):
            laws.add([count(case)])
    for giant in giants:
        cell = found.rows.get((giant.name,), {"model": giant.name})
        if (only and not any(part in giant.name for part in only)) or "waits" in cell:
            continue  # "waits" is the last part
        begun = time.perf_counter()
        try:
            Bench(giant, device).measure(cell, lambda cell=cell: found.add([cell]))
        except Exception as error:
            if not is_oom(error):
                raise
            print(f"{giant.name}: does not fit in memory")
        comfy.model_management.unload_all_models()
        gc.collect()
        comfy.model_management.soft_empty_cache()
        print(f"{giant.name}: {time.perf_counter() - begun:.0f} s", flush=True)
    cells = [cell for cell in found.rows.values() if "waits" in cell]
    path = MEASURED / "scale.md"
    path.write_text(all_tables(cells, list(laws.rows.values())), encoding="utf-8")
    return path
