// A run's report as the chart needs it. nodes/runtime/page/timeline.py has the same rules for the
// picture of SpeCa Report. Pure: no DOM, no ComfyUI.

export const SEVERITY = ["accepted", "computed", "rejected"]; // an image shows its branches' worst
export const MOST_IMAGES = 6; // that are drawn in detail

// Words of release 0.1.0, and their successors.
const SUCCESSORS = { drafted: "accepted", resting: "backoff", joint: "coupled" };

/**
 * A report's JSON from its packed form, as `unpack` of speca_core/report_json.py makes it; what the
 * page shows of one of 0.1.0 is in today's words.
 */
export function unpack({ row_columns: columns, ...packed }) {
  const objects = (names, values) =>
    values.map((entry) => Object.fromEntries(names.map((name, i) => [name, entry[i]])));
  const today = (row) => row.map((value) => SUCCESSORS[value] ?? value);
  const calls = objects(packed.calls.columns, packed.calls.values);
  for (const call of calls) call.rows = objects(columns, call.rows.map(today));
  return { ...packed, calls, totals: { accepted: packed.totals.drafted, ...packed.totals } };
}

const MOST_CALLS = 2000; // and steps
const MOST_ROWS = 20_000;

/** Whether a run can be shown that came with a workflow: those are what anybody's program writes. */
export function legible(run) {
  try {
    const { ids, report } = run;
    const { calls, steps, settings, totals, seconds } = unpack(report);
    const times = calls.flatMap((call) => [call.position, call.seconds]);
    const numbers = [steps, seconds.sampling, settings.threshold, totals.rows, ...times];
    return (
      [ids.node, ids.sampler, ids.run].every((id) => typeof id === "string") &&
      Math.max(calls.length, steps) <= MOST_CALLS &&
      calls.flatMap(({ rows }) => rows).length <= MOST_ROWS &&
      numbers.every((number) => Number.isFinite(number) && number >= 0)
    );
  } catch {
    return false;
  }
}

/** An image in a call: its branches' worst verdict and error, under their strictest tolerance. */
function barOf(rows) {
  const known = (name) => rows.map((row) => row[name]).filter((value) => value !== null);
  const pick = (name, choose) => (known(name).length ? choose(...known(name)) : null);
  return {
    verdict: SEVERITY.findLast((verdict) => rows.some((row) => row.verdict === verdict)),
    error: pick("error", Math.max),
    tolerance: pick("tolerance", Math.min),
    hindcast: pick("hindcast", Math.max),
    // JSON has no infinity. A checked draft is rejected without an error only if that was infinite.
    infinite: rows.some((row) => row.reason === "rejected" && row.error === null),
    reasons: [...new Set(rows.map((row) => row.reason))],
  };
}

/** One list of bars per image, in the order of the calls; null where a call lacks the image. */
export function panelsOf({ calls }) {
  const byImage = calls.map(({ rows }) => Object.groupBy(rows, ({ image }) => image));
  const images = Object.keys(Object.assign({}, ...byImage)).map(Number); // which are in order
  return images.map((image) => ({
    image,
    bars: byImage.map((rows) => (rows[image] ? barOf(rows[image]) : null)),
  }));
}

export const isComputed = (bar) => bar && bar.verdict !== "accepted";

/** Of a batch, the image that took the most calls: {image, calls}; null if none stands out. */
export function hardestOf(report) {
  const [most, next] = panelsOf(report)
    .map(({ image, bars }) => ({ image, calls: bars.filter(isComputed).length }))
    .sort((a, b) => b.calls - a.calls);
  return next && most.calls > next.calls ? most : null;
}

/** The error at the top of all panels: room above the tolerances, and bars up to twice as tall. */
export function scaleOf(panels) {
  const largest = (name) =>
    Math.max(0, ...panels.flatMap(({ bars }) => bars.map((bar) => bar?.[name] ?? 0)));
  const tolerance = largest("tolerance");
  const error = Math.max(largest("error"), largest("hindcast"));
  const most = 2 * tolerance || Number.POSITIVE_INFINITY;
  return Math.max(1.15 * tolerance, Math.min(1.15 * error, most)) || 1;
}

/**
 * The height of a bar, from 0 to 1: the draft's error; if the call was computed, the error a draft
 * would have had.
 */
export function shareOf(bar, scale) {
  if (bar.infinite) return 1;
  const value = bar.verdict === "computed" ? bar.hindcast : bar.error;
  return Math.min((value ?? 0) / scale, 1);
}

/** So many steps have begun. */
export function stepsBegun({ calls, steps }) {
  return Math.min(steps, Math.floor(calls.at(-1)?.position ?? -1) + 1);
}

/** The number of calls of the whole run, estimated from the calls so far. */
export function expectedCalls(report) {
  const { length } = report.calls;
  if (report.finished || !length) return length;
  return Math.max(length, Math.round((length * report.steps) / (stepsBegun(report) || 1)));
}

/** The speed-up over the plain model, and the seconds saved; null if no call was fully computed. */
export function gainOf(report) {
  const { spent, plain_estimate: plain } = report.seconds;
  return plain && spent ? { speedup: plain / spent, saved: plain - spent, plain } : null;
}

const STRICT = ["rejected", "backoff", "budget"]; // a higher threshold helps

/** Why a run accepted no draft: the most frequent reason; null if it accepted some. */
export function whyNothing(report) {
  if (report.totals.accepted) return null;
  const reasons = report.calls.flatMap(({ rows }) => rows.map(({ reason }) => reason));
  const groups = Object.groupBy(reasons, (name) => (STRICT.includes(name) ? "threshold" : name));
  const [[most] = [null]] = Object.entries(groups).sort(([, a], [, b]) => b.length - a.length);
  return most === "profile" && groups.jump ? "jump" : most;
}

/** Whether two settings (or any plain JSON) are the same. */
export const same = (a, b) => agrees(a, b) && agrees(b, a);

/**
 * Whether settings are those of a record. A setting that an older record lacks does not count, and
 * some of its switches are 0 or 1.
 */
export function agrees(recorded, settings) {
  if (typeof settings === "boolean") return Boolean(recorded) === settings;
  if (!(recorded instanceof Object)) return recorded === settings;
  return Object.entries(recorded).every(([key, value]) => agrees(value, settings?.[key]));
}
