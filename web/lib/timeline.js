// The face in one SpeCa node: takes runs and widgets, asks the server, draws.
import { foldAdvanced, hasAdvanced, markAdvanced } from "./advanced.js";
import { askIfAny, presets } from "./ask.js";
import { setBadge } from "./badge.js";
import { Face } from "./face.js";
import { Original } from "./original.js";
import {
  addElement,
  also,
  feeder,
  fit,
  handOnNavigation,
  keep,
  nodeAt,
  nodes2,
  outerNodes,
  perFrame,
  redraw,
  setting,
  tracked,
  words,
} from "./page.js";
import { carryProfile } from "./profiles.js";
import { agrees, gainOf, legible, same, unpack } from "./report.js";
import { Runs } from "./runs.js";
import { gains, qualityOf, sentence, times } from "./sentence.js";
import { restoreSettings, settingsOf, settingWidgets, writeSettings } from "./settings.js";

const PROPERTY = "speca_runs"; // of the node: the runs that have ended
export const SHOW = "SpeCa.Timeline.Show";
export const COLOURS = "SpeCa.Timeline.Colours";

export class Timeline {
  constructor(node) {
    this.node = node;
    this.runs = new Runs();
    this.guess = null; // the what-if: {run, settings, report, psnr, steps}
    this.outlook = null; // of a run: {run, psnr, speeds: {quality: {speedup, psnr}}}
    this.failure = null; // the message of an error
    this.asking = false;
    this.refresh = perFrame(() => this._refresh());
    this.original = new Original(this.refresh);
    this.face = new Face(this, Object.keys(presets));
    handOnNavigation(this.face.host);
    foldAdvanced(node);
    this.watchWidgets();
    this.widget = addElement(node, "timeline", this.face.host, {
      getMinHeight: () => (setting(SHOW) ? this.face.height + 16 : 0),
    });
    this.showOrHide();
  }

  showOrHide() {
    this.widget.hidden = this.face.host.hidden = !setting(SHOW);
    this.fit();
    this.refresh();
  }

  fit() {
    this.height = fit(this.node, this.height);
  }

  /** Redraw after every change of a setting, also of widgets that a combo has just made. */
  watchWidgets() {
    markAdvanced(this.node);
    for (const widget of settingWidgets(this.node)) {
      if (widget.callback?.speca) continue;
      also(widget, "callback", () => {
        this.watchWidgets();
        this.fit();
        this.fail(null);
      });
      widget.callback.speca = true;
    }
  }

  /** The node was loaded from a workflow. */
  configured(saved) {
    restoreSettings(this.node, saved);
    this.runs = new Runs();
    const kept = this.node.properties?.[PROPERTY];
    for (const run of Array.isArray(kept) ? kept.filter(legible) : []) this.runs.take(run);
    this.guess = this.outlook = null;
    this.watchWidgets();
    this.refresh();
  }

  /** `message`: of an error; null: it runs again, or otherwise. */
  fail(message) {
    this.failure = message;
    this.refresh();
  }

  take(run) {
    this.runs.take(run);
    if (run.ended) {
      const ended = this.runs.list.filter((each) => each.ended);
      keep(this.node, PROPERTY, ended);
      carryProfile(this.node, unpack(run.report).profile?.name);
    }
    this.refresh();
  }

  /** A quality's button was pressed: its settings go into the widgets. */
  choose(name) {
    writeSettings(this.node, presets[name]);
    redraw(this.node);
    tracked();
  }

  nextSampler() {
    this.runs.next();
    this.refresh();
  }

  compare() {
    this.original.make(this.runs.shown);
  }

  fold() {
    this.node.toggleAdvanced?.();
    this.fit();
    this.refresh();
  }

  _refresh() {
    const run = this.runs.shown;
    const settings = settingsOf(this.node);
    const report = run && !this.failure ? unpack(run.report) : null;
    const gain = report && gainOf(report);
    const facts = {
      state: this._state(run, report),
      report,
      failure: this.failure,
      quality: settings && Object.keys(presets).find((name) => same(presets[name], settings)),
      learns: settings?.forecaster.name === "learned",
      sampler: run && samplerName(nodeAt(run.ids.sampler)),
      now: gains(gain) && gain.speedup,
      skipped: report?.totals.accepted,
    };
    if (report && run.ended) {
      this._look(run);
      if (settings && !agrees(report.settings, settings)) this._whatIf(run, settings, facts);
      else this.guess = null;
    }
    this._draw(run, facts);
  }

  _state(run, report) {
    if (this.failure) return "failed";
    if (!run) return "empty";
    return !run.ended ? "live" : report.finished ? "measured" : "stopped";
  }

  _draw(run, facts) {
    const told = words();
    const { state, report } = facts;
    const outlook = this.outlook?.run === run?.ids.run ? this.outlook : null;
    const guess = state === "whatif" && this.guess;
    const { psnr, steps } = guess || outlook || {};
    const said = sentence({ ...facts, outlook: outlook?.speeds, psnr, steps }, told);
    const ran = state === "measured" || guess;
    const gain = ran && gainOf(report);
    const promised = gains(gain) && !(guess && said.tone === "bad");
    const badge = promised ? `${guess ? "≈" : ""}${times(gain.speedup)}×` : "";
    for (const node of [this.node, ...outerNodes(run?.ids.node)]) setBadge(node, badge);
    const buttonOf = (name) => ({
      label: told.qualities[name],
      ...speedOf(outlook?.speeds[name]),
      pressed: name === facts.quality,
    });
    const folds = !nodes2() && hasAdvanced(this.node);
    this.face.draw({
      state,
      run: run?.ids.run,
      report,
      said,
      cure: curedBy(said.cure, outlook, told),
      qualities: Object.fromEntries(Object.keys(presets).map((name) => [name, buttonOf(name)])),
      chosen: this.runs.list[1] && told.sampler(run.ids.sampler),
      original: ran && facts.skipped && this.original.button(run, told),
      busy: this.original.busy,
      advanced: folds && told.advanced[this.node.showAdvanced ? "hide" : "show"],
      words: told,
      colours: setting(COLOURS),
    });
  }

  /** What each quality would bring on this graph: asked once per run. */
  async _look(run) {
    if (this.outlook?.run === run.ids.run || this.asking) return;
    const answer = await this._ask(run, Object.values(presets), true);
    const speeds = Object.keys(presets).map((name, i) => [name, answer?.answers[i] ?? {}]);
    this.outlook = { run: run.ids.run, psnr: answer?.psnr, speeds: Object.fromEntries(speeds) };
    this.refresh();
  }

  /** The widgets differ from the run's settings: predict the run with theirs, and show it. */
  _whatIf(run, settings, facts) {
    const known = this.guess?.run === run.ids.run ? this.guess : null;
    const asked = known && same(known.settings, settings);
    if (known?.report) Object.assign(facts, { state: "whatif", report: known.report });
    else facts.changed = asked;
    if (!asked) this._guess(run, settings);
  }

  /** One question at a time; the newest settings are asked for next. */
  async _guess(run, settings) {
    if (this.asking) return;
    const answer = await this._ask(run, [settings]);
    const { report, psnr, better_steps: steps } = answer?.answers[0] ?? {};
    this.guess = { run: run.ids.run, settings, report: report && unpack(report), psnr, steps };
    this.refresh();
  }

  /** The report travels only if the server knows the run no more. */
  async _ask({ ids, report }, settings, brief) {
    const question = { run: ids.run, settings, brief };
    const put = (more) => askIfAny("answer what-if", "/speca/what_if", { ...question, ...more });
    this.asking = true;
    const answer = await put();
    const known = answer?.unknown ? await put({ report }) : answer;
    this.asking = false;
    return known;
  }
}

function speedOf({ speedup, psnr, better_steps: better } = {}) {
  return {
    gain: speedup ? `${times(speedup)}×` : "–",
    warn: qualityOf(psnr) === "visible" || !!better,
  };
}

function curedBy(cure, outlook, words) {
  const gain = outlook?.speeds[cure]?.speedup;
  const name = words.qualities[cure];
  return gain ? words.use(name, times(gain)) : name && words.useAny(name);
}

/** What a sampling node calls its sampler; that may be a node before it. */
function samplerName(node) {
  const name = (each) => each?.widgets?.find(({ name }) => name === "sampler_name")?.value;
  return name(node) ?? name(feeder(node, "sampler")?.node);
}
