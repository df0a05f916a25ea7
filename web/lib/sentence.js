// What a node says of a run, as a person would: one big line, one below it, and what helps. Pure.
import { expectedCalls, gainOf, hardestOf, stepsBegun, whyNothing } from "./report.js";

const GOOD = 40; // dB from which a picture is as good as unchanged
const SEEN = 30; // dB below which changes are seen
const WORTH = 1.15; // speed-up that is worth a button
const FEW = 12; // steps of which the first and the last are most

/** 41 -> "0:41"; below ten seconds "4.1 s", as m:ss would hide the difference. */
export function clock(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export const times = (speedup) => speedup.toFixed(1);

/** "good", "small" or "visible": the changes to expect at a band of PSNR; null if none is known. */
export function qualityOf(psnr) {
  if (!psnr) return null;
  const middle = (psnr[0] + psnr[1]) / 2;
  return middle >= GOOD ? "good" : middle >= SEEN ? "small" : "visible";
}

const TONES = { good: "good", small: "", visible: "warn" };

/** Seconds to go with and without SpeCa, by the calls so far; null before the first. */
export function leftOf(report) {
  const done = report.calls.length;
  if (!done) return null;
  const rest = (expectedCalls(report) - done) / done;
  const { spent, plain_estimate: plain } = report.seconds;
  return { seconds: spent * rest, plain: plain * rest };
}

/**
 * The sentence: {tone: "" | "good" | "warn" | "bad", head, line, cure: a quality's name or null}.
 *
 * facts = {state: as in face.js, report: the one to speak of, psnr: its band,
 *   steps: so many plain ones are foretold to look better, or null,
 *   outlook: {quality: {speedup, psnr}} of this graph, quality: the one that is set,
 *   learns: the settings ask for a profile, changed: they are not the run's, and tell nothing,
 *   now: speed-up of the run that was, sampler: its name, failure: an error's text}
 */
export function sentence(facts, words) {
  const said = SAY[facts.state](facts, words);
  return { tone: "", head: "", line: "", cure: null, ...said };
}

/** What is known of several things, on one line. */
export const joined = (...parts) => parts.filter(Boolean).join(" · ");

/** What SpeCa Report says of a run that has ended. */
export function oneLine(report, words) {
  const state = report.finished ? "measured" : "stopped";
  const { head, line } = sentence({ state, report }, words);
  return [head, line].filter(Boolean).join(": ");
}

const SAY = {
  empty: ({ learns }, words) => ({ line: learns ? words.teach : words.press }),
  failed: ({ failure }, words) => ({ tone: "bad", head: words.failed, line: failure }),
  live({ report }, words) {
    if (learning(report)) return { head: words.learning, line: words.learningLine };
    const gain = gainOf(report);
    if (!gain) return { head: words.starting };
    const left = leftOf(report);
    if (!left) return { head: words.faster(times(gain.speedup)) }; // its calls are too many to send
    const head = words.left(clock(left.seconds));
    return { head, line: words.plainLeft(clock(left.plain), times(gain.speedup)) };
  },
  stopped: ({ report }, words) => ({
    head: words.stopped,
    line: words.step(stepsBegun(report), report.steps),
  }),
  measured(facts, words) {
    const { report, psnr, changed } = facts;
    const gain = gainOf(report);
    const said = learning(report) ? learned(facts, words) : outcome(facts, gain, words);
    if (changed) return { ...said, line: words.changed, cure: null };
    return psnr && gains(gain) ? { ...said, tone: TONES[qualityOf(psnr)] } : said;
  },
  whatif(facts, words) {
    const { report, psnr, steps, now } = facts;
    const gain = gainOf(report);
    if (!gains(gain)) return nothing(facts, words, words.nothingAgain);
    const quality = qualityOf(psnr);
    const better = steps && words.stepsAreBetter(steps);
    if (quality === "visible")
      return {
        tone: "bad",
        head: words.willChange(times(gain.speedup)),
        line: better ?? words.fasterIsWorse,
        cure: helpful(facts).at(-1),
      };
    return {
      tone: better ? "warn" : "",
      head: words.again(times(gain.speedup)),
      line: joined(now && words.now(times(now)), words.quality[quality], better),
    };
  },
};

const learning = (report) => report.profile?.state === "learning";

/** Whether a speed-up is one to speak of. */
export const gains = (gain) => gain?.speedup >= 1.05;

function outcome(facts, gain, words) {
  if (!gains(gain)) return nothing(facts, words, words.nothing);
  const saved = words.saved(clock(gain.saved), clock(gain.plain));
  const hardest = hardestOf(facts.report);
  const which = hardest && words.hardest(hardest.image + 1, hardest.calls);
  const line = joined(saved, words.quality[qualityOf(facts.psnr)], which);
  return { head: words.faster(times(gain.speedup)), line };
}

function learned({ outlook, quality, report }, words) {
  if (report.settings.threshold === 0)
    return { head: words.nothing, line: words.causes.zero_tolerance, cure: "balanced" };
  const next = outlook?.[quality]?.speedup;
  return {
    tone: "good",
    head: words.learned,
    line: next ? words.learnedLine(times(next)) : words.learnedNext,
  };
}

function nothing(facts, words, head) {
  const { report, sampler } = facts;
  const why = causeOf(facts);
  const cause = words.causes[why] ?? words.causes.other;
  const values = [sampler ?? words.thisSampler, report.steps, why];
  const line = typeof cause === "function" ? cause(...values) : cause;
  const cure = INCURABLE.includes(why) ? null : helpful(facts)[0];
  return { tone: "warn", head, line, cure };
}

const INCURABLE = ["calls", "jump", "memory", "window"];

function causeOf(facts) {
  const { totals, steps } = facts.report;
  if (!totals.rows) return "calls";
  const why = whyNothing(facts.report) ?? "overhead";
  return why === "threshold" && steps <= FEW && !helpful(facts).length ? "warmup" : why;
}

/** The qualities that save time and do not show, the most faithful first. */
const helpful = ({ outlook, quality }) =>
  Object.entries(outlook ?? {})
    .filter(
      ([name, { speedup, psnr }]) =>
        name !== quality && speedup >= WORTH && qualityOf(psnr) !== "visible",
    )
    .map(([name]) => name);
