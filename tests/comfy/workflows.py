"""ComfyUI's official workflow templates as prompts: what the page does when one presses Run, small.

A template is a saved canvas: nodes with a list of widget values, links by number, subgraphs. A
prompt names every node's inputs. Only what a sampler needs is kept; loaders and encoders give
way to tiny ones, and pictures to small ones.
"""

import importlib.metadata
import importlib.util
import json
import re
from pathlib import Path

import nodes as core

INTO, OUT_OF = -10, -20  # the ids that stand for a subgraph's own inputs and outputs
MUTED, BYPASSED = 2, 4
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
GUIDED = (
    "KSampler",
    "KSamplerAdvanced",
    "SamplerCustom",
    "BasicGuider",
    "CFGGuider",
    "DualCFGGuider",
)


def template(name):
    """The text of a template, from the packages that this version's package of templates is made
    of."""
    packages = [
        re.match(r"[\w.-]+", line)[0].replace("-", "_")
        for line in importlib.metadata.requires("comfyui-workflow-templates")
    ]
    folders = [
        Path(spec.origin).parent
        for package in packages
        if (spec := importlib.util.find_spec(package))
    ]
    (found,) = {path.resolve() for folder in folders for path in folder.rglob(f"{name}.json")}
    return json.loads(found.read_text(encoding="utf-8"))


class Canvas:
    """One level of a template: the whole, or the inside of a subgraph's node.

    Args:
        graph: nodes and links. subgraphs: definitions by id. path: prefix of its nodes' names.
            outer: the canvas around it, and the node there that stands for this one.
    """

    def __init__(self, graph, subgraphs, path="", outer=None):
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.links = {}
        for link in graph["links"]:
            values = (
                link
                if isinstance(link, list)
                else [
                    link[k] for k in ("id", "origin_id", "origin_slot", "target_id", "target_slot")
                ]
            )
            self.links[values[0]] = values[1:5]
        self.graph, self.path, self.outer = graph, path, outer
        self.inner = {
            node["id"]: Canvas(
                subgraphs[node["type"]], subgraphs, f"{path}{node['id']}:", (self, node)
            )
            for node in graph["nodes"]
            if node["type"] in subgraphs
        }

    def source(self, link):
        """(canvas, node, slot) that a link starts from; None if nothing is there."""
        if link is None or link not in self.links:
            return None
        origin, slot, *_ = self.links[link]
        if origin == INTO:
            name = self.graph["inputs"][slot]["name"]
            canvas, node = self.outer
            return canvas.source(
                next((i.get("link") for i in node["inputs"] if i["name"] == name), None)
            )
        if origin in self.inner:
            inside = self.inner[origin]
            (end, *_) = [
                n
                for n, (_, _, target, at) in inside.links.items()
                if target == OUT_OF and at == slot
            ]
            return inside.source(end)
        node = self.nodes[origin]
        if node["type"] == "Reroute" or node.get("mode") == BYPASSED:
            kind = node["outputs"][slot]["type"]
            through = next(
                (i for i in node["inputs"] if node["type"] == "Reroute" or i["type"] == kind), None
            )
            return self.source(through["link"]) if through else None
        return None if node.get("mode") == MUTED else (self, node, slot)

    def all(self):
        """Every living node with its canvas, those in subgraphs too."""
        for node in self.nodes.values():
            if node["id"] in self.inner:
                yield from self.inner[node["id"]].all() if node.get("mode", 0) == 0 else ()
            elif node.get("mode", 0) == 0:
                yield self, node


def widgets(node):
    """Values of a node's widgets by name, as the page lists them: in the order of the inputs, a
    seed's rule after the seed."""
    kinds = core.NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
    values, made = list(node.get("widgets_values") or []), {}
    for name, spec in {**kinds.get("required", {}), **kinds.get("optional", {})}.items():
        options = spec[1] if len(spec) > 1 else {}
        if not (isinstance(spec[0], list) or spec[0] in WIDGETS) or options.get("forceInput"):
            continue
        if values:
            made[name] = values.pop(0)
        elif "default" in options:  # younger than the template
            made[name] = options["default"]
        if (
            options.get("control_after_generate")
            and values
            and values[0] in ("fixed", "increment", "decrement", "randomize")
        ):
            values.pop(0)
    return made


def prompt_of(name, replaced):
    """(prompt, names of its samplers) of a template.

    Args:
        name: of the template.
        replaced: (node, slot, type of the output) -> [class, inputs] of what gives it instead, or
            None to keep the node.
    """
    made, samplers = {}, []
    data = template(name)
    whole = Canvas(
        data, {graph["id"]: graph for graph in data.get("definitions", {}).get("subgraphs", [])}
    )

    def visit(canvas, node):
        name = f"{canvas.path}{node['id']}"
        if name in made:
            return name
        entry = made[name] = {"class_type": node["type"], "inputs": widgets(node)}
        for held in node.get("inputs", []):
            source = canvas.source(held.get("link"))
            if source is None:
                continue
            where, giver, slot = source
            kind = giver["outputs"][slot]["type"]
            if instead := replaced(giver, slot, kind):
                stand_in = f"{where.path}{giver['id']}:{slot}"
                made[stand_in] = {"class_type": instead[0], "inputs": instead[1]}
                entry["inputs"][held["name"]] = [stand_in, 0]
            elif giver["type"].startswith("LoraLoader") and kind in ("MODEL", "CLIP"):
                through = next(i for i in giver["inputs"] if i["type"] == kind)
                entry["inputs"][held["name"]] = visit_through(where, giver, through)
            else:
                entry["inputs"][held["name"]] = [visit(where, giver), slot]
        return name

    def visit_through(canvas, node, held):
        """The input of a node that is left out, in place of its output."""
        probe = {
            "id": f"{node['id']}.",
            "type": "PreviewAny",
            "inputs": [{**held, "name": "source"}],
            "widgets_values": [],
        }
        return made.pop(visit(canvas, probe))["inputs"]["source"]

    for canvas, node in whole.all():
        if node["type"] in SAMPLERS:
            samplers.append(visit(canvas, node))
    return made, samplers
