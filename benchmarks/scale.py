"""Real sizes: what a draft costs beside a full prediction, on whole architectures with random weights. run.py bench --scale

On an accelerator the published sizes are measured, elsewhere reduced ones (--scale small asks for those). Each model is measured once and
kept in benchmarks/scale.json; a second start goes on with the models that are missing there. docs/benchmarks-scale.md is made from it.

Acceptance is prescribed (forced.py), so times say nothing about quality. All times are of predictions, what a sampler asks for at a step:
ComfyUI's own work around the model's calls and all of ours are in them. On an accelerator they are taken with device events.
"""

import gc
import json
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

from testbed import PACK  # first: it makes ComfyUI importable

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from counting import OURS, Counting, metered
from forced import Forced
from giants import GIANTS, REDUCED, Giant
from peers import EveryBlock, Peer, WholeOutput
from scale_page import write_scale_page
from shares import watched

from speca_pack.speca_core import SpecaConfig
from speca_pack.nodes.runtime.attach import KEY, accelerate
from speca_pack.nodes.runtime.compat import is_oom
from speca_pack.nodes.runtime.blocks.family import bare
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.blocks.proxy import installed
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core.forecasters import FORECASTERS
from speca_pack.speca_core.verifiers import VERIFIERS, relative_error

RESULTS = Path(__file__).with_name("scale.json")
C = None  # a computed prediction; a number: drafted, so many images rejected
WARM_UP = 3  # computed predictions before the first draft
SHARES = ((0.5, 12), (0.7, 10), (0.8, 15), (0.86, 22), (0.9, 30))  # accepted share, predictions
SLOW = 1.0  # seconds of a full prediction, above which fewer are made
SLOW_SHARES = ((0.5, 10), (0.7, 10))
PLAIN = 10  # predictions of a plain run
Pattern = list[int | None]


def spread(predictions: int, share: float) -> Pattern:
    """A pattern with this share of drafts: the warm-up, and the other computed ones evenly among the drafts."""
    later = round(predictions * (1 - share)) - WARM_UP
    places = {WARM_UP + round((i + 1) * (predictions - WARM_UP) / (later + 1)) for i in range(later)}
    return [C if i < WARM_UP or i in places else 0 for i in range(predictions)]


class Device:
    """The clock and the memory of a device.

    Attributes:
        name: of the device, for the page.
    """

    def __init__(self) -> None:
        self.device = comfy.model_management.get_torch_device()
        self.cuda = self.device.type == "cuda"
        cpu = platform.processor() or platform.machine()
        self.name = torch.cuda.get_device_name(self.device) if self.cuda else f"{cpu}, {torch.get_num_threads()} thread"

    def wait(self) -> None:
        """Until the device has done all it was asked for."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def clock(self, times: list[Callable[[], float]]) -> Iterator[None]:
        """Append what gives the milliseconds of what runs inside; on an accelerator, without waiting for it now."""
        if not self.cuda:
            begun = time.perf_counter()
            yield
            spent = 1000 * (time.perf_counter() - begun)
            times.append(lambda: spent)
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        times.append(lambda: begin.elapsed_time(end))

    def median(self, work: Callable[[], Any], count: int = 20) -> float:
        """Milliseconds, the median of many."""
        times: list[Callable[[], float]] = []
        for _ in range(count + 3):
            with self.clock(times):
                work()
        self.wait()
        return statistics.median(time() for time in times[3:])

    def peak(self, work: Callable[[], Any]) -> int:
        """Most bytes that `work` held at the same time; on an accelerator as its allocator counted them, else counted by operations."""
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
        """(milliseconds of each prediction, seconds from the first one's begin to the last one's end)."""
        times: list[Callable[[], float]] = []
        wall = [0.0, 0.0]

        @contextmanager
        def meter() -> Iterator[None]:
            if not times:
                self.device.wait()
                wall[0] = time.perf_counter()
            with self.device.clock(times):
                yield
            if len(times) == predictions:
                self.device.wait()
                wall[1] = time.perf_counter()

        clocked = metered(model, meter)
        latent = self.giant.sample(clocked, predictions, images)
        self.report = find(latent)
        return [time() for time in times], wall[1] - wall[0]

    def ours(self, pattern: Pattern, verifier: str = "embedded", images: int = 1) -> Any:
        """The model with SpeCa."""
        return accelerate(self.model, SpecaConfig(level="features", verifier=VERIFIERS[verifier](), budget=Forced(pattern, images)))

    def kinds(self, model: Any, pattern: Pattern, images: int = 1) -> dict[Any, float]:
        """Median milliseconds of each entry of the pattern, behind the warm-up."""
        found = defaultdict(list)
        times, _ = self.sample(model, len(pattern), images)
        for entry, spent in list(zip(pattern, times, strict=True))[WARM_UP:]:
            found[entry].append(spent)
        return {entry: statistics.median(values) for entry, values in found.items()}

    def measure(self, cell: dict[str, Any], keep: Callable[[], None]) -> None:
        """Add to `cell` what it does not hold yet, as JSON values, and call `keep` after each part. What does not fit in memory is null."""
        giant, module = self.giant, self.model.model.diffusion_model
        self.sample(self.model, 2)
        slow = self.kinds(self.model, [C] * (WARM_UP + 2))[C] > 1000 * SLOW
        rounds, shares = (2, SLOW_SHARES) if slow else (8 if self.device.cuda else 3, SHARES)
        cell |= {
            "device": self.device.name,
            "torch": torch.__version__,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "blocks": sum(len(getattr(module, path)) for path in family_of(module).stacks),
            "rows": 1 if giant.cfg == 1 else 2,
        }
        parts: dict[str, Callable[[], Any]] = {
            "full": lambda: self.kinds(self.model, [C] * (WARM_UP + 2 * rounds))[C],
            "verifiers": lambda: {name: self.attempt(lambda name=name: self.verifier(name, rounds)) for name in VERIFIERS},
            "mixed": lambda: self.attempt(lambda: self.mixed(rounds)) if giant.batch > 1 else None,
            "walls": lambda: [self.walls(share, predictions) for share, predictions in shares],
            "memory": lambda: self.attempt(self.memory),
            "parts": lambda: self.attempt(self.parts),
            "shares": lambda: self.attempt(lambda: self.shares(rounds)),
            "waits": lambda: self.attempt(self.waits),
        }
        for name, part in parts.items():
            if name not in cell:
                cell[name] = part()
                keep()

    def attempt(self, work: Callable[[], Any]) -> Any:
        """What `work` returns; None if it does not fit into memory."""
        try:
            return work()
        except Exception as error:
            if not is_oom(error):
                raise
        gc.collect()
        comfy.model_management.soft_empty_cache()
        return None

    def verifier(self, name: str, rounds: int) -> dict[str, float]:
        """Milliseconds of a prediction that is drafted, drafted and rejected, or computed, with this check."""
        pattern: Pattern = [C] * WARM_UP + [0, 1, 0, C] * rounds
        found = self.kinds(self.ours(pattern, name), pattern)
        rejected = {} if name == "none" else {"reject": found[1]}
        return {"draft": found[0], **rejected, "full": found[C]}

    def mixed(self, rounds: int) -> dict[str, float]:
        """Milliseconds of a prediction for a batch: plain, and drafted with none to all of its images rejected."""
        images = self.giant.batch
        pattern: Pattern = [C] * WARM_UP + [*range(images + 1)] * rounds
        plain = self.kinds(self.model, [C] * (WARM_UP + rounds), images)[C]
        found = self.kinds(self.ours(pattern, images=images), pattern, images)
        return {"plain": plain} | {str(rejected): found[rejected] for rejected in range(images + 1)}

    def exit(self) -> torch.Tensor:
        """An anchor of the exit tap of one row."""
        runs = []

        def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
            runs.append(executor.class_obj.model_options["transformer_options"][KEY])
            return executor(*args, **kwargs)

        model = self.ours([C] * WARM_UP)
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "look", look)
        self.giant.sample(model, WARM_UP)
        return next(iter(runs[0].session.lanes.values())).exit.anchors[-1]  # type: ignore[no-any-return]

    def parts(self) -> dict[str, Any]:
        """Milliseconds of our parts alone, for one row: a forecast by number of anchors, an error, and the microseconds of an install."""
        exit = self.exit()
        anchors = [exit.clone() for _ in range(4)]
        forecasts = {
            name: self.device.median(lambda f=forecaster, n=count: f.forecast((0.0, 1.0, 2.0, 3.0)[:n], anchors[:n], 4.0))
            for name, forecaster, count in (
                ("1", FORECASTERS["reuse"](), 1),
                ("2", FORECASTERS["taylor"](order=1), 2),
                ("3", FORECASTERS["newton"](order=2), 3),
                ("4", FORECASTERS["newton"](order=3), 4),
            )
        }
        output = torch.randn(1, *self.giant.latent, device=self.device.device, dtype=exit.dtype)
        module = bare(self.model.model.diffusion_model)
        family = family_of(module)

        class Idle:
            reached = computing = complete = refining = True

        def install() -> float:
            begun = time.perf_counter()
            with installed(module, family, Idle()):  # type: ignore[arg-type]
                pass
            return time.perf_counter() - begun

        return {
            "forecast": forecasts,
            "error_output": self.device.median(lambda: relative_error(output, output)),
            "error_stream": self.device.median(lambda: relative_error(exit[None], exit[None])),
            "install_us": 1e6 * min(install() for _ in range(50)),
            "stream": [list(exit.shape), str(exit.dtype).removeprefix("torch."), exit.nbytes],
        }

    def shares(self, rounds: int) -> dict[str, float]:
        """Milliseconds of the parts of a drafted prediction, checked by `embedded`: medians."""
        pattern: Pattern = [C] * WARM_UP + [0, 0, C] * rounds
        with watched(bare(self.model.model.diffusion_model), self.device.clock) as predictions:
            times, _ = self.sample(self.ours(pattern), len(pattern))
        drafts = [
            parts.milliseconds() | {"whole": whole}
            for entry, parts, whole in zip(pattern, predictions, times, strict=True)
            if entry is not C
        ]
        return {part: statistics.median(draft[part] for draft in drafts) for part in drafts[0]}

    def waits(self) -> dict[str, Any]:
        """How often the host waits for the device in a prediction: asked for by us, counted; on CUDA also all that PyTorch warns of."""
        pattern: Pattern = [C] * (WARM_UP + 1) + [0, 1]
        counted: list[Counting] = []

        def meter() -> Counting:
            counted.append(Counting(OURS))
            return counted[-1]

        self.giant.sample(metered(self.ours(pattern), meter), len(pattern))
        found = {name: len(counting.costs.waits) for name, counting in zip(("full", "draft", "reject"), counted[WARM_UP:], strict=True)}
        if self.device.cuda:
            for name, model in (("plain", self.model), ("ours", self.ours(pattern))):
                found |= {f"cuda_{name}": self.warned(model, len(pattern))}
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

    def memory(self) -> dict[str, Any]:
        """Bytes: the most that was held beside the weights, by the plain model and with SpeCa; what SpeCa keeps for one row."""
        pattern: Pattern = [C] * WARM_UP + [0, C]
        found: dict[str, Any] = {"plain": self.device.peak(lambda: self.giant.sample(self.model, len(pattern)))}
        for name in VERIFIERS:
            model = self.ours(pattern, name)
            found[name] = self.device.peak(lambda model=model: self.sample(model, len(pattern)))
            found[f"row_{name}"] = self.report.cache_bytes // len(self.report.calls[0].rows)
        for name, peer in self.peers(pattern).items():
            found[name] = self.attempt(
                lambda peer=peer: self.device.peak(lambda: self.giant.sample(peer.attached(self.model), len(pattern)))
            )
        return found

    @staticmethod
    def peers(pattern: Pattern) -> dict[str, Peer]:
        """The other caches, ready for a run."""
        return {"whole_output": WholeOutput(pattern), "every_block": EveryBlock(pattern)}

    def walls(self, share: float, predictions: int) -> dict[str, Any]:
        """Speed-up of a whole run at an accepted share, by the wall clock, against a plain one of as many predictions."""
        pattern = spread(predictions, share)
        plain = self.sample(self.model, PLAIN)[1] * predictions / PLAIN
        ways = {verifier: self.ours(pattern, verifier) for verifier in ("embedded", "last_block")}
        ways |= {name: peer.attached(self.model) for name, peer in self.peers(pattern).items()}
        speed = {}
        for name, model in ways.items():
            seconds = self.attempt(lambda model=model: self.sample(model, predictions)[1])
            speed[name] = seconds and plain / seconds
        return {"share": pattern.count(0) / predictions, "predictions": predictions, **speed}


def laws() -> list[dict[str, Any]]:
    """How our costs grow, counted on a reduced Wan: of a draft and of a computed prediction that is scored, and what is kept at the end."""
    base = next(giant for giant in REDUCED if giant.config == "WAN21_T2V")
    channels, frames, height, width = base.latent
    deep = replace(base, unet=base.unet | {"num_layers": 2 * base.unet["num_layers"]})
    cases = {
        "as it is": (base, 1, 12, "embedded", 2),
        "height and width x 2": (replace(base, latent=(channels, frames, 2 * height, 2 * width)), 1, 12, "embedded", 2),
        "frames x 2": (replace(base, latent=(channels, 2 * frames, height, width)), 1, 12, "embedded", 2),
        "batch x 2": (base, 2, 12, "embedded", 2),
        "guidance: two rows per image": (replace(base, cfg=5.0), 1, 12, "embedded", 2),
        "steps x 2": (base, 1, 24, "embedded", 2),
        "blocks x 2": (deep, 1, 12, "embedded", 2),
        "four anchors in place of three": (base, 1, 12, "embedded", 3),
        "last block checked": (base, 1, 12, "last_block", 2),
        "first block checked": (base, 1, 12, "first_block", 2),
        "nothing checked": (base, 1, 12, "none", 2),
    }
    found = []
    for name, (giant, images, steps, verifier, order) in cases.items():
        pattern: Pattern = ([C] * (WARM_UP + 1) + [0, C] * steps)[:steps]
        counted: list[Counting] = []

        def meter(counted: list[Counting] = counted) -> Counting:
            counted.append(Counting(OURS))
            return counted[-1]

        model = giant.build(torch.device("cpu"))
        config = SpecaConfig(
            level="features", verifier=VERIFIERS[verifier](), forecaster=FORECASTERS["newton"](order=order), budget=Forced(pattern, images)
        )
        report = find(giant.sample(accelerate(metered(model, meter), config), steps, images))
        row: dict[str, Any] = {"case": name, "kept": report.cache_bytes}
        for kind, costs in (("draft", counted[-2].costs), ("full", counted[-1].costs)):
            row |= {f"{kind}_{field}": getattr(costs, field) for field in ("operations", "allocated", "peak")}
            row[f"{kind}_waits"] = len(costs.waits)
        found.append(row)
    return found


def write_scale(only: list[str] | None = None, fresh: bool = False) -> Path:
    """Measure what benchmarks/scale.json does not hold yet, keep it there, and write the page.

    Args:
        only: parts of the names of the models to measure; None is all.
        fresh: measure those again that were measured before.
    """
    device = Device()
    size = "full" if device.cuda else "reduced"
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"full": [], "reduced": [], "counted": []}
    chosen = [giant for giant in (GIANTS if size == "full" else REDUCED) if not only or any(part in giant.name for part in only)]
    if fresh:
        results["counted"] = []
        results[size] = [cell for cell in results[size] if cell["name"] not in {giant.name for giant in chosen}]
    results["counted"] = results["counted"] or laws()

    def keep() -> None:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    keep()
    for giant in chosen:
        if giant.name not in {cell["name"] for cell in results[size]}:
            results[size].append({"name": giant.name})
        cell = next(cell for cell in results[size] if cell["name"] == giant.name)
        if "waits" in cell:  # the last part
            continue
        begun = time.perf_counter()
        try:
            Bench(giant, device).measure(cell, keep)
        except Exception as error:
            if not is_oom(error):
                raise
            print(f"{giant.name}: does not fit into memory")
        comfy.model_management.unload_all_models()
        gc.collect()
        comfy.model_management.soft_empty_cache()
        print(f"{giant.name} ({size}): {time.perf_counter() - begun:.0f} s", flush=True)
    return write_scale_page(results, PACK / "docs/benchmarks-scale.md")
