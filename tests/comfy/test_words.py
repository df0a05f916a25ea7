"""Every widget of every node has a label and a tooltip in each language, and its help page names it
with all its values."""

import json

import pytest
from conftest import PACK
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.config import PRESETS
from speca_pack.speca_core.settings import Entry, OneOf, settings_of

ZH = json.loads((PACK / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
NODES = ("SpeCaAccelerate", "SpeCaCalibrate", "SpeCaReport", "SpeCaCompare")
SETTINGS = settings_of(SpecaConfig)
ENTRIES = {name: rule.table for name, (_, rule) in SETTINGS.items() if isinstance(rule, Entry)}
OPTIONS = {name: rule.options for name, (_, rule) in SETTINGS.items() if isinstance(rule, OneOf)}
NESTED = {
    (name, setting)
    for name, table in ENTRIES.items()
    for entry in table.values()
    for setting in settings_of(entry)
}
every_node = pytest.mark.parametrize("node", NODES)


def inputs_of(nodes, node):
    """Names of a node's inputs."""
    return [widget.id for widget in nodes[node].GET_SCHEMA().inputs]


def help_pages(node):
    pages = node, f"{node}/zh"
    return [(PACK / f"web/docs/{page}.md").read_text(encoding="utf-8") for page in pages]


def test_all_nodes_and_settings_are_looked_at(nodes):
    assert set(nodes) == set(NODES)
    assert inputs_of(nodes, "SpeCaAccelerate") == ["model", *SETTINGS]


@every_node
def test_the_translation_has_just_the_widgets(nodes, node):
    wanted = set(inputs_of(nodes, node))
    if node == "SpeCaAccelerate":
        wanted |= {f"{combo}_{setting}" for combo, setting in NESTED}
    words = ZH[node]
    assert set(words["inputs"]) == wanted
    for entry in [*words["inputs"].values(), *words["outputs"].values()]:
        assert entry["name"] and entry["tooltip"]
    assert words["display_name"] and words["description"]
    assert len(words["outputs"]) == len(nodes[node].GET_SCHEMA().outputs)


@pytest.mark.parametrize(("combo", "table"), [*ENTRIES.items(), *OPTIONS.items()])
def test_a_choice_explains_each_of_its_values(combo, table):
    lines = ZH["SpeCaAccelerate"]["inputs"][combo]["tooltip"].splitlines()[1:]
    assert [line.partition("\N{FULLWIDTH COLON}")[0] for line in lines] == list(table)


@every_node
def test_both_help_pages_name_every_widget_and_value(nodes, node):
    names = {name for name in inputs_of(nodes, node) if name != "model"}
    if node == "SpeCaAccelerate":
        names |= {setting for _, setting in NESTED}
        names |= {value for table in (*ENTRIES.values(), *OPTIONS.values()) for value in table}
    for page in help_pages(node):
        assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def shown(value, switch):
    """A default as the help pages write it."""
    if isinstance(value, bool):
        return switch[value]
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value['name'] if isinstance(value, dict) else value}`"


def test_both_help_pages_give_the_present_defaults():
    pages = zip(help_pages("SpeCaAccelerate"), (("off", "on"), ("关", "开")), strict=True)
    for page, switch in pages:
        lines = [line for line in page.splitlines() if line.count("|") == 4]
        rows = [[cell.strip() for cell in line.split("|")] for line in lines]
        for name, value in SpecaConfig().to_dict().items():
            if name not in ("start", "end"):  # which share a row
                (cell,) = [row[2] for row in rows if f"`{name}`" in row[1]]
                assert (name, cell) == (name, shown(value, switch))
        for name in PRESETS:
            assert f"`threshold` {SpecaConfig.build(PRESETS[name]).threshold:g}" in page
