"""What a person meets: the widgets in sight, the badge, the way to the first faster picture, and
the original beside it."""

import io
import json
import re
import time

import pytest
from conftest import ask, once
from graphs import ACCELERATE, CONFIG, DECODE, PROMPT, SAMPLER, fresh
from PIL import Image
from playwright.sync_api import expect

IN_SIGHT = ["threshold", "forecaster", "verifier", "budget"]
# Names of the widgets that are drawn, in either renderer.
DRAWN = """id => {
    const node = app.graph.getNodeById(id);
    const names = node.widgets.map(({name}) => name).filter((name) => name !== 'timeline');
    if (!LiteGraph.vueNodesMode) {
        const laid = node.getLayoutWidgets();
        return node.widgets.filter((w) => node.isWidgetVisible(w) && laid.includes(w))
            .map(({name}) => name).filter((name) => name !== 'timeline');
    }
    const shown = document.querySelector(`[data-node-id="${id}"]`);
    return names.filter((name) => shown.querySelector(`[aria-label="${name}"]`)
        ?? [...shown.querySelectorAll('*')].some((e) => e.textContent === name));
}"""


def face(page, selector):
    return f"timelineOf('{ACCELERATE}').shadowRoot.querySelector('{selector}')"


def drawn(page, wanted):
    """Names of the widgets that are drawn, once they are as many as wanted: some come later."""
    page.until(f"([id, count]) => ({DRAWN})(id).length >= count", [ACCELERATE, len(wanted)])
    return page.run(DRAWN, ACCELERATE)


def test_the_threshold_and_three_choices_are_in_sight_and_the_rest_is_folded(page):
    page.load(fresh())
    page.show(ACCELERATE)
    height = "id => app.graph.getNodeById(id).size[1]"
    least = (
        "id => { const n = app.graph.getNodeById(id); n.setSize([n.size[0], n.computeSize()[1]]) }"
    )
    page.run(least, ACCELERATE)  # what unfolds has no room
    folded = page.run(height, ACCELERATE)
    assert drawn(page, IN_SIGHT) == IN_SIGHT
    if page.run("() => !!LiteGraph.vueNodesMode"):
        toggle = page.tab.locator(f'[data-node-id="{ACCELERATE}"]').get_by_test_id(
            "advanced-inputs-button"
        )
        toggle.click()
    else:
        assert page.chart(ACCELERATE)["advanced"] == "Show advanced settings"
        page.press(ACCELERATE, ".advanced")
    every = {*IN_SIGHT, "verifier.bar", "start", "end", "hindsight", "guided", "level"}
    assert {*drawn(page, every)} == every
    if not page.run("() => !!LiteGraph.vueNodesMode"):
        assert page.run(height, ACCELERATE) > folded + 80
        page.press(ACCELERATE, ".advanced")
        assert page.run(DRAWN, ACCELERATE) == IN_SIGHT
        assert page.run(height, ACCELERATE) == folded


@once
def test_the_knobs_of_another_choice_are_folded_too(page):
    page.load(fresh())
    page.set(ACCELERATE, "forecaster", "newton")
    page.frames()
    names = page.run("id => app.graph.getNodeById(id).widgets.map(({name}) => name)", ACCELERATE)
    assert "forecaster.order" in names and page.run(DRAWN, ACCELERATE) == IN_SIGHT


def test_the_first_picture_teaches_and_then_each_button_knows_its_speed(page):
    """To a prompt with another guidance the model is another one."""
    page.load(fresh(steps=28))
    page.run(
        """([prompt, sampler, guidance]) => {
            const node = LiteGraph.createNode('FluxGuidance');
            app.graph.add(node);
            node.widgets[0].value = guidance;
            app.graph.getNodeById(prompt).connect(0, node, 0);
            node.connect(0, app.graph.getNodeById(sampler), 'positive');
        }""",
        [PROMPT, SAMPLER, round(time.time() % 99, 3)],
    )
    assert "teaches SpeCa your model" in page.chart(ACCELERATE)["line"]
    page.start()
    live = page.await_state(ACCELERATE, "live")
    assert live["head"] == "Learning your model…" and "accepted" not in live["bars"]
    assert page.end() == "execution_success"
    page.await_state(ACCELERATE, "measured")
    page.answered()
    page.frames()
    taught = page.chart(ACCELERATE)
    assert taught["head"] == "SpeCa knows your model" and taught["original"] == ""
    promised = float(taught["qualities"]["balanced"].rstrip("×"))
    assert promised > 1.2 and f"≈{promised:.1f}× faster" in taught["line"]
    page.set(ACCELERATE, "threshold", 0.1)
    assert page.await_state(ACCELERATE, "whatif")["original"] == ""  # the picture is the plain one
    page.set(ACCELERATE, "threshold", CONFIG.SpecaConfig().threshold)
    assert page.queue() == "execution_success"  # though nothing has changed
    page.until("([id, old]) => timelineOf(id).dataset.run !== old", [ACCELERATE, taught["run"]])
    assert "faster" in page.await_state(ACCELERATE, "measured")["head"]


def test_the_speed_up_is_in_the_title_also_when_collapsed(page):
    page.load(fresh(steps=28))
    assert page.queue() == "execution_success"
    gain = page.await_state(ACCELERATE, "measured")["gain"]
    page.show(ACCELERATE)
    for _ in range(2):
        assert f"{gain:.1f}×" in page.badge(ACCELERATE)
        page.run("id => app.graph.getNodeById(id).collapse()", ACCELERATE)
        page.frames()
    page.load(fresh())
    assert "×" not in page.badge(ACCELERATE)


@once
def test_a_collapsed_nodes_speed_up_lies_below_its_title(page):
    """Above it ComfyUI writes the pack's name."""
    page.load(fresh(steps=28))
    assert page.queue() == "execution_success"
    page.await_state(ACCELERATE, "measured")
    top = page.run(
        """id => {
            const node = app.graph.getNodeById(id);
            node.collapse();
            const context = document.createElement('canvas').getContext('2d'), tops = [];
            context.roundRect = (left, top) => tops.push(top);
            node.onDrawTitle(context);
            return tops;
        }""",
        ACCELERATE,
    )
    assert len(top) == 1 and top[0] > 0


def test_no_text_is_cut_in_a_narrow_node(page):
    page.load(fresh())
    page.set(SAMPLER, "sampler_name", "euler_ancestral")
    page.run("id => app.graph.getNodeById(id).setSize([225, 100])", ACCELERATE)
    assert page.queue() == "execution_success"
    told = page.await_state(ACCELERATE, "measured")
    assert told["head"] == "No time saved"
    assert told["line"].startswith("euler_ancestral adds new noise")
    page.show(ACCELERATE)
    cut = f"""() => {{
        const host = timelineOf('{ACCELERATE}'), body = host.shadowRoot.querySelector('.body');
        const inside = [...body.querySelectorAll('.head, .line, .quality, .count, button')];
        return [body.getBoundingClientRect().bottom - host.getBoundingClientRect().bottom,
                inside.filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).length];
    }}"""
    beyond, cut_off = page.run(cut)
    assert beyond < 1 and cut_off == 0


@once
def test_a_sampler_that_speca_cannot_see_is_told(page):
    page.load(fresh(steps=20))
    page.set(SAMPLER, "sampler_name", "euler_cfg_pp")
    assert page.queue() == "execution_success"
    told = page.await_state(ACCELERATE, "measured")
    assert (
        told["line"].startswith("With this sampler SpeCa leaves every step to the model")
        and not told["cure"]
    )


@once
def test_an_error_of_speca_in_the_sampler_is_told_by_the_node(page):
    page.load(fresh())
    page.run(
        """([accelerate, sampler]) => {
            const node = LiteGraph.createNode('EasyCache');
            app.graph.add(node);
            app.graph.getNodeById(accelerate).connect(0, node, 0);
            node.connect(0, app.graph.getNodeById(sampler), 0);
        }""",
        [ACCELERATE, SAMPLER],
    )
    ended = page.queue()
    if ended == "execution_success":
        pytest.fail("EasyCache after SpeCa is no error any more: another cache has to be found")
    told = page.await_state(ACCELERATE, "failed")
    assert told["line"].startswith("SpeCa: another cache is on this model")


def test_the_original_stands_beside_the_picture_in_one_click(page):
    page.load(fresh(steps=28))
    assert page.queue() == "execution_success"
    done = page.await_state(ACCELERATE, "measured")
    page.until(f"() => !{face(page, '.original')}.hidden")
    widgets = """() => app.graph.serialize().nodes.map(({id, mode, widgets_values}) =>
        JSON.stringify([id, mode, widgets_values])).sort()"""
    before = page.run(widgets)
    outputs = """() => app.graph.nodes.map(({id}) =>
        JSON.stringify([id, app.nodeOutputs[id]])).sort()"""
    shown = page.run(outputs)
    assert any("output" in each for each in shown)  # the saved picture
    page.press(ACCELERATE, ".original")
    dialog = page.tab.locator("dialog")
    dialog.locator("img").nth(1).wait_for()
    told = {
        "labels": dialog.locator(".stage span").all_inner_texts(),
        "psnr": dialog.locator(".told span").inner_text(),
        "loaded": dialog.locator("img").evaluate_all("all => all.map((img) => img.naturalWidth)"),
    }
    assert told["labels"][0].startswith("original · ") and told["labels"][1].startswith("SpeCa · ")
    psnr = re.search(r"PSNR ([\d.]+) dB$", told["psnr"])[1]
    assert 20 < float(psnr) < 90  # the same seed and prompt, and not the same
    assert told["loaded"] == [128, 128]
    assert page.run(widgets) == before and page.chart(ACCELERATE)["run"] == done["run"]
    assert page.run(outputs) == shown
    dialog.locator(".close").click()
    expect(dialog).to_have_count(0)


@once
def test_an_original_that_is_taken_out_of_the_queue_is_given_up(page):
    page.load(fresh(steps=28))
    assert page.queue() == "execution_success"
    page.await_state(ACCELERATE, "measured")
    page.until(f"() => !{face(page, '.original')}.hidden")
    said = []
    page.tab.once("dialog", lambda alert: (said.append(alert.message), alert.accept()))
    # Another graph keeps the server busy: this one without SpeCa, and long.
    page.run(
        """async id => {
            const [{prompt}] = Object.values(await (await app.api.fetchApi('/history')).json())
                .slice(-1), graph = prompt[2];
            for (const {inputs} of Object.values(graph)) {
                if (inputs.steps) inputs.steps = 900;
                if (inputs.model?.[0] === id) inputs.model = graph[id].inputs.model;
            }
            const body = JSON.stringify({prompt: graph});
            await app.api.fetchApi('/prompt', {method: 'POST', body});
        }""",
        str(ACCELERATE),
    )
    page.press(ACCELERATE, ".original")
    page.until("async () => (await app.api.getQueue()).Pending.length")
    page.run("() => app.api.clearItems('queue')")
    page.run("() => app.api.interrupt(null)")
    page.until(f"() => {face(page, '.original')}.textContent === 'Compare with original'")
    assert said == ["The picture could not be made: it was taken out of the queue"]


def brightest(stage):
    """Of the middle of a stage, 0 to 255: it has captions above, and round corners."""
    picture = Image.open(io.BytesIO(stage.screenshot())).convert("L")
    width, height = picture.size
    return max(picture.crop((width // 4, height // 4, width * 3 // 4, height)).getextrema())


def test_the_contact_sheet_shows_the_picture_at_every_quality(page):
    page.load(fresh(steps=28))
    assert page.queue() == "execution_success"
    done = page.await_state(ACCELERATE, "measured")
    page.until(f"() => !{face(page, '.original')}.hidden")
    page.press(ACCELERATE, ".original")
    dialog = page.tab.locator("dialog")
    dialog.locator(".sheet").click()
    tiles = dialog.locator(".tile")
    tiles.nth(4).locator("img").wait_for()
    names = tiles.locator("b").all_inner_texts()
    said = tiles.locator("small").all_inner_texts()
    assert names == ["original", "Faithful", "Balanced", "Fast", "Draft"]
    assert said[0].endswith(" s · identical")  # and not "1.0× faster"
    psnrs = [float(re.search(r"PSNR ([\d.]+) dB", each)[1]) for each in said[1:]]
    assert psnrs[0] > psnrs[2] > psnrs[3] > 15  # other pictures, each of the same seed
    assert page.chart(ACCELERATE)["run"] == done["run"]  # the node shows the run of its own graph
    shown = dialog.locator(".told span")
    tiles.last.click()
    assert shown.inner_text() in said[-1]  # it is on the stage
    tiles.first.click()
    assert shown.inner_text().endswith("identical")
    captions = dialog.locator(".stage span").all_inner_texts()
    assert [each.split(" · ")[0] for each in captions] == ["original", "original"]
    dialog.get_by_role("button", name="Difference").click()
    assert brightest(dialog.locator(".stage")) == 0  # of the original and itself
    tiles.last.click()
    assert brightest(dialog.locator(".stage")) > 100
    dialog.locator(".close").click()
    expect(dialog).to_have_count(0)


@once
def test_without_a_picture_there_is_nothing_to_compare(page):
    made = fresh(steps=28)
    page.load(made)
    page.run(
        """([decode, types]) => {
            for (const node of app.graph.nodes.filter(({type}) => types.includes(type)))
                app.graph.remove(node);
        }""",
        [DECODE, ["SaveImage", "VAEDecode"]],
    )
    with page.tab.expect_response(lambda told: "/history/" in told.url and told.json()):
        assert page.queue() == "execution_success"
    assert "faster" in page.await_state(ACCELERATE, "measured")["head"]
    page.frames()
    assert page.chart(ACCELERATE)["original"] == ""


@pytest.mark.parametrize("words", ["speca", "speed", "faster"])
def test_words_that_people_type_find_the_node_first(page, words):
    page.blank()
    page.run("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.tab.get_by_role("dialog").get_by_role("combobox").fill(words)
    first = page.tab.get_by_role("option").first
    expect(first).to_have_text(re.compile(r"^SpeCa\n"), use_inner_text=True)
    page.tab.keyboard.press("Enter")
    expect(page.tab.get_by_role("dialog")).to_have_count(0)
    page.tab.mouse.click(700, 450)
    page.until("() => app.graph.nodes.length && !app.graph.nodes[0].flags.ghost")
    assert page.run("() => app.graph.nodes[0].type") == "SpeCaAccelerate"


@once
@pytest.mark.parametrize("words", ["cache", "turbo"])
def test_words_that_other_nodes_are_named_by_find_the_node_too(page, words):
    page.blank()
    page.run("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.tab.get_by_role("dialog").get_by_role("combobox").fill(words)
    found = page.tab.get_by_role("option").filter(has_text=re.compile(r"^\s*SpeCa"))
    expect(found.first).to_be_visible()
    page.tab.keyboard.press("Escape")


# The nodes that a node covers, or that cover it.
COVERED = """id => {
    const {pos: [x, y], size: [w, h]} = app.graph.getNodeById(id);
    return app.graph.nodes
        .filter(({id: other, pos, size}) => String(other) !== String(id) && pos[0] < x + w
            && x < pos[0] + size[0] && pos[1] < y + h && y < pos[1] + size[1])
        .map(({type}) => type).join();
}"""


@once
@pytest.mark.parametrize("kind", ["KSampler", "UNETLoader"])
def test_the_menu_of_a_sampler_or_a_loader_puts_the_node_into_the_models_link(page, kind):
    page.load(fresh())
    page.run("id => app.graph.remove(app.graph.getNodeById(id))", ACCELERATE)
    page.run(
        """id => app.graph.nodes.find(({type}) => type === 'UNETLoader')
            .connect(0, app.graph.getNodeById(id), 0)""",
        SAMPLER,
    )
    entry = """kind => app.collectNodeMenuItems(app.graph.nodes.find(({type}) => type === kind))
        .find((item) => item?.content === 'Speed up with SpeCa')"""
    page.run(f"kind => ({entry})(kind).callback()", kind)
    assert page.run(f"kind => !({entry})(kind)", kind)  # it is there
    made = page.run("() => app.graph.nodes.find(({type}) => type === 'SpeCaAccelerate').id")
    assert not page.run(COVERED, made)
    assert page.queue() == "execution_success"
    assert page.await_state(made, "measured")["bars"]
    assert not page.run(COVERED, made)  # by what the timeline has grown


@once
@pytest.mark.parametrize(
    ("crowded", "moved"), [(False, [0, 0]), (True, [0, 0]), (False, [9000, 0]), (False, [0, 9000])]
)
def test_the_node_that_the_menu_makes_is_in_sight_beside_its_source_or_below(page, crowded, moved):
    """`moved`: the view, by so many pixels to the right and down, before the menu is used."""
    page.load(fresh())
    page.run(
        """([node, sampler, crowded, [right, down]]) => {
            app.graph.remove(app.graph.getNodeById(node));
            const loader = app.graph.nodes.find(({type}) => type === 'UNETLoader');
            loader.connect(0, app.graph.getNodeById(sampler), 0);
            const [left, top] = [loader.pos[0] + loader.size[0], loader.pos[1]];
            app.graph.nodes.forEach((each, i) => {
                if (each !== loader) each.pos = [left + 500, top + 300 * i];
            });
            if (crowded) {
                const note = LiteGraph.createNode('MarkdownNote');
                app.graph.add(note);
                Object.assign(note, { pos: [left + 100, top - 300], size: [300, 1500] });
            }
            app.canvas.ds.offset[0] -= right;
            app.canvas.ds.offset[1] -= down;
            app.canvas.setDirty(true, true);
        }""",
        [ACCELERATE, SAMPLER, crowded, moved],
    )
    page.run("() => paintings(3)")
    page.run(
        """() => app.collectNodeMenuItems(app.graph.nodes.find(({type}) => type === 'UNETLoader'))
            .find((item) => item?.content === 'Speed up with SpeCa').callback()"""
    )
    page.run("() => paintings(3)")
    made, below, seen = page.run(
        """() => {
            const of = (wanted) => app.graph.nodes.find(({type}) => type === wanted);
            const [node, loader] = [of('SpeCaAccelerate'), of('UNETLoader')];
            const [left, top, wide, tall] = app.canvas.visible_area;
            const within = node.pos[0] + node.size[0] <= left + wide && node.pos[1] >= top
                && node.pos[0] >= left && node.pos[1] + node.size[1] <= top + tall;
            return [node.id, node.pos[1] > loader.pos[1], within];
        }"""
    )
    assert (below, seen) == (crowded, True)
    assert not page.run(COVERED, made)


@once
def test_the_menu_offers_nothing_where_the_model_leaves_a_subgraph(page):
    page.load(fresh())
    page.run("id => app.graph.remove(app.graph.getNodeById(id))", ACCELERATE)
    offered = page.run(
        """id => {
            const loader = app.graph.nodes.find(({type}) => type === 'UNETLoader');
            loader.connect(0, app.graph.getNodeById(id), 0);
            const {subgraph} = app.graph.convertToSubgraph(new Set([loader]));
            return app.collectNodeMenuItems(subgraph.nodes[0])
                .some((item) => item?.content === 'Speed up with SpeCa');
        }""",
        SAMPLER,
    )
    assert not offered


@once
def test_what_was_learned_can_be_seen_handed_on_and_forgotten(page, tmp_path):
    page.load(fresh())
    page.run(
        """id => app.collectNodeMenuItems(app.graph.getNodeById(id))
            .find((item) => item?.content === 'What SpeCa has learned').callback()""",
        ACCELERATE,
    )
    dialog = page.tab.locator("dialog")
    rows = dialog.locator(".profiles .told")
    rows.first.wait_for()
    count = rows.count()
    assert re.match(r"Flux\s*CFG [\d.]+, plain runs: \d+ · ", rows.first.inner_text())
    with page.tab.expect_download() as loading:
        rows.first.locator("a").click()
    saved = tmp_path / loading.value.suggested_filename
    loading.value.save_as(saved)
    name = json.loads(saved.read_text(encoding="utf-8"))["name"]
    assert name in ask(page.address, "/speca/profiles")
    page.tab.once("dialog", lambda question: question.dismiss())
    rows.first.locator(".forget").click()
    assert name in ask(page.address, "/speca/profiles")
    page.tab.once("dialog", lambda question: question.accept())
    rows.first.locator(".forget").click()
    expect(rows).to_have_count(count - 1)
    assert name not in ask(page.address, "/speca/profiles")
    dialog.locator("input").set_input_files(saved)
    expect(rows).to_have_count(count)
    assert name in ask(page.address, "/speca/profiles")
    dialog.locator(".close").click()
