"""The demo's client: sample the same pictures with and without SpeCa on a running ComfyUI, and
compare.

run.py starts the server and then this, inside ComfyUI's own environment:

    python demo/client.py http://127.0.0.1:8188 out/demo

It queues demo/workflow_api.json as any user of ComfyUI's HTTP interface would, times the sampler
node by the server's own events, and writes plain.png, speca.png, compare.png, timeline.png and
report.json.
"""

import asyncio
import copy
import io
import json
import math
import statistics
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Graph = dict[str, dict[str, Any]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

WORKFLOW = Path(__file__).with_name("workflow_api.json")
PAIRS = 5  # timed runs of each kind, by turns; the fastest of each counts, the least disturbed
WARM_UP_STEPS = 6
PATIENCE = 600.0  # seconds without any message from the server
ZOOM = 2  # the pictures are small
GAIN = 10  # of the difference
INK, PAPER, FAINT = "#E6E6E6", "#1F1F23", "#9A9AA2"


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass
class Outcome:
    """What one run of a graph gave.

    Attributes:
        seconds: wall time of the sampler node.
        outputs: what each node shows in the page, by node id.
        images: the decoded pictures, uint8 [images, height, width, 3].
    """

    seconds: float = 0.0
    outputs: dict[str, Any] = field(default_factory=dict)
    images: Pixels = field(default_factory=lambda: np.zeros((0, 0, 0, 3), np.uint8))


# --- the graph --------------------------------------------------------------------------------


def node_of(graph: Graph, kind: str) -> str:
    """The id of the one node of class `kind`."""
    (found,) = (name for name, node in graph.items() if node["class_type"] == kind)
    return found


def without_speca(graph: Graph) -> Graph:
    """The same graph with SpeCa's two nodes bypassed: what they pass on comes straight from where
    they had it."""
    accelerate, report = node_of(graph, "SpeCaAccelerate"), node_of(graph, "SpeCaReport")
    bypass = {
        (accelerate, 0): graph[accelerate]["inputs"]["model"],
        (report, 0): graph[report]["inputs"]["latent"],
    }
    plain: Graph = {}
    for name, node in graph.items():
        inputs = {
            key: bypass.get((value[0], value[1]), value) if is_link(value) else value
            for key, value in node["inputs"].items()
        }
        if name not in (accelerate, report) and not any(
            is_link(value) and value[0] == report for value in inputs.values()
        ):
            plain[name] = {**node, "inputs": inputs}
    return plain


def is_link(value: Any) -> bool:
    """Whether an input is the output of another node, [node id, index], and not a value."""
    return isinstance(value, list)


def changed(graph: Graph, run: int, steps: int | None = None) -> Graph:
    """The graph for one more run, with `steps` steps if given.

    ComfyUI doesn't run a node again whose inputs it has seen. Spaces behind the prompt change the
    inputs, and the text encoder ignores them: the sampler really runs, and makes the same pictures.
    """
    graph = copy.deepcopy(graph)
    sampler = graph[node_of(graph, "KSampler")]["inputs"]
    graph[sampler["positive"][0]]["inputs"]["text"] += " " * run
    if steps is not None:
        sampler["steps"] = steps
    return graph


# --- the server -------------------------------------------------------------------------------


class Comfy:
    """A connection to a ComfyUI server."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self._server, self._session, self._client = server, session, uuid.uuid4().hex

    async def run(self, graph: Graph) -> Outcome:
        """Queue a graph, follow its events to the end, and fetch the pictures.

        Raises:
            DemoError: the server refused the graph, a node failed, or the connection broke.
        """
        sampler, save = node_of(graph, "KSampler"), node_of(graph, "VAEDecode")
        async with self._session.ws_connect(f"{self._server}/ws?clientId={self._client}") as events:
            prompt = await self._queue(graph)
            outcome = await follow(events, prompt, sampler)
        (shown,) = (
            outcome.outputs[name]
            for name, node in graph.items()
            if node["inputs"].get("images") == [save, 0]
        )
        outcome.images = np.stack([await self.picture(image) for image in shown["images"]])
        return outcome

    async def picture(self, image: dict[str, str]) -> Pixels:
        """A picture that a node saved, uint8 [height, width, 3]."""
        async with self._session.get(f"{self._server}/view", params=image) as response:
            response.raise_for_status()
            return np.asarray(Image.open(io.BytesIO(await response.read())).convert("RGB"))

    async def machine(self) -> dict[str, Any]:
        """What the server says of itself, for the report."""
        async with self._session.get(f"{self._server}/system_stats") as response:
            stats = await response.json()
        kept = ("os", "comfyui_version", "python_version", "pytorch_version")
        return {key: stats["system"][key] for key in kept} | {
            "devices": [device["name"] for device in stats["devices"]]
        }

    async def _queue(self, graph: Graph) -> str:
        async with self._session.post(
            f"{self._server}/prompt", json={"prompt": graph, "client_id": self._client}
        ) as response:
            answer = await response.json()
        if response.status != 200:
            raise DemoError(f"ComfyUI refused the graph: {json.dumps(answer, indent=1)}")
        return str(answer["prompt_id"])


async def follow(events: aiohttp.ClientWebSocketResponse, prompt: str, sampler: str) -> Outcome:
    """Follow the events of one prompt to its end. The sampler's time is that until the next node
    begins."""
    outcome, began = Outcome(), None
    while True:
        message = await events.receive(timeout=PATIENCE)
        if message.type == aiohttp.WSMsgType.BINARY:  # a preview
            continue
        if message.type != aiohttp.WSMsgType.TEXT:
            raise DemoError("the server closed the connection")
        event = json.loads(message.data)
        kind, data = event["type"], event["data"]
        if data.get("prompt_id") != prompt:
            continue
        if kind == "executing":
            now = time.perf_counter()
            if began is not None:
                outcome.seconds, began = now - began, None
            if data["node"] == sampler:
                began = now
        elif kind == "executed" and data["output"]:
            outcome.outputs[data["node"]] = data["output"]
        elif kind == "execution_error":
            trace = "".join(data["traceback"])
            raise DemoError(
                f"{data['node_type']} failed: {data['exception_type']}: "
                f"{data['exception_message']}\n{trace}"
            )
        elif kind == "execution_interrupted":
            raise DemoError("somebody interrupted the run")
        elif kind == "execution_success":
            if not outcome.seconds:
                raise DemoError("ComfyUI did not run the sampler; its result came from the cache")
            return outcome


# --- numbers and pictures ---------------------------------------------------------------------


def psnr(truth: Pixels, image: Pixels) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, dB; `inf` if they are equal."""
    error = float(np.mean((truth.astype(np.float64) - image) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def strip(images: Pixels) -> Image.Image:
    """Pictures beside each other, enlarged without smoothing."""
    spaced = np.pad(
        images, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=32
    )  # the grey of PAPER
    row = Image.fromarray(np.concatenate([*spaced], axis=1)[:, :-2])
    return row.resize((row.width * ZOOM, row.height * ZOOM), Image.Resampling.NEAREST)


def compare(
    rows: list[tuple[str, list[str], Image.Image]], title: str, footnotes: list[str]
) -> Image.Image:
    """Strips below each other, each with a name and notes at its left.

    Args:
        rows: (name, notes, strip), from the top.
        title: above all.
        footnotes: one below each picture of the last strip.
    """
    margin, left, head, foot, gap = 24, 210, 64, 40, 10
    large, middle, small = (ImageFont.load_default(size) for size in (26, 22, 16))
    width = rows[0][2].width + left + margin
    sheet = Image.new(
        "RGB", (width, head + sum(image.height + gap for _, _, image in rows) + foot), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, 18), title, INK, large)
    top = head
    for name, notes, image in rows:
        sheet.paste(image, (left, top))
        draw.text((margin, top + 8), name, INK, middle)
        draw.multiline_text((margin, top + 44), "\n".join(notes), FAINT, small, spacing=8)
        top += image.height + gap
    for index, note in enumerate(footnotes):
        draw.text((left + index * rows[-1][2].width / len(footnotes), top), note, FAINT, small)
    return sheet


def write_results(
    out: Path,
    plain: list[Outcome],
    fast: list[Outcome],
    timeline: Pixels,
    report: dict[str, Any],
    about: dict[str, Any],
) -> str:
    """Write the demo's files into `out`. Returns the table for the terminal."""
    totals = report["totals"]
    truth, images = plain[-1].images, fast[-1].images
    quality = [psnr(a, b) for a, b in zip(truth, images, strict=True)]
    seconds = [min(run.seconds for run in runs) for runs in (plain, fast)]
    ratio, most = seconds[0] / seconds[1], totals["rows"] / totals["computed"]
    mean, worst = statistics.fmean(quality), min(quality)

    difference = np.minimum(np.abs(truth.astype(np.int16) - images) * GAIN, 255).astype(np.uint8)
    strips = strip(truth), strip(images), strip(difference)
    rows = [
        ("plain", [f"{totals['rows']} evaluations", f"{seconds[0]:.2f} s"], strips[0]),
        (
            "SpeCa",
            [
                f"{totals['computed']} computed",
                f"{totals['accepted']} skipped",
                f"{seconds[1]:.2f} s ({ratio:.2f} x)",
            ],
            strips[1],
        ),
        ("difference", [f"{GAIN} times amplified"], strips[2]),
    ]
    compare(rows, about["title"], [f"{value:.1f} dB" for value in quality]).save(
        out / "compare.png"
    )
    strips[0].save(out / "plain.png")
    strips[1].save(out / "speca.png")
    Image.fromarray(timeline).save(out / "timeline.png")
    numbers = {
        **about,
        "plain": {
            "evaluations": totals["rows"],
            "sampling_seconds": [round(run.seconds, 4) for run in plain],
        },
        "speca": {**totals, "sampling_seconds": [round(run.seconds, 4) for run in fast]},
        "fastest_seconds": {"plain": round(seconds[0], 4), "speca": round(seconds[1], 4)},
        "speedup": round(ratio, 3),
        "psnr_db": [
            round(value, 2) if math.isfinite(value) else None for value in quality
        ],  # None: equal
        "repeats_equal": all(
            (run.images == runs[0].images).all() for runs in (plain, fast) for run in runs
        ),
        "last_speca_run": report,
    }
    (out / "report.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")

    def line(name: str, first: str, second: str, rest: str = "") -> str:
        return f"{name:<24}{first:>10}{second:>10}   {rest}".rstrip()

    table = [
        line("", "plain", "SpeCa"),
        line(
            "evaluations asked for",
            f"{totals['rows']}",
            f"{totals['rows']}",
            f"{totals['calls']} calls of {totals['rows'] / totals['calls']:g} rows",
        ),
        line(
            "  computed in full",
            f"{totals['rows']}",
            f"{totals['computed']}",
            f"{most:.2f} x fewer, {totals['rejected']} after a try",
        ),
        line("  skipped", "0", f"{totals['accepted']}"),
        line(
            "sampling, s",
            f"{seconds[0]:.2f}",
            f"{seconds[1]:.2f}",
            f"{ratio:.2f} x as fast (the fastest of {PAIRS} runs each)",
        ),
        line("PSNR to plain, dB", "", f"{mean:.1f}", f"worst picture {worst:.1f}"),
    ]
    if ratio > most:
        table.append("The clock gained more than the evaluations: the machine was busy. Try again.")
    return "\n".join(table)


# --- the demo ---------------------------------------------------------------------------------


async def demo(server: str, out: Path) -> None:
    """Warm up, run the pairs, and write the results."""
    out.mkdir(parents=True, exist_ok=True)
    for old in ("plain.png", "speca.png", "compare.png", "timeline.png", "report.json"):
        (out / old).unlink(missing_ok=True)  # what lies there afterwards is of this run
    graph: Graph = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    sampler = graph[node_of(graph, "KSampler")]["inputs"]
    prompt = graph[sampler["positive"][0]]["inputs"]["text"]
    kinds = {"plain": without_speca(graph), "SpeCa": graph}
    results: dict[str, list[Outcome]] = {"plain": [], "SpeCa": []}
    async with aiohttp.ClientSession() as session:
        comfy = Comfy(server, session)
        print(f'"{prompt}", {sampler["steps"]} steps', flush=True)
        for kind in kinds.values():
            await comfy.run(changed(kind, 0, WARM_UP_STEPS))
        for pair in range(PAIRS):
            for name, kind in kinds.items():
                results[name].append(await comfy.run(changed(kind, pair)))
                print(
                    f"  run {pair + 1} of {PAIRS}, {name:<5}  {results[name][-1].seconds:7.2f} s",
                    flush=True,
                )
        last = results["SpeCa"][-1].outputs
        report_node = node_of(graph, "SpeCaReport")
        report = json.loads(last[report_node]["speca_report"][0])
        if not report:
            raise DemoError("SpeCa Report found no run for its latent")
        (shown,) = (
            last[name]
            for name, node in graph.items()
            if node["inputs"].get("images") == [report_node, 1]
        )
        timeline = await comfy.picture(shown["images"][0])
        about = {
            "title": f'"{prompt}", same seed, {sampler["steps"]} steps',
            "machine": await comfy.machine(),
        }
    print("\n" + write_results(out, results["plain"], results["SpeCa"], timeline, report, about))
    print(
        f"\nLook at {out / 'compare.png'} and {out / 'timeline.png'}; "
        f"the numbers are in {out / 'report.json'}"
    )


def main() -> int:
    """Run the demo. Returns the exit code."""
    server, out = sys.argv[1], Path(sys.argv[2])
    try:
        asyncio.run(demo(server, out))
    except DemoError as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        print(
            f"\nThe demo failed: no proper answer from {server}: {error or type(error).__name__}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130  # run.py says the rest
    return 0


if __name__ == "__main__":
    sys.exit(main())
