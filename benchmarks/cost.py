"""What a draft costs, and what of it: run.py bench --cost writes benchmarks/cost.md, which becomes part of docs/benchmarks.md."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed import Setting, Testbed, captions  # first: it makes ComfyUI importable

from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.bridge.attach import accelerate
from speca_pack.speca_core.bridge.proxy import Head
from speca_pack.speca_core.bridge.reports import find
from speca_pack.speca_core.budgets import Interval
from speca_pack.speca_core.session import Call
from speca_pack.speca_core.verifiers import Embedded, FirstBlock, LastBlock, Unverified

SETTINGS = (
    ("embedded", "features", Embedded()),
    ("last_block", "features", LastBlock()),
    ("first_block", "features", FirstBlock()),
    ("none", "features", Unverified()),
    ("embedded", "prediction", Embedded()),
)
PARTS = {"forecast": (Call, "forecast"), "opinions": (Call, "opinions"), "judge": (Call, "judge"), "head": (Head, "__call__")}


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Add up the seconds spent in each part."""
    originals = {part: getattr(owner, name) for part, (owner, name) in PARTS.items()}

    def clocked(part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return originals[part](*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - began

        return call

    for part, (owner, name) in PARTS.items():
        setattr(owner, name, clocked(part))
    try:
        yield
    finally:
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, originals[part])


def measure(bed: Testbed, setting: Setting, level: str, verifier: Any, images: int) -> tuple[float, float, dict[str, float]]:
    """(ms of a full call, draft / full, each part's share of a draft); medians over the images. Every third call is computed."""
    config = SpecaConfig(1.0, verifier=verifier, level=level, budget=Interval(interval=3), hindsight=False)
    full, ratio, shares = [], [], defaultdict(list)
    for image, caption in enumerate(captions(40, images)):
        spent: dict[str, float] = defaultdict(float)
        drafts = [0.0, 0.0]

        def settle(call: Any, before: dict[str, float], drafts: list[float] = drafts, spent: dict[str, float] = spent) -> None:
            """What a computed call spends in the same parts is none of the draft's."""
            if any(row.verdict != "drafted" for row in call.rows):
                spent.clear()
                spent.update(before)
            else:
                drafts[0] += 1
                drafts[1] += call.seconds
            before.clear()
            before.update(spent)

        before: dict[str, float] = {}
        original = Call.close

        def close(self: Any, seconds: float, before: dict[str, float] = before, settle: Any = settle, original: Any = original) -> Any:
            call = original(self, seconds)
            settle(call, before)
            return call

        Call.close = close  # type: ignore[method-assign]
        try:
            with timed(spent):
                latent = bed.make(setting, caption, 70_000 + image, lambda model: accelerate(model, config)).latent
        finally:
            Call.close = original  # type: ignore[method-assign]
        report = find(latent)
        full.append(1000 * report.seconds_per_call(drafted=False))
        ratio.append(report.seconds_per_call(drafted=True) / report.seconds_per_call(drafted=False))
        for part in PARTS:
            shares[part].append(spent[part] / drafts[1] if drafts[1] else 0.0)
    return statistics.median(full), statistics.median(ratio), {part: statistics.median(values) for part, values in shares.items()}


def write_cost(images: int) -> Path:
    """Measure, and write the section."""
    bed = Testbed()
    bed.make(Setting(4, 3.5), "a big red circle on blue plain", 1)
    lines = [
        "## What a draft costs",
        "",
        f"`python3 run.py bench --cost`: the same small model, {images} images, every third call computed; medians. *Draft / full* is",
        "the time of a drafted call over that of a computed one; the shares are of the draft. *Rest* is what runs whatever SpeCa does: the",
        "embedders and ComfyUI's own work around a call, which a model of this size feels; on a big one the rest shrinks to little.",
        "",
        "| size | level | verifier | full call, ms | draft / full | forecast | head | opinions | verdict | rest |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in (128, 256):
        for name, level, verifier in SETTINGS:
            full, ratio, parts = measure(bed, Setting(28, 3.5, size=size), level, verifier, images)
            rest = 1 - sum(parts.values())
            cells = [f"{parts[part]:.0%}" for part in ("forecast", "head", "opinions", "judge")]
            lines.append(f"| {size} px | {level} | {name} | {full:.1f} | {ratio:.1%} | {' | '.join(cells)} | {rest:.0%} |")
            print(lines[-1], flush=True)
    path = Path(__file__).with_name("cost.md")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
