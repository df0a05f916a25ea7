// A run's report as the chart needs it. Pure: no DOM, no ComfyUI.

const SEVERITY = ["drafted", "computed", "rejected"];

/** The report's JSON from its packed form; the other half is speca_core/packed.py. */
export function unpack(packed) {
  const objects = (columns, values) => values.map((entry) => Object.fromEntries(columns.map((name, i) => [name, entry[i]])));
  const calls = objects(packed.calls.columns, packed.calls.values);
  for (const call of calls) call.rows = objects(packed.row_columns, call.rows);
  const { row_columns, ...rest } = packed;
  return { ...rest, calls };
}

/** What one call did to one image: its branches' worst verdict and error, under their strictest tolerance. */
export function barOf(rows) {
  const known = (name) => rows.map((row) => row[name]).filter((value) => value !== null);
  const pick = (name, choose) => (known(name).length ? choose(...known(name)) : null);
  return {
    verdict: rows.map((row) => row.verdict).reduce((a, b) => (SEVERITY.indexOf(a) >= SEVERITY.indexOf(b) ? a : b)),
    error: pick("error", Math.max),
    tolerance: pick("tolerance", Math.min),
    hindcast: pick("hindcast", Math.max),
    // An error that is not a number was infinite: only then is a checked draft rejected without one.
    infinite: rows.some((row) => row.reason === "rejected" && row.error === null),
    reasons: [...new Set(rows.map((row) => row.reason))],
  };
}

/** One list of bars per image (null: the call had no row of that image), in the order of the calls. */
export function panelsOf(report) {
  const images = [...new Set(report.calls.flatMap((call) => call.rows.map((row) => row.image)))].sort((a, b) => a - b);
  return images.map((image) => ({
    image,
    bars: report.calls.map((call) => {
      const rows = call.rows.filter((row) => row.image === image);
      return rows.length ? barOf(rows) : null;
    }),
  }));
}

/** The error at the top of the panels: every tolerance and most errors fit; bars that do not are cut and marked. */
export function scaleOf(panels) {
  const all = (name) => panels.flatMap(({ bars }) => bars.map((bar) => bar?.[name]).filter((value) => value != null));
  const tolerance = Math.max(0, ...all("tolerance"));
  const error = Math.max(0, ...all("error"), ...all("hindcast"));
  return Math.max(tolerance * 1.15, Math.min(error * 1.15, tolerance * 2 || Infinity)) || 1;
}

/** How many calls the whole run will have made, as far as can be told from those so far. */
export function expectedCalls(report) {
  const last = report.calls.at(-1);
  if (report.finished || !last) return report.calls.length;
  const done = Math.floor(last.position) + 1;
  return Math.max(report.calls.length, Math.round((report.calls.length / done) * report.steps));
}

/** Times as fast as the plain model, and the seconds saved; null where no call was computed in full. */
export function gainOf(report) {
  const { spent, plain_estimate: plain } = report.seconds;
  return plain && spent ? { speedup: plain / spent, saved: plain - spent, plain } : null;
}

const STRICT = ["rejected", "resting", "budget"];

/** Why a run drafted nothing: the reason most rows have, one word for those that the threshold decides; null if there are drafts. */
export function whyNothing(report) {
  if (report.totals.drafted) return null;
  const counts = {};
  for (const call of report.calls)
    for (const { reason } of call.rows) {
      const name = STRICT.includes(reason) ? "threshold" : reason;
      counts[name] = (counts[name] ?? 0) + 1;
    }
  return Object.keys(counts).sort((a, b) => counts[b] - counts[a])[0] ?? null;
}

/** Whether two settings (or any plain JSON) are the same. */
export function same(a, b) {
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return a === b;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && same(a[key], b[key]));
}

/** Whether settings are those of a record. What an older record does not know yet was no choice when it was made. */
export function agrees(recorded, settings) {
  if (recorded === null || typeof recorded !== "object") return recorded === settings;
  return Object.keys(recorded).every((key) => key in settings && agrees(recorded[key], settings[key]));
}
