"""A picture tells its own run: the run goes into the workflow that ComfyUI writes into files, at
the node that made it.

The page queues the workflow as it was before the run, so a saved picture would show the run before.
The dict of a running prompt is the very one that saving nodes write; it is changed here, before
they do.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ....speca_core.report import RunReport
from .events import found, payload

# Properties of the SpeCa node, which web/speca.js writes as well.
PROPERTY = "speca_runs"
PROFILE = "speca_profile"  # what the routes export, for whoever has the same model
MOST_BYTES = 16_384  # of all runs; a JPEG holds 64 KB of metadata, the workflow among it
TOTALS_ONLY = {"calls": {"columns": [], "values": []}, "row_columns": []}


def stamp(workflow: Any, report: RunReport) -> bool:
    """Write a run into a workflow as the page saves it.

    Args:
        workflow: `extra_pnginfo["workflow"]`, whatever is there; its node is changed.
        report: of the run; its ids name the node.

    Returns:
        Whether the workflow has that node.
    """
    node = node_at(workflow, report.ids.get("node", ""))
    if node is None:
        return False
    if not isinstance(node.get("properties"), dict):
        node["properties"] = {}
    runs = [
        (each, run)
        for each in speca_nodes(workflow)
        for run in _objects(each, "properties", PROPERTY)
        if each is not node
        or any(found(run, "ids", key) != report.ids.get(key) for key in ("node", "sampler"))
    ]
    # Those of this prompt are newer than what the page had.
    runs.sort(key=lambda pair: found(pair[1], "ids", "prompt") == report.ids.get("prompt"))
    runs.append((node, payload(report)))
    for each, _ in runs:
        each["properties"][PROPERTY] = []
    for (each, _), told in zip(runs, bounded([run for _, run in runs]), strict=True):
        each["properties"][PROPERTY] += [] if told is None else [told]
    return True


def bounded(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Runs, the newest last, in what a file may carry of them. One that does not fit tells its
    totals alone; the oldest go first."""
    left = MOST_BYTES
    kept: list[dict[str, Any] | None] = []
    for run in reversed(runs):
        report = run.get("report")
        short = {**report, **TOTALS_ONLY} if isinstance(report, dict) else None
        sizes = [
            (told, len(json.dumps(told, separators=(",", ":"))))
            for told in (run, {**run, "report": short})
        ]
        told, size = next((each for each in sizes if each[1] <= left), (None, 0))
        left -= size
        kept.append(told)
    return kept[::-1]


def speca_nodes(workflow: Any) -> Iterator[dict[str, Any]]:
    """All of ours, in subgraphs too."""
    for graph in (workflow, *_objects(workflow, "definitions", "subgraphs")):
        yield from (n for n in _objects(graph, "nodes") if n.get("type") == "SpeCaAccelerate")


def node_at(workflow: Any, path: str) -> dict[str, Any] | None:
    """The SpeCa node at a path such as "5:2": node 2 in the subgraph that node 5 is made
    of."""
    graphs = {
        str(graph.get("id")): graph for graph in _objects(workflow, "definitions", "subgraphs")
    }
    graph: Any = workflow
    node: dict[str, Any] | None = None
    for step in path.split(":"):
        node = next((n for n in _objects(graph, "nodes") if str(n.get("id")) == step), None)
        graph = graphs.get(str(node.get("type"))) if node else None
    return node if node and node.get("type") == "SpeCaAccelerate" else None


def _objects(value: Any, *names: str) -> Iterator[dict[str, Any]]:
    """The objects in the list at a path of names; whatever else is there is passed over."""
    listed = found(value, *names)
    if isinstance(listed, list):
        yield from (each for each in listed if isinstance(each, dict))
