"""The live timeline in the node: what it shows, and what it survives."""

import json
import re

import pytest
from conftest import once, opened
from graphs import ACCELERATE, DEFAULT, REPORT, SAMPLER, demo, fresh

OTHER = {False: "canvas", True: "vue"}


def finished(page, **options):
    page.load(fresh(**options))
    assert page.queue() == "execution_success"
    return page.await_state(ACCELERATE, "measured")


def test_the_run_shows_live_and_then_measured(page):
    page.load(fresh(steps=28))
    empty = page.chart(ACCELERATE)
    assert (
        empty["state"] == "empty"
        and empty["visible"]
        and empty["height"] >= 90
        and empty["preset"] == "balanced"
    )
    page.start()
    live = page.await_state(ACCELERATE, "live")
    assert 0 < len(live["bars"]) <= 28
    page.await_state(ACCELERATE, "measured")
    page.answered()
    done = page.chart(ACCELERATE)
    assert (
        len(done["bars"]) == 28
        and {"computed", "accepted"} <= set(done["bars"])
        and done["gain"] > 1
    )
    said, *noted = page.note(REPORT, "report", "evaluations skipped").split("\n")
    assert re.fullmatch(r"\d\.\d× faster: saved \d\.\d s of \d\.\d s", said)
    counted = re.match(r"(\d+) of (\d+) evaluations skipped, \d+\.\d\d s", noted[0])
    accepted, evaluations = map(int, counted.groups())
    assert evaluations == 28  # whole predictions
    assert done["counts"] == f"computed {28 - accepted}, skipped {accepted}"  # as in the report
    assert re.fullmatch(r"\d\.\d× faster", done["head"])
    assert re.match(r"saved \d\.\d s of \d\.\d s · ", done["line"])


def test_the_diagnosis_can_be_read_and_copied(page):
    finished(page)
    page.note(REPORT, "report", "skipped")
    page.show(REPORT)
    page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.run("() => navigator.clipboard.writeText('before')")
    note = page.tab.get_by_label("SpeCa report", exact=True)
    note.get_by_role("button").click()
    text = note.get_by_role("textbox").input_value()
    assert text.startswith("SpeCa ") and "Flux" in text and '"threshold": ' in text
    page.until("async (text) => (await navigator.clipboard.readText()) === text", text)
    box = note.bounding_box()
    assert box["height"] > 200  # it made room


@once
def test_one_panel_per_image(page):
    done = finished(page, images=3)
    assert len(done["bars"]) == 3 * 12
    page.press(ACCELERATE, ".details")
    assert page.chart(ACCELERATE)["legend"] == []  # nothing of this kind is in it


@once
def test_it_is_no_part_of_the_prompt_and_shifts_no_widget(page):
    finished(page)
    prompt = page.run("() => app.graphToPrompt()")
    assert "timeline" not in json.dumps(prompt["output"])
    before = next(node for node in demo()["nodes"] if node["id"] == ACCELERATE)
    after = next(node for node in prompt["workflow"]["nodes"] if node["id"] == ACCELERATE)
    assert after["widgets_values"] == before["widgets_values"]


@once
def test_a_run_makes_no_undo_step(page):
    page.load(fresh())
    count = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
    page.tab.mouse.click(900, 820)
    before = page.run(count)
    page.queue()
    page.await_state(ACCELERATE, "measured")
    page.tab.mouse.click(900, 820)
    page.frames()
    assert page.run(count) == before


@once
def test_it_survives_tabs_collapsing_and_the_other_renderer(page):
    done = finished(page)
    page.blank()
    page.run("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    assert page.await_state(ACCELERATE, "measured")["run"] == done["run"]
    for _ in range(2):
        page.run("id => app.graph.getNodeById(id).collapse()", ACCELERATE)
        page.frames()
    vue = page.run("() => !!LiteGraph.vueNodesMode")
    for mode in (not vue, vue):
        page.run("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", mode)
        page.until(
            "([id, vue]) => vue === !!LiteGraph.vueNodesMode && timelineOf(id)?.checkVisibility()",
            [str(ACCELERATE), mode],
        )
        page.frames()
        now = page.chart(ACCELERATE)
        assert now["run"] == done["run"] and now["bars"] == done["bars"] and now["visible"], OTHER[
            mode
        ]


@once
def test_a_run_that_ends_while_another_tab_is_open_is_there_on_return(page):
    page.load(fresh(steps=28))
    page.start()
    page.await_state(ACCELERATE, "live")
    page.load(fresh())  # has the same node ids
    assert page.end() == "execution_success" and page.chart(ACCELERATE)["state"] == "empty"
    page.run("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    assert len(page.await_state(ACCELERATE, "measured")["bars"]) == 28


@once
def test_reload_and_drop_of_the_saved_workflow(page):
    done = finished(page)
    saved = page.run("() => app.graph.serialize()")
    (node,) = (node for node in saved["nodes"] if node["id"] == ACCELERATE)
    limits = {"speca_runs": 8000, "speca_profile": 16 * 1024}
    sizes = {
        name: len(json.dumps(node["properties"][name], separators=(",", ":"))) for name in limits
    }
    assert all(sizes[name] <= limits[name] for name in limits), sizes
    page.open()
    page.drop(json.dumps(saved).encode(), "saved.json", "application/json")
    shown = page.await_state(ACCELERATE, "measured")
    assert (shown["run"], shown["bars"], shown["gain"]) == (done["run"], done["bars"], done["gain"])


@once
@pytest.mark.parametrize("named", [False, True])
def test_a_workflow_of_a_version_with_one_knob_more_keeps_its_values(page, named):
    """The page gives values by place."""
    saved = "id => app.graph.getNodeById(id).serialize()"
    workflow = fresh(steps=8)
    (node,) = (node for node in workflow["nodes"] if node["id"] == ACCELERATE)
    page.load(workflow)
    shown = page.run(saved, ACCELERATE)
    expected, place = [0.1, *shown["widgets_values"][1:]], 2
    node["inputs"] = shown["inputs"]
    if named:  # else by 0.1.0, whose place of the knob shows in nothing but its value
        node["properties"].pop("speca_widgets", None)
        knob = {"name": "forecaster.knob", "type": "INT", "widget": {"name": "forecaster.knob"}}
        inputs = [i for i, entry in enumerate(node["inputs"]) if entry.get("widget")]
        node["inputs"].insert(inputs[place], {**knob, "link": None})
    node["widgets_values"] = [*expected[:place], 7, *expected[place:]]
    page.load(workflow)
    assert page.run(saved, ACCELERATE)["widgets_values"] == expected
    assert page.queue() == "execution_success"


def test_undo_and_a_pasted_copy_keep_the_run(page):
    done = finished(page)
    page.run(
        """id => {
            const node = app.graph.getNodeById(id);
            node.pos = [node.pos[0] + 40, node.pos[1]];
        }""",
        ACCELERATE,
    )
    page.run("() => app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
    page.run("() => app.extensionManager.workflow.activeWorkflow.changeTracker.undo()")
    page.drawn()
    assert page.chart(ACCELERATE)["run"] == done["run"] and page.chart(ACCELERATE)["visible"]
    page.note(REPORT, "report", "evaluations skipped")
    page.run(
        """id => {
            app.canvas.copyToClipboard([app.graph.getNodeById(id)]);
            app.canvas.pasteFromClipboard();
        }""",
        ACCELERATE,
    )
    page.drawn()
    copies = page.run(
        """() => app.graph.nodes.filter((node) => node.type === 'SpeCaAccelerate')
            .map((node) => String(node.id))"""
    )
    assert len(copies) == 2 and {page.chart(copy)["run"] for copy in copies} == {done["run"]}


@once
def test_two_nodes_and_two_samplers_do_not_mix(page):
    """One node feeds two samplers, a second one a third. Every run is shown by its node, and both
    runs of the first can be seen."""
    page.load(fresh())
    more = page.run(
        """([first, sampler]) => {
            const node = (id) => app.graph.getNodeById(id);
            const copy = (id) => {
                const made = node(id).clone();
                app.graph.add(made);
                return made;
            };
            const model = node(app.graph.links.get(node(first).inputs[0].link).origin_id);
            const from = (target, name) => {
                const input = node(sampler).inputs.find((entry) => entry.name === name);
                const link = app.graph.links.get(input.link);
                node(link.origin_id).connect(link.origin_slot, target, name);
            };
            const second = copy(first);
            model.connect(0, second, 'model');
            return [[node(first), 3], [second, 5]].map(([source, seed]) => {
                const other = copy(sampler);
                for (const name of ['positive', 'negative', 'latent_image']) from(other, name);
                source.connect(0, other, 'model');
                other.widgets.find((w) => w.name === 'seed').value = seed;
                const report = LiteGraph.createNode('SpeCaReport');
                app.graph.add(report);
                other.connect(0, report, 'latent');
                return [String(source.id), String(other.id)];
            });
        }""",
        [ACCELERATE, SAMPLER],
    )
    (_, second_sampler), (second_node, third_sampler) = more
    page.set(second_node, "threshold", 0.05)
    assert page.queue() == "execution_success"
    page.await_state(second_node, "measured")
    saved = {
        str(n["id"]): n["properties"].get("speca_runs")
        for n in page.run("() => app.graph.serialize()")["nodes"]
    }
    runs = {
        node: {run["ids"]["sampler"]: run for run in saved[node]}
        for node in (str(ACCELERATE), second_node)
    }
    assert set(runs[str(ACCELERATE)]) == {str(SAMPLER), second_sampler} and set(
        runs[second_node]
    ) == {third_sampler}
    thresholds = {run["report"]["settings"]["threshold"] for run in runs[str(ACCELERATE)].values()}
    assert (
        thresholds == {DEFAULT["threshold"]}
        and runs[second_node][third_sampler]["report"]["settings"]["threshold"] == 0.05
    )
    seen = set()
    for _ in range(2):
        seen.add(page.chart(ACCELERATE)["run"])
        page.press(ACCELERATE, ".sampler")
    assert seen == {run["ids"]["run"] for run in runs[str(ACCELERATE)].values()}


def test_inside_a_subgraph(page):
    """Whose node shows the speed-up in its title."""
    page.load(fresh(steps=28))
    outer = page.run(
        """(id) => {
            const made = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            return String(made.node.id);
        }""",
        ACCELERATE,
    )
    inner = page.run("id => String(app.graph.getNodeById(id).subgraph.nodes[0].id)", outer)
    assert page.queue() == "execution_success"
    done = page.await_state(f"{outer}:{inner}", "measured")
    # As a file: Playwright makes null of undefined, which no file holds.
    saved = json.loads(page.run("() => JSON.stringify(app.graph.serialize())"))
    page.load(saved)
    assert page.chart(f"{outer}:{inner}")["run"] == done["run"]
    assert f"{done['gain']:.1f}×" in page.badge(outer)
    page.run("id => app.canvas.setGraph(app.graph.getNodeById(id).subgraph)", outer)
    page.frames()
    page.run("() => app.canvas.setGraph(app.rootGraph)")
    page.frames()
    assert f"{done['gain']:.1f}×" in page.badge(outer)


@once
def test_wheel_and_middle_button_over_it_move_the_canvas(page):
    page.load(fresh())
    page.show(ACCELERATE)
    view = "() => ({scale: app.canvas.ds.scale, top: app.canvas.ds.offset[1]})"
    mouse = page.tab.mouse
    page.tab.get_by_label("SpeCa timeline", exact=True).hover()
    mouse.wheel(0, -120)
    page.until("() => app.canvas.ds.scale > 1")
    before = page.run(view)
    page.tab.get_by_label("SpeCa timeline", exact=True).hover()
    mouse.down(button="middle")
    mouse.move(700, 60, steps=4)
    mouse.up(button="middle")
    page.frames()
    after = page.run(view)
    assert after["scale"] == before["scale"] and after["top"] < before["top"] - 100
    mouse.move(800, 450)  # it has let go
    page.frames()
    assert page.run(view) == after


def test_settings_hide_it_and_choose_colours(page):
    page.load(fresh())
    change = "([name, value]) => app.extensionManager.setting.set('SpeCa.Timeline.' + name, value)"
    height = "id => app.graph.getNodeById(id).computeSize()[1]"
    before = page.run(height, ACCELERATE)
    page.run(change, ["Show", False])
    page.frames()
    assert not page.chart(ACCELERATE)["visible"] and page.run(height, ACCELERATE) < before - 100
    page.run("w => app.loadGraphData(w)", fresh())  # `load` waits until a timeline is drawn
    page.frames()
    assert not page.chart(ACCELERATE)["visible"]
    assert page.queue() == "execution_success"
    page.run(change, ["Show", True])
    done = page.await_state(ACCELERATE, "measured")
    page.run(change, ["Colours", "grey"])
    page.frames()
    shown = page.chart(ACCELERATE)
    assert shown["visible"] and shown["bars"] == done["bars"] != []
    colour = """id => getComputedStyle(timelineOf(id).shadowRoot.querySelector('.card'))
        .getPropertyValue('--rejected')"""
    assert page.run(colour, ACCELERATE) == "currentColor"
    page.run(change, ["Colours", "colour-blind safe"])


def test_a_reload_in_mid_run_keeps_the_live_timeline(comfy, chromium):
    """The page restores its graph; the next event brings the calls from before."""
    with opened(comfy, chromium, vue=True, **{"Comfy.Workflow.Persist": True}) as page:
        page.load(
            fresh(steps=200, pixels=512)
        )  # slow calls: it is not over before the page is back
        page.start()
        before = page.await_state(ACCELERATE, "live")
        page.open()
        page.await_state(ACCELERATE, "live")
        page.run("() => app.api.interrupt(null)")
        after = page.await_state(ACCELERATE, "stopped")
        assert after["run"] == before["run"] and len(before["bars"]) < len(after["bars"]) < 200
        assert after["bars"][: len(before["bars"])] == before["bars"]  # from the first call on
        # Of an event that came before the extension was there.
        page.messages = [told for told in page.messages if "Unknown message type" not in told]


def test_a_failure_is_told_in_the_node_until_something_is_changed(page):
    page.load(fresh())
    for name, value in (("start", 0.9), ("end", 0.5)):
        page.set(ACCELERATE, name, value)
    assert page.queue() == "execution_error"
    told = page.await_state(ACCELERATE, "failed")
    assert (
        told["line"]
        == "SpeCa: start is 0.9 and end is 0.5; expected start < end. Move start down or end up."
    )
    page.set(ACCELERATE, "end", 1.0)
    assert "start is" not in page.await_state(ACCELERATE, "empty")["line"]


@once
def test_hundreds_of_calls_fit(page):
    """The console stays empty, which the fixture looks at."""
    page.load(fresh(steps=500))
    page.start()
    page.until(
        "id => timelineOf(id)?.shadowRoot.querySelectorAll('.bar').length >= 20",
        str(ACCELERATE),
    )
    page.run("() => app.api.interrupt(null)")
    stopped = page.await_state(ACCELERATE, "stopped")
    assert len(stopped["bars"]) < 500 and page.end() == "execution_interrupted"


@once
def test_an_interrupted_run_says_so(page):
    page.load(fresh(steps=200, images=2))
    page.start()
    page.await_state(ACCELERATE, "live")
    page.run("() => app.api.interrupt(null)")
    stopped = page.await_state(ACCELERATE, "stopped")
    assert 0 < len(stopped["bars"]) < 2 * 200
    assert stopped["head"] == "Stopped early" and "saved" not in stopped["line"]
    assert page.end() == "execution_interrupted"
