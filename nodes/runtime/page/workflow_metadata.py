"""A picture tells its own run: the run goes into the workflow that ComfyUI writes into files, at
the node that made it.

The page queues the workflow as it was before the run, so a saved picture would show the run before.
The dict of a running prompt is the very one that saving nodes write; it is changed here, before
they do.
"""

from collections.abc import Mapping
from typing import Any

from ....speca_core.report import RunReport
from .events import payload

PROPERTY = "speca_runs"  # of the SpeCa Accelerate node; web/speca.js reads it


def stamp(workflow: Mapping[str, Any], report: RunReport) -> bool:
    """Write a run into a workflow as the page saves it.

    Args:
        workflow: `extra_pnginfo["workflow"]`; its node is changed.
        report: of the run; its ids name the node.

    Returns:
        Whether the workflow has that node.
    """
    node = node_at(workflow, report.ids.get("node", ""))
    if node is None:
        return False
    properties = node.setdefault("properties", {})
    where = ("node", "sampler")
    others = [
        run
        for run in properties.get(PROPERTY, [])
        if any(run["ids"].get(key) != report.ids.get(key) for key in where)
    ]
    properties[PROPERTY] = [*others, payload(report)]
    return True


def node_at(workflow: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """The SpeCa Accelerate node at a path such as "5:2": node 2 in the subgraph that node 5 is made
    of."""
    definitions = {
        graph["id"]: graph for graph in (workflow.get("definitions") or {}).get("subgraphs") or []
    }
    graph: Mapping[str, Any] | None = workflow
    node: dict[str, Any] | None = None
    for step in path.split(":"):
        node = next((n for n in (graph or {}).get("nodes", []) if str(n["id"]) == step), None)
        graph = definitions.get(node["type"]) if node else None
    return node if node and node["type"] == "SpeCaAccelerate" else None
