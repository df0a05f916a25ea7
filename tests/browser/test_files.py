"""Files tell their own run, old ones open with their values, and the ones that come along load."""

import copy
import json
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from conftest import PACK, ask, once, opened
from graphs import ACCELERATE, COMPARE, DECODE, SAMPLER, SAVE, START, fresh
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd import changed, json_values, places

RECORDED = json.loads((PACK / "tests/web/report_0_1_0.json").read_text(encoding="utf-8"))
SAVED = json.loads((Path(__file__).parent / "saved_0_1_0.json").read_text(encoding="utf-8"))
SHIPPED = json.loads((Path(__file__).parent / "compare_0_1_0.json").read_text(encoding="utf-8"))
BLUEPRINT = json.loads((PACK / "subgraphs/SpeCa compare.json").read_text(encoding="utf-8"))
EXAMPLES = [*sorted((PACK / "example_workflows").glob("*.json")), START]
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)

# Pairs of nodes that lie on each other, each with its title above it.
OVERLAPS = """() => app.graph.nodes.flatMap((a, i) => app.graph.nodes.slice(i + 1).filter((b) => {
    const before = (a, b, side, title) => a.pos[side] + a.size[side] <= b.pos[side] - title;
    const apart = (side, title) => before(a, b, side, title) || before(b, a, side, title);
    return !apart(0, 0) && !apart(1, LiteGraph.NODE_TITLE_HEIGHT);
}).map((b) => `${a.title} and ${b.title}`))"""


def fetch(address):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address) as answer:
        return answer.read()


def pictures(page, node):
    """What a node showed or saved in the newest run, as bytes."""
    (entry,) = ask(page.address, "/history?max_items=1").values()
    return [
        fetch(f"{page.address}/view?{urllib.parse.urlencode(image)}")
        for image in entry["outputs"][str(node)]["images"]
    ]


@once
def test_a_picture_tells_its_own_run(page):
    page.load(fresh())
    assert page.queue() == "execution_success"
    first, first_picture = page.await_state(ACCELERATE, "measured"), pictures(page, SAVE)[0]
    page.set(ACCELERATE, "threshold", 0.1)
    assert page.queue() == "execution_success"
    page.until(
        "([id, old]) => window.timelineOf(id).dataset.run !== old", [str(ACCELERATE), first["run"]]
    )
    second, second_picture = page.await_state(ACCELERATE, "measured"), pictures(page, SAVE)[0]
    assert first["run"] != second["run"]
    for data, run in ((first_picture, first), (second_picture, second)):
        page.blank()
        page.drop(data, "picture.png", "image/png")
        page.until("id => window.timelineOf(id)?.dataset.state === 'measured'", str(ACCELERATE))
        shown = page.chart(ACCELERATE)
        assert (shown["run"], shown["bars"], shown["gain"]) == (
            run["run"],
            run["bars"],
            run["gain"],
        )


def test_a_workflow_saved_by_0_1_0_opens_with_its_values_and_runs(page):
    page.load(SAVED)
    prompt = page.run("() => app.graphToPrompt()")["output"][str(ACCELERATE)]["inputs"]
    values = {key: value for key, value in prompt.items() if key != "model"}
    assert values == {
        "threshold": 0.35,
        "forecaster": "spline",
        "forecaster.anchors": 5,
        "verifier": "last_block",
        "budget": "threshold",
        "budget.warmup": 4,
        "budget.max_streak": 5,
        "budget.protect_last": False,
        "budget.give_up": 2,
        "budget.decay": 0.7,
        "budget.floor": 0.2,
        "budget.min_streak": 1,
        "budget.deferred": True,
        "start": 0.1,
        "end": 0.9,
        "hindsight": False,
        "guided": False,
        "level": "features",
    }
    # It has numbers for them, and 0 == False.
    assert values["budget.protect_last"] is False and values["budget.deferred"] is True
    shown = page.chart(ACCELERATE)
    assert shown["state"] == "measured" and len(shown["bars"]) == 12 and "accepted" in shown["bars"]
    assert page.queue() == "execution_success"
    page.until("([id, old]) => timelineOf(id).dataset.run !== old", [str(ACCELERATE), shown["run"]])
    assert page.await_state(ACCELERATE, "measured")["bars"]


@once
def test_an_example_of_0_1_0_opens_with_its_values_and_runs(page):
    """Its nodes list their inputs in another order than their values."""
    page.load(SHIPPED)
    prompt = page.run("() => app.graphToPrompt()")["output"].values()
    made = [node["inputs"] for node in prompt if node["class_type"] == "SpeCaAccelerate"]
    values = {
        "forecaster": "newton",
        "forecaster.order": 2,
        "forecaster.damping": 0.5,
        "verifier": "embedded",
        "budget": "accumulated",
        "budget.warmup": 3,
        "budget.max_streak": 6,
        "budget.protect_last": True,
        "budget.give_up": 4,
        "start": 0,
        "end": 1,
        "hindsight": True,
        "guided": True,
        "level": "auto",
    }
    assert {node["threshold"] for node in made} == {0, 0.1}
    assert [node | values for node in made] == made
    assert page.queue() == "execution_success"


@once
def test_a_run_recorded_by_0_1_0_is_drawn_in_todays_words(page):
    workflow = fresh()
    (node,) = (entry for entry in workflow["nodes"] if entry["id"] == ACCELERATE)
    node["properties"]["speca_runs"] = [{**RUN, "report": RECORDED}]
    page.load(workflow)
    page.answered()
    # Its settings are not those of the widgets: a forecaster of its own, so there is no what-if.
    shown = page.await_state(ACCELERATE, "measured")
    assert shown["counts"] == "computed 52, skipped 28"
    assert set(shown["bars"]) == {"accepted", "computed", "rejected"} and len(shown["bars"]) == 40
    assert shown["legend"] == []
    page.press(ACCELERATE, ".details")
    assert page.chart(ACCELERATE)["legend"] == ["tried, then computed", "tolerance"]


RUN = {
    "ids": {"prompt": "", "workflow": "", "node": str(ACCELERATE), "sampler": "8", "run": "old"},
    "ended": True,
    "report": {
        **RECORDED,
        "calls": {**RECORDED["calls"], "values": RECORDED["calls"]["values"][:2]},
    },
}
CARRIED = {"speca_runs": [RUN], "speca_widgets": ["threshold"], "speca_profile": {"profiles": []}}


@once
def test_a_page_opens_whatever_lies_at_the_node(page):
    workflow = fresh()
    (node,) = (entry for entry in workflow["nodes"] if entry["id"] == ACCELERATE)
    shown = "id => [app.graph.nodes.length, app.graph.getNodeById(id).widgets.length]"
    page.load(workflow)
    whole = page.run(shown, ACCELERATE)

    @settings(deadline=None, max_examples=40, database=None)
    @given(path=st.sampled_from([*places(CARRIED)]), other=json_values)
    @example(path=("speca_runs",), other=5)
    @example(path=("speca_runs",), other=[None, {}])
    @example(path=("speca_runs", 0, "report", "steps"), other=2_000_000)
    def opens(path, other):
        node["properties"] = changed(CARRIED, path, other)
        page.load(workflow)
        assert page.run(shown, ACCELERATE) == whole

    opens()
    # The server refuses what-ifs about such runs, and the browser tells of it.
    page.messages[:] = [message for message in page.messages if "400 (Bad" not in message]


@once
@each_example
def test_example_workflows_load_whole(page, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".jpg").stat().st_size < 150_000
    page.load(workflow)
    loaded = page.run("() => app.graph.serialize()")
    assert (
        page.run(
            """() => app.graph.nodes.map((node) => node.type)
                .filter((type) => !(type in LiteGraph.registered_node_types))"""
        )
        == []
    )
    ends = {(link[1], link[2], link[3], link[4]) for link in workflow["links"]}
    assert {(link[1], link[2], link[3], link[4]) for link in loaded["links"]} == ends
    assert page.run(OVERLAPS) == []
    prompt = page.run("() => app.graphToPrompt()")["output"]
    kinds = {node["class_type"] for node in prompt.values()}
    assert {"SpeCaAccelerate", "SpeCaReport"} <= kinds
    types = {
        node["id"]: {i["name"]: i.get("link") for i in node["inputs"]} for node in loaded["nodes"]
    }
    info = ask(page.address, "/object_info")
    for (
        identity,
        node,
    ) in prompt.items():  # every input that a node cannot do without has a link or a value
        for name in info[node["class_type"]]["input"].get("required", {}):
            assert name in node["inputs"], (
                identity,
                node["class_type"],
                name,
                types[int(identity)],
            )


@each_example
def test_an_example_workflow_can_be_read_as_it_opens(path):
    """The page fits a template into three quarters of the window, and writes no text of less than
    8 pixels; here at 1440 x 900, of which the tabs take some."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    wide, tall = (
        max(node["pos"][side] + node["size"][side] for node in nodes)
        - min(node["pos"][side] for node in nodes)
        for side in (0, 1)
    )
    assert 14 * 0.75 * min(1440 / wide, 860 / tall) >= 8


def test_example_workflows_say_where_their_models_are():
    """As ComfyUI's own templates do: it offers the missing ones for download."""
    for path in EXAMPLES:
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        files = {
            value
            for node in nodes
            if "Loader" in node["type"]
            for value in node["widgets_values"]
            if str(value).endswith(".safetensors")
        }
        links = {
            model["name"]: model["url"]
            for node in nodes
            for model in node["properties"].get("models", ())
        }
        (note,) = (node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
        bundled = {"flux_scenes.safetensors", "scenes_vae.safetensors"}
        assert set(links) == files - bundled and files
        assert all(url.endswith(f"/{name}") and url in note for name, url in links.items())


@once
def test_the_subgraph_blueprint_compares(page):
    """As shipped, put in as the page does it, with the demo's model and prompts connected."""
    blueprints = ask(page.address, "/global_subgraphs")
    assert any(entry["name"] == "SpeCa compare" for entry in blueprints.values())
    page.load(fresh())
    made = page.run(
        """([blueprint, sampler, decode]) => {
            const graph = app.graph;
            const items = {nodes: blueprint.nodes, subgraphs: blueprint.definitions.subgraphs};
            const made = app.canvas._deserializeItems(items, {position: [0, 0]});
            const [node] = made.nodes.values();
            const source = (id, name) => {
                const input = graph.getNodeById(id).inputs.find((entry) => entry.name === name);
                const link = graph.links.get(input.link);
                return [graph.getNodeById(link.origin_id), link.origin_slot];
            };
            const accelerate = source(sampler, 'model')[0];
            const from = {
                model: source(accelerate.id, 'model'), vae: source(decode, 'vae'),
            };
            for (const name of ['positive', 'negative', 'latent_image'])
                from[name] = source(sampler, name);
            for (const [name, [origin, slot]] of Object.entries(from))
                origin.connect(slot, node, name);
            node.widgets.find((widget) => widget.name === 'steps').value = 6;
            const others = ['KSampler', 'SpeCaReport', 'SaveImage', 'VAEDecode'];
            for (const other of graph.nodes.filter(({type}) => others.includes(type)))
                graph.remove(other);
            const show = LiteGraph.createNode('PreviewAny');
            graph.add(show);
            node.connect(node.findOutputSlot('text'), show, 0);
            return String(node.id);
        }""",
        [BLUEPRINT, SAMPLER, DECODE],
    )
    assert page.queue() == "execution_success"
    (entry,) = ask(page.address, "/history?max_items=1").values()
    texts = [
        text
        for node, shown in entry["outputs"].items()
        if node.startswith(made)
        for text in shown.get("text", [])
    ]
    assert any("measured speed-up" in text for text in texts), entry["outputs"]


@once
def test_compare_shows_its_numbers(page):
    page.load(copy.deepcopy(COMPARE))
    assert page.queue() == "execution_success"
    node = page.run("() => app.graph.nodes.find((node) => node.type === 'SpeCaCompare').id")
    text = page.note(node, "compare", "PSNR")
    assert "dB" in text and "measured speed-up" in text and "unknown" not in text


def test_help_and_words_in_another_language(comfy, chromium):
    with opened(comfy, chromium, vue=True, **{"Comfy.Locale": "zh"}) as page:
        page.load(fresh())
        assert "\u8bf7\u70b9\u51fb\u8fd0\u884c" in page.chart(ACCELERATE)["line"]
        titles = page.run(
            "kinds => kinds.map((kind) => LiteGraph.registered_node_types[kind].title)",
            ["SpeCaAccelerate", "SpeCaReport"],
        )
        assert titles == ["SpeCa", "SpeCa \u62a5\u544a"]
        labels = page.run(
            "id => app.graph.getNodeById(id).widgets.map((widget) => widget.label ?? widget.name)",
            ACCELERATE,
        )
        assert [label for label in labels if label.isascii()] == [
            "timeline"
        ]  # knobs of the combos as well
        for name in ("SpeCaAccelerate", "SpeCaReport", "SpeCaCompare"):
            for page_of_help in (f"{name}.md", f"{name}/zh.md"):
                assert len(fetch(f"{comfy}/extensions/speca/docs/{page_of_help}")) > 500
