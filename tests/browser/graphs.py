"""Workflows of the demo's model, as the page saves them; the tests give node ids of their own."""

import copy
import json
import time
import uuid

from conftest import PACK, load

START = PACK / "demo/custom_nodes/speca_demo/example_workflows/Start here.json"
EXAMPLE, COMPARE = (
    json.loads(path.read_text(encoding="utf-8"))
    for path in (START, PACK / "tests/browser/compare.json")
)
CONFIG = load("speca_core", "config")
DEFAULT = CONFIG.SpecaConfig().to_dict()  # the widgets of a new node
ACCELERATE, SAMPLER, REPORT, DECODE, SAVE, LATENT, PROMPT = (
    next(node["id"] for node in EXAMPLE["nodes"] if node["type"] == kind and wanted(node))
    for kind, wanted in (
        ("SpeCaAccelerate", bool),
        ("KSampler", bool),
        ("SpeCaReport", bool),
        ("VAEDecode", bool),
        ("SaveImage", bool),
        ("EmptySD3LatentImage", bool),
        ("CLIPTextEncode", lambda node: node["widgets_values"][0]),
    )
)


def widget_values(settings):
    """Settings as a workflow holds them: in the order of the widgets."""
    values = []
    for value in settings.values():
        values += value.values() if isinstance(value, dict) else [value]
    return values


_spaces = iter(range(time.time_ns() % 1000, 10**9))  # a server that already runs has seen some


def demo(images=1, steps=12, text="", identity=None, pixels=128, settings=DEFAULT):
    """The example workflow, smaller.

    Args:
        settings: of the SpeCa node; the defaults, whatever the example has.
        text: added to the prompt: other words, or spaces to get past ComfyUI's cache.
        identity: the workflow's id.
        pixels: height and width; more make slower calls.
    """
    made = copy.deepcopy(EXAMPLE)
    nodes = {node["id"]: node for node in made["nodes"]}
    nodes[LATENT]["widgets_values"] = [pixels, pixels, images]
    nodes[SAMPLER]["widgets_values"][2] = steps
    nodes[PROMPT]["widgets_values"][0] += text
    nodes[ACCELERATE]["widgets_values"] = widget_values(settings)
    if identity:
        made["id"] = identity
    return made


def spaces():
    """Text that the demo's encoder ignores and ComfyUI's cache has not seen."""
    return " " * next(_spaces)


def fresh(**options):
    """The demo's workflow with an id of its own, which ComfyUI's cache has not seen."""
    return demo(text=spaces(), identity=str(uuid.uuid4()), **options)
