"""The pure modules, in the browser that runs them."""

from conftest import once

pytestmark = once

PACKED = {
    "schema": 1,
    "steps": 4,
    "finished": False,
    "calls": {
        "columns": ["index", "position", "rows"],
        "values": [
            [0, 0.0, [[0, 0, "computed", None, None, 0.3], [0, 1, "computed", None, None, None], [1, 0, "drafted", 0.1, 0.2, None]]],
            [1, 1.0, [[0, 0, "drafted", 0.1, 0.2, None], [0, 1, "rejected", None, 0.15, None]]],
        ],
    },
    "row_columns": ["image", "branch", "verdict", "error", "tolerance", "hindcast"],
}


def call(page, module, script, argument=None):
    return page.run(f"async (argument) => {{ const m = await import('/extensions/speca/lib/{module}.js'); {script} }}", argument)


def test_reports_unpack_as_python_packs_them(page):
    report = call(page, "report", "return m.unpack(argument)", PACKED)
    assert report["calls"][1]["rows"][1] == {
        "image": 0, "branch": 1, "verdict": "rejected", "error": None, "tolerance": 0.15, "hindcast": None,
    }  # fmt: skip
    assert "row_columns" not in report and report["steps"] == 4


def test_an_image_shows_its_branches_worst(page):
    panels = call(page, "report", "return m.panelsOf(m.unpack(argument))", {**PACKED})
    assert [panel["image"] for panel in panels] == [0, 1]
    first, second = panels[0]["bars"]
    assert (first["verdict"], first["hindcast"], first["error"]) == ("computed", 0.3, None)
    assert (second["verdict"], second["error"], second["tolerance"], second["infinite"]) == ("rejected", 0.1, 0.15, True)
    assert panels[1]["bars"][0]["verdict"] == "drafted" and panels[1]["bars"][1] is None


def test_the_length_of_a_run_is_foreseen(page):
    assert call(page, "report", "return m.expectedCalls(m.unpack(argument))", PACKED) == 4
    assert call(page, "report", "return m.expectedCalls({...m.unpack(argument), finished: true})", PACKED) == 2


def test_gain_is_none_without_a_full_call(page):
    script = "return m.gainOf({seconds: argument})"
    assert call(page, "report", script, {"spent": 2, "plain_estimate": 3}) == {"speedup": 1.5, "saved": 1, "plain": 3}
    assert call(page, "report", script, {"spent": 2, "plain_estimate": None}) is None


def test_settings_are_the_same_whatever_their_order(page):
    script = "return m.same(...argument)"
    assert call(page, "report", script, [{"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1.0}])
    assert not call(page, "report", script, [{"a": 1}, {"a": 1, "b": None}])


def test_an_older_record_agrees_with_settings_that_it_does_not_know(page):
    script = "return m.agrees(...argument)"
    now = {"threshold": 0.1, "budget": {"name": "target", "warmup": 3, "give_up": 4}, "guided": True}
    assert call(page, "report", script, [now, now])
    assert call(page, "report", script, [{"threshold": 0.1, "budget": {"name": "target", "warmup": 3}}, now])
    assert not call(page, "report", script, [{"threshold": 0.1, "budget": {"name": "target", "warmup": 4}}, now])
    assert not call(page, "report", script, [{**now, "level": "features"}, now])


def test_settings_are_what_the_widgets_hold_unless_a_link_feeds_one(page):
    script = """
        const widget = (name, value, more) => ({name, value, ...more});
        const widgets = [
            widget('threshold', 0.1), widget('forecaster', 'newton'), widget('forecaster.order', 2), widget('verifier', 'none'),
            widget('budget', 'interval'), widget('budget.interval', 3), widget('new_one', true), widget('timeline', '', {serialize: false}),
        ];
        const node = {widgets, inputs: [{widget: {name: 'threshold'}, link: null}]};
        const plain = m.settingsOf(node);
        m.writeSettings(node, {...plain, threshold: 0.3, budget: {name: 'interval', interval: 5}, new_one: false});
        const written = m.settingsOf(node);
        node.inputs[0].link = 7;
        return {plain, written, linked: m.settingsOf(node)};
    """
    found = call(page, "settings", script)
    assert found["plain"] == {
        "threshold": 0.1, "forecaster": {"name": "newton", "order": 2}, "verifier": {"name": "none"},
        "budget": {"name": "interval", "interval": 3}, "new_one": True,
    }  # fmt: skip
    assert found["written"] == {**found["plain"], "threshold": 0.3, "budget": {"name": "interval", "interval": 5}, "new_one": False}
    assert found["linked"] is None


def test_of_each_sampler_the_newest_run_stays_with_its_prediction(page):
    script = """
        const run = (run, sampler, threshold) => ({ids: {node: '7', sampler, run}, ended: true, report: {settings: {threshold}}});
        const runs = new m.Runs();
        runs.take(run('a', '8', 0.2));
        runs.take(run('b', '9', 0.2));
        runs.take(run('c', '8', 0.1), {settings: {threshold: 0.1}, outcome: 'guessed'});
        runs.take(run('d', '9', 0.3), {settings: {threshold: 0.1}, outcome: 'guessed'});
        runs.take(run('c', '8', 0.1), null);
        const list = runs.list.map((r) => [r.ids.run, r.predicted ?? null]), shown = [runs.shown.ids.run];
        runs.next(); shown.push(runs.shown.ids.run); runs.next(); shown.push(runs.shown.ids.run);
        return {list, shown};
    """
    assert call(page, "runs", script) == {"list": [["d", None], ["c", "guessed"]], "shown": ["c", "d", "c"]}


def test_a_workflow_without_an_id_has_no_key(page):
    ids = ["00000000-0000-0000-0000-000000000000", "", None, "a0"]
    assert call(page, "runs", "return argument.map((id) => m.workflowKey(id))", ids) == ["", "", "", "a0"]


def test_every_language_has_every_word(page):
    keys = "return argument.map((locale) => Object.keys(m.wordsOf(locale)).sort())"
    english, chinese, taiwan, unknown = call(page, "words", keys, ["en", "zh", "zh-TW", "xx"])
    assert english == chinese == taiwan == unknown
    assert call(page, "words", "return ['xx', 'zh'].map((locale) => m.wordsOf(locale).computed)") == ["computed", "\u8ba1\u7b97"]
