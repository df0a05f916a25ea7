"""Dragging a setting predicts its effect at once; presets write the widgets; a run shows its
prediction beside its outcome."""

from conftest import once, opened
from graphs import ACCELERATE, CONFIG, DEFAULT, PROMPT, fresh, spaces


def measured(page):
    page.load(fresh(steps=28))
    assert page.queue() == "execution_success"
    return page.await_state(ACCELERATE, "measured")


def drag(page, start, end, moves=15):
    """Drag the threshold's slider with the mouse."""
    if page.run("() => !!LiteGraph.vueNodesMode"):
        box = page.tab.locator(
            f'[data-node-id="{ACCELERATE}"] [aria-label="threshold"]'
        ).first.bounding_box()
        left, width, height = box["x"], box["width"], box["y"] + box["height"] / 2
    else:
        left, width, height = page.run(
            """(id) => {
                const node = app.graph.getNodeById(id), {scale, offset} = app.canvas.ds;
                const canvas = app.canvas.canvas.getBoundingClientRect();
                const widget = node.widgets.find((w) => w.name === 'threshold');
                const x = (node.pos[0] + 15 + offset[0]) * scale + canvas.left;
                const y = (node.pos[1] + widget.y + 10 + offset[1]) * scale;
                return [x, (node.size[0] - 30) * scale, y + canvas.top];
            }""",
            ACCELERATE,
        )
    mouse = page.tab.mouse
    mouse.move(left + width * start, height)
    mouse.down()
    for i in range(1, moves + 1):
        mouse.move(left + width * (start + (end - start) * i / moves), height)
        page.frames(1)
    mouse.up()


def value(page, name):
    return page.run(
        "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name)?.value",
        [ACCELERATE, name],
    )


def test_dragging_redraws_without_queueing_and_the_outcome_stands_beside_the_prediction(page):
    before = measured(page)
    queued = page.run("() => asked['/prompt']")
    assert queued  # so that none would be seen
    drag(page, DEFAULT["threshold"], DEFAULT["threshold"] / 4)
    assert value(page, "threshold") < DEFAULT["threshold"] / 2
    page.answered()
    guess = page.await_state(ACCELERATE, "whatif")
    assert guess["draws"] - before["draws"] >= 3 and page.run("() => asked['/prompt']") == queued
    assert guess["gain"] < before["gain"] and f"now {before['gain']:.1f}×" in guess["line"]
    assert guess["head"] == f"≈{guess['gain']:.1f}× if you run again"
    assert guess["bars"].count("accepted") < before["bars"].count("accepted")
    assert page.queue() == "execution_success"
    after = page.await_state(ACCELERATE, "measured")
    assert after["run"] != before["run"] and "faster" in after["head"]


def test_questions_are_small_and_one_at_a_time(page):
    """The run's report stays where it is."""
    measured(page)
    page.answered()
    page.run(
        """() => {
            const ask = app.api.fetchApi;
            Object.assign(window, {sent: [], most: 0});
            let open = 0;
            app.api.fetchApi = async function (path, options) {
                if (path !== '/speca/what_if') return ask.apply(this, arguments);
                sent.push(options.body.length);
                most = Math.max(most, ++open);
                try { return await ask.apply(this, arguments) } finally { open-- }
            };
        }"""
    )
    cell = "id => (window.kept = timelineOf(id).shadowRoot.querySelector('.bar')) && 0"
    page.run(cell, str(ACCELERATE))
    drag(page, DEFAULT["threshold"], 0.4)
    page.answered()
    sent, most, kept = page.run("() => [sent, most, kept.isConnected]")
    assert sent and max(sent) < 600 and most == 1 and kept


@once
def test_a_server_that_forgot_the_run_gets_its_report(page):
    measured(page)
    saved = page.run("() => app.graph.serialize()")
    for node in saved["nodes"]:
        for run in node["properties"].get("speca_runs", []):
            run["ids"]["run"] = "forgotten"
    page.load(saved)
    page.set(ACCELERATE, "threshold", 0.2)
    page.answered()
    assert page.await_state(ACCELERATE, "whatif")["run"] == "forgotten"


def test_each_quality_shows_its_speed_on_this_graph(page):
    page.load(fresh(steps=28))
    assert set(page.chart(ACCELERATE)["qualities"].values()) == {"–"}
    assert page.queue() == "execution_success"
    page.await_state(ACCELERATE, "measured")
    page.answered()
    page.frames()
    shown = page.chart(ACCELERATE)
    speeds = [float(text.rstrip("×")) for text in shown["qualities"].values()]
    assert list(shown["qualities"]) == list(CONFIG.PRESETS)
    assert speeds == sorted(speeds) and speeds[0] >= 1 and speeds[-1] > speeds[0] + 0.3
    page.press(ACCELERATE, "[data-preset=draft]")
    page.answered()
    guess = page.await_state(ACCELERATE, "whatif")
    assert guess["gain"] == speeds[-1] and guess["preset"] == "draft"
    if guess["tone"] == "bad":  # the one button that helps
        page.press(ACCELERATE, ".cure")
        assert page.chart(ACCELERATE)["preset"] in ("fast", "balanced", "faithful")


def test_a_speed_that_will_change_the_picture_is_not_promised_in_the_title(page):
    measured(page)
    for threshold, tone in ((0.07, ""), (0.7, "bad")):
        page.set(ACCELERATE, "threshold", threshold)
        page.answered()
        assert page.await_state(ACCELERATE, "whatif")["tone"] == tone
        assert ("≈" in page.badge(ACCELERATE)) == (tone != "bad")


@once
def test_back_at_the_measured_settings_the_run_is_shown_again(page):
    before = measured(page)
    page.set(ACCELERATE, "threshold", 0.2)
    page.answered()
    guess = page.await_state(ACCELERATE, "whatif")
    assert guess["bars"].count("accepted") > before["bars"].count("accepted")
    page.set(ACCELERATE, "threshold", DEFAULT["threshold"])
    assert page.await_state(ACCELERATE, "measured")["bars"] == before["bars"]


@once
def test_a_knob_has_its_what_if_and_another_verifier_has_none(page):
    before = measured(page)
    page.set(ACCELERATE, "start", 0.5)
    fewer = page.await_state(ACCELERATE, "whatif")
    assert set(fewer["bars"][:13]) == {"computed"} and "accepted" in before["bars"][:13]
    page.set(ACCELERATE, "start", DEFAULT["start"])
    page.await_state(ACCELERATE, "measured")
    page.set(ACCELERATE, "verifier", "last_block")
    page.until(
        """id => timelineOf(id).shadowRoot.querySelector('.line')
            .textContent.includes('run again')""",
        str(ACCELERATE),
    )
    assert page.chart(ACCELERATE)["bars"] == before["bars"]


@once
def test_presets_write_the_widgets(page):
    page.load(fresh())
    for name, changed in CONFIG.PRESETS.items():
        settings = CONFIG.SpecaConfig.build(changed).to_dict()
        button = """([id, name]) => timelineOf(id).shadowRoot
            .querySelector(`[data-preset='${name}']`)"""
        page.press(ACCELERATE, f"[data-preset={name}]")
        page.until(f"(which) => ({button})(which).ariaPressed === 'true'", [ACCELERATE, name])
        prompt = page.run("() => app.graphToPrompt()")["output"][str(ACCELERATE)]["inputs"]
        for part in ("forecaster", "verifier", "budget"):
            expected = {
                part if knob == "name" else f"{part}.{knob}": entry
                for knob, entry in settings[part].items()
            }
            assert {
                key: entry for key, entry in prompt.items() if key.split(".")[0] == part
            } == expected
        plain = {key: entry for key, entry in settings.items() if not isinstance(entry, dict)}
        assert {key: prompt[key] for key in plain} == plain
    page.set(ACCELERATE, "threshold", 0.33)
    page.frames()
    assert page.chart(ACCELERATE)["preset"] is None


def test_without_presets_the_timeline_works_all_the_same(comfy, chromium):
    with opened(comfy, chromium, vue=False) as page:
        page.tab.route("**/speca/presets", lambda route: route.abort())
        warned = []
        page.tab.on("console", lambda message: warned.append(message.text))
        page.open()
        measured(page)
        assert page.chart(ACCELERATE)["preset"] is None
        buttons = "id => timelineOf(id).shadowRoot.querySelectorAll('.quality').length"
        assert page.run(buttons, str(ACCELERATE)) == 0
        assert any("the server did not send the presets" in text for text in warned)
        # The browser itself reports the request.
        assert page.errors and all("Failed to load resource" in text for text in page.errors)
        page.messages.clear()


@once
def test_a_linked_setting_is_no_what_if(page):
    """What the widget shows is not what will be used, so it predicts nothing."""
    measured(page)
    page.run(
        """(id) => {
            const number = LiteGraph.createNode('PrimitiveFloat');
            app.graph.add(number);
            number.widgets[0].value = 0.4;
            number.connect(0, app.graph.getNodeById(id), 'threshold');
        }""",
        ACCELERATE,
    )
    asked = page.run("() => asked['/speca/what_if']")
    page.set(ACCELERATE, "start", 0.5)
    page.answered()
    assert (
        page.chart(ACCELERATE)["state"] == "measured"
        and page.run("() => asked['/speca/what_if']") == asked
    )
    page.run(
        "([id, text]) => { app.graph.getNodeById(id).widgets[0].value += text }", [PROMPT, spaces()]
    )
    assert page.queue() == "execution_success"
    page.await_state(ACCELERATE, "measured")
    saved = next(
        n for n in page.run("() => app.graph.serialize()")["nodes"] if n["id"] == ACCELERATE
    )
    assert saved["properties"]["speca_runs"][0]["report"]["settings"]["threshold"] == 0.4
