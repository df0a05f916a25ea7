"""Every widget of every node has a label and a tooltip in each language, and its help page names it
with all its values."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from speca_core import SpecaConfig
from speca_core.budgets import BUDGETS
from speca_core.config import LEVELS
from speca_core.forecasters import FORECASTERS
from speca_core.settings import settings_of
from speca_core.verifiers import VERIFIERS

PACK = Path(__file__).resolve().parents[2]
ZH = json.loads((PACK / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
NODES = {"SpeCaAccelerate": "accelerate", "SpeCaReport": "report", "SpeCaCompare": "compare"}
CHOICES = {"forecaster": FORECASTERS, "verifier": VERIFIERS, "budget": BUDGETS, "level": LEVELS}


def inputs_of(node):
    """Names of a node's inputs, as its file declares them."""
    source = (PACK / f"nodes/{NODES[node]}.py").read_text(encoding="utf-8")
    return re.findall(r'(?:io\.\w+\.Input|choice)\(\s*"(\w+)"', source)


def knobs():
    """(combo, knob) of every widget that a combo brings along."""
    return {
        (combo, knob)
        for combo in ("forecaster", "verifier", "budget")
        for entry in CHOICES[combo].values()
        for knob in settings_of(entry)
    }


def help_pages(node):
    return [
        (PACK / f"web/docs/{page}.md").read_text(encoding="utf-8") for page in (node, f"{node}/zh")
    ]


def test_all_nodes_and_settings_are_looked_at():
    assert {path.stem for path in (PACK / "nodes").glob("*.py")} == {"__init__", *NODES.values()}
    assert set(inputs_of("SpeCaAccelerate")) == {
        "model",
        *(field.name for field in fields(SpecaConfig)),
    }


@pytest.mark.parametrize("node", NODES)
def test_the_translation_has_just_the_widgets(node):
    wanted = set(inputs_of(node)) | (
        {f"{combo}_{knob}" for combo, knob in knobs()} if node == "SpeCaAccelerate" else set()
    )
    assert set(ZH[node]["inputs"]) == wanted
    assert all(
        entry["name"] and entry["tooltip"]
        for entry in [*ZH[node]["inputs"].values(), *ZH[node]["outputs"].values()]
    )
    assert ZH[node]["display_name"] and ZH[node]["description"]
    source = (PACK / f"nodes/{NODES[node]}.py").read_text(encoding="utf-8")
    assert len(ZH[node]["outputs"]) == len(re.findall(r"io\.\w+\.Output\(", source))


@pytest.mark.parametrize("combo", CHOICES)
def test_a_choice_explains_each_of_its_values(combo):
    tooltip = ZH["SpeCaAccelerate"]["inputs"][combo]["tooltip"]
    assert [line.partition("\N{FULLWIDTH COLON}")[0] for line in tooltip.splitlines()[1:]] == list(
        CHOICES[combo]
    )


@pytest.mark.parametrize("node", NODES)
def test_both_help_pages_name_every_widget_and_value(node):
    names = {name for name in inputs_of(node) if name != "model"}
    if node == "SpeCaAccelerate":
        names |= {knob for _, knob in knobs()} | {
            value for table in CHOICES.values() for value in table
        }
    for page in help_pages(node):
        assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def shown(value, switch):
    """A default as the help pages write it."""
    if isinstance(value, bool):
        return switch[value]
    return (
        f"{value:g}"
        if isinstance(value, float)
        else f"`{value['name'] if isinstance(value, dict) else value}`"
    )


def test_both_help_pages_give_the_present_defaults():
    presets = json.loads((PACK / "web/presets.json").read_text(encoding="utf-8"))["presets"]
    for page, switch in zip(
        help_pages("SpeCaAccelerate"), (("off", "on"), ("关", "开")), strict=True
    ):
        rows = [
            [cell.strip() for cell in line.split("|")]
            for line in page.splitlines()
            if line.count("|") == 4
        ]
        for name, value in SpecaConfig().to_dict().items():
            if name not in ("start", "end"):  # which share a row
                (cell,) = [row[2] for row in rows if f"`{name}`" in row[1]]
                assert (name, cell) == (name, shown(value, switch))
        for name in ("quality", "balanced", "fast"):
            assert f"`threshold` {presets[name]['threshold']:g}" in page
