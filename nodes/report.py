"""SpeCa Report: what the accelerated sampler did."""

import json
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..speca_core.report_json import pack, write
from .runtime.harmless import harmless
from .runtime.page.diagnose import diagnose
from .runtime.page.events import found
from .runtime.page.report_store import find
from .runtime.page.timeline import as_image, describe, draw_timeline
from .runtime.page.workflow_metadata import stamp

NOT_FOUND = (
    "No SpeCa run made this latent. Connect this node directly to the sampler's latent output, "
    "and the SpeCa node between the model loader and that sampler. If they are, very many runs "
    "came after it: queue with another seed."
)
OF_ANOTHER_GRAPH = (
    "The plain model made this latent: no SpeCa node lies before its sampler, or it is "
    "bypassed. An earlier run with SpeCa had made the same."
)


class SpeCaReport(io.ComfyNode):
    """LATENT passed through unchanged; the run that made it as picture and JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """One input, three outputs."""
        return io.Schema(
            node_id="SpeCaReport",
            display_name="SpeCa Report",
            category="SpeCa",
            description="Shows what SpeCa did in the run that made this latent, and writes it into "
            "the pictures saved after it: dropped into the page, they show their own run. Place it "
            "directly after the sampler.",
            search_aliases=["speca report", "timeline"],
            is_output_node=True,
            hidden=[io.Hidden.extra_pnginfo, io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[io.Latent.Input("latent", tooltip="The sampler's output")],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The input, unchanged"),
                io.Image.Output(display_name="timeline", tooltip="The run as a picture"),
                io.String.Output(
                    display_name="json",
                    tooltip="The run as JSON; empty object if no SpeCa run made this latent",
                ),
            ],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any]) -> io.NodeOutput:
        """Look the run up by the latent itself, draw it, write it into the workflow that saved
        files carry, and pass the latent on."""
        report = find(latent["samples"])
        trouble = "" if report else NOT_FOUND
        with harmless("looking for the SpeCa node in the graph"):
            maker = own_id(report.ids.get("node", "")) if report else ""
            before = nodes_before(
                *(getattr(cls.hidden, n, None) for n in ("dynprompt", "unique_id"))
            )
            if maker and before and maker not in before:
                trouble = OF_ANOTHER_GRAPH
        if report is None or trouble:
            return io.NodeOutput(
                latent,
                torch.zeros(1, 8, 8, 3),
                "{}",
                ui={"text": (trouble,), "speca_report": ("{}",)},
            )
        with harmless("writing the run into the workflow"):
            stamp(found(getattr(cls.hidden, "extra_pnginfo", None), "workflow"), report)
        picture = as_image(draw_timeline(report))[None]
        written = write(report)
        text = json.dumps(written)
        shown = ui.PreviewImage(picture, cls=cls).as_dict() | {
            "text": (f"{report.summary}\n{describe(report)}",),
            "speca_report": (text,),
        }
        shown |= {"speca_diagnosis": (diagnose(report),), "speca_run": (pack(written),)}
        return io.NodeOutput(latent, picture, text, ui=shown)


def nodes_before(prompt: Any, node: Any) -> set[str]:
    """The ids of all nodes of the graph that a node's inputs come from, by way of others.

    Args:
        prompt: ComfyUI's `DynamicPrompt`. Without one, and without a node, there are none.
    """
    before: set[str] = set()
    ahead = [str(node)] if prompt is not None and node is not None else []
    while ahead:
        for value in prompt.get_node(ahead.pop())["inputs"].values():
            linked = isinstance(value, list) and len(value) == 2 and prompt.has_node(value[0])
            if linked and value[0] not in before:
                before.add(value[0])
                ahead.append(value[0])
    return {own_id(each) for each in before}


def own_id(node: str) -> str:
    """The id of a node in the graph that was queued: nodes that others make while they run, as
    loops do, are called after these ("12.0.0.3")."""
    return node.partition(".")[0]
