// The only file here with side effects: ComfyUI imports every .js below web/ by itself, in any order.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { Chart, MIN_HEIGHT, PALETTES } from "./lib/chart.js";
import { Note } from "./lib/note.js";
import { agrees, gainOf, same, unpack } from "./lib/report.js";
import { keyOf, Runs, workflowKey } from "./lib/runs.js";
import { settingsOf, settingWidgets, writeSettings } from "./lib/settings.js";
import { wordsOf } from "./lib/words.js";

const EVENT = "speca.run"; // speca_core/bridge/events.py
const PROPERTY = "speca_runs"; // of the node: the runs that are over
const NOTED = { SpeCaReport: "report", SpeCaCompare: "compare" };

const SHOW = "SpeCa.Timeline.Show";
const DECIMALS = "SpeCa.Timeline.Decimals";
const COLOURS = "SpeCa.Timeline.Colours";

const setting = (id) => app.extensionManager.setting.get(id);
const words = () => wordsOf(setting("Comfy.Locale"));
const rootGraph = () => app.rootGraph ?? app.graph;
const currentWorkflow = () => workflowKey(rootGraph()?.id);

const timelines = new Map(); // node -> Timeline, of the nodes that exist now
const waiting = new Map(); // runs whose workflow is not on screen, by workflow, node and sampler
const presets = await fetch(new URL("presets.json", import.meta.url)).then((answer) => answer.json()).then((file) => file.presets);

/** Called once per frame at most. */
function perFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** A node's DOM widget; not part of the workflow or the prompt. It has to be the node's last: the values of later widgets would shift. */
function addElement(node, name, element, options) {
  const widget = node.addDOMWidget(name, `speca_${name}`, element, { serialize: false, hideOnZoom: false, hideInPanel: true, ...options });
  widget.serialize = false;
  return widget;
}

/** On the classic canvas an element swallows wheel and middle button, which should zoom and pan; Nodes 2.0 hands them on by itself. */
function handOnNavigation(element) {
  const canvas = (handler, wanted) => (event) => {
    if (globalThis.LiteGraph?.vueNodesMode || !wanted(event)) return;
    event.preventDefault();
    app.canvas[handler](event);
  };
  element.addEventListener("wheel", canvas("processMouseWheel", () => true), { passive: false });
  element.addEventListener("pointerdown", canvas("processMouseDown", (event) => event.button === 1));
  element.addEventListener("pointermove", canvas("processMouseMove", (event) => event.buttons & 4));
  element.addEventListener("pointerup", canvas("processMouseUp", (event) => event.button === 1));
}

/** The timeline in one SpeCa Accelerate node. */
class Timeline {
  constructor(node) {
    this.node = node;
    this.runs = new Runs();
    this.guess = null; // the what-if: {settings, report, outcome}
    this.failure = null; // what the node refused its settings or its model with
    this.asking = false;
    this.refresh = perFrame(() => this._refresh());
    this.chart = new Chart({
      onPreset: (name) => {
        writeSettings(node, presets[name]);
        node.graph?.setDirtyCanvas(true, true);
        app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.();
        this.refresh();
      },
      onSampler: () => {
        this.runs.next();
        this.refresh();
      },
    });
    handOnNavigation(this.chart.host);
    this.widget = addElement(node, "timeline", this.chart.host, { getMinHeight: () => (setting(SHOW) ? MIN_HEIGHT : 0) });
    this.showOrHide();
    this.watchWidgets();
  }

  /** As the setting says. */
  showOrHide() {
    this.widget.hidden = !setting(SHOW);
    this.chart.host.style.display = setting(SHOW) ? "" : "none";
  }

  /** Hear of every change of a setting. Combos make new widgets for their knobs, so this is repeated after each change. */
  watchWidgets() {
    for (const widget of settingWidgets(this.node)) {
      if (widget.callback?.speca) continue;
      const before = widget.callback;
      const timeline = this;
      widget.callback = function (...values) {
        const result = before?.apply(this, values);
        timeline.failure = null;
        timeline.watchWidgets();
        timeline.refresh();
        return result;
      };
      widget.callback.speca = true;
    }
  }

  /** What the workflow holds. */
  configured() {
    this.runs = new Runs();
    for (const run of this.node.properties?.[PROPERTY] ?? []) this.runs.take(run);
    this.guess = null;
    this.watchWidgets();
    this.refresh();
  }

  /** The node failed with a message; null: it is tried again. */
  fail(message) {
    if (this.failure === message) return;
    this.failure = message;
    this.refresh();
  }

  /** News of a run. */
  take(run) {
    this.runs.take(run, this.guess);
    if (run.ended) keepSilently(this.node, this.runs.saved);
    this.refresh();
  }

  _refresh() {
    const run = this.runs.shown;
    const settings = settingsOf(this.node);
    const preset = settings ? Object.keys(presets).find((name) => same(presets[name], settings)) : undefined;
    const model = { state: "empty", report: null, failure: this.failure, presets: Object.keys(presets), preset, words: words(), decimals: setting(DECIMALS), colours: setting(COLOURS) };
    model.samplers = this.runs.list.map(keyOf);
    model.sampler = run?.ids.sampler;
    if (this.failure) model.state = "failed";
    else if (run) {
      model.run = run.ids.run;
      model.report = unpack(run.report);
      model.state = !run.ended ? "live" : model.report.finished ? "measured" : "stopped";
      if (run.predicted && run.ended) model.note = model.words.predicted(run.predicted.speedup.toFixed(model.decimals));
      const moved = settings && run.ended && !agrees(model.report.settings, settings);
      if (moved) this._whatIf(run, settings, model);
      else this.guess = run.ended ? null : this.guess;
    }
    this.chart.draw(model);
  }

  /** The widgets no longer say what the run was made with: ask what they would have given, and show that once it is known. */
  _whatIf(run, settings, model) {
    const known = this.guess?.run === run.ids.run ? this.guess : null;
    if (known?.report) {
      const gain = gainOf(model.report);
      const notes = gain ? [model.words.was(gain.speedup.toFixed(model.decimals))] : [];
      if (known.psnr) notes.unshift(model.words.psnr(...known.psnr.map(Math.round)));
      model.note = notes.join(" · ");
      model.state = "whatif";
      model.report = known.report;
    } else if (known && same(known.settings, settings)) {
      model.note = model.words.changed; // asked, and there is no telling
    }
    if (!known || !same(known.settings, settings)) this._ask(run, settings);
  }

  /** One question at a time; the newest settings are asked for next. */
  async _ask(run, settings) {
    if (this.asking) return;
    this.asking = true;
    try {
      const answer = await api.fetchApi("/speca/what_if", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ report: run.report, settings }),
      });
      const found = await answer.json(); // no report where there is no telling
      const report = found.report ? unpack(found.report) : null;
      const gain = report && gainOf(report);
      this.guess = { run: run.ids.run, settings, report, psnr: found.psnr, outcome: gain && { speedup: gain.speedup, totals: report.totals } };
    } catch (error) {
      console.warn("SpeCa: the server did not answer what-if:", error);
      this.guess = { run: run.ids.run, settings, report: null, outcome: null }; // so that it is not asked again and again
    } finally {
      this.asking = false;
    }
    this.refresh();
  }
}

/** The node at a path such as "5:2": node 2 in the subgraph of node 5. */
function nodeAt(path) {
  let graph = rootGraph();
  let node = null;
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/**
 * Keep runs in the workflow without an undo step, a "modified" mark, or the change that "run on change" would answer with a run.
 * The page's change tracker compares the graph with what it remembers, so it is told as well. Where it cannot be reached (an internal
 * interface), the runs are kept all the same, at the price of one undo step.
 */
function keepSilently(node, runs) {
  const copy = () => JSON.parse(JSON.stringify(runs));
  node.properties[PROPERTY] = copy();
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  for (const state of [tracker?.activeState, tracker?.initialState, ...(tracker?.undoQueue ?? []), ...(tracker?.redoQueue ?? [])]) {
    const graphs = [state, ...(state?.definitions?.subgraphs ?? [])];
    const graph = node.graph === rootGraph() ? state : graphs.find((candidate) => candidate?.id === node.graph?.id);
    const saved = graph?.nodes?.find((other) => String(other.id) === String(node.id) && other.type === node.type);
    if (saved) (saved.properties ??= {})[PROPERTY] = copy();
  }
}

function onRun({ detail: run }) {
  const workflow = workflowKey(run.ids.workflow);
  const timeline = workflow === currentWorkflow() ? timelines.get(nodeAt(run.ids.node)) : null;
  if (timeline) timeline.take(run);
  else waiting.set(`${workflow}/${keyOf(run)}`, run);
}

function onError({ detail }) {
  if (detail.node_type !== "SpeCaAccelerate") return; // the number may be another node's in the workflow on screen
  timelines.get(nodeAt(detail.node_id))?.fail(detail.exception_message.trim());
}

function onStart() {
  for (const timeline of timelines.values()) timeline.fail(null);
}

/** Give runs that came in while their workflow was not on screen to their nodes. */
function deliver() {
  for (const [key, run] of waiting) {
    if (workflowKey(run.ids.workflow) !== currentWorkflow()) continue;
    waiting.delete(key);
    timelines.get(nodeAt(run.ids.node))?.take(run);
  }
}

/** A block of text below the node's other widgets. */
function addNote(node, word) {
  const note = new Note(word, words()[word], () => {
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.graph?.setDirtyCanvas(true, true);
  });
  addElement(node, word, note.host, { getMinHeight: () => note.height, getMaxHeight: () => note.height + 24 });
  const { onExecuted } = node;
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments);
    if (output?.text) note.say(output.text.join("\n"), output.speca_diagnosis?.join("\n"), words());
  };
}

function addTimeline(node) {
  const timeline = new Timeline(node);
  timelines.set(node, timeline);
  const { onConfigure, onRemoved } = node;
  node.onConfigure = function () {
    const result = onConfigure?.apply(this, arguments);
    timeline.configured();
    return result;
  };
  node.onRemoved = function () {
    timelines.delete(node);
    return onRemoved?.apply(this, arguments);
  };
  const [width, height] = node.computeSize();
  node.setSize([Math.max(360, width, node.size[0]), Math.max(height, node.size[1])]);
  timeline.refresh();
}

/** After a change of the settings; the page stores the new value only after it has told us, so this waits for the next frame. */
const redrawAll = perFrame(() => {
  for (const [node, timeline] of timelines) {
    timeline.showOrHide();
    node.setSize([node.size[0], node.computeSize()[1]]);
    timeline.refresh();
    node.graph?.setDirtyCanvas(true, true);
  }
});

app.registerExtension({
  name: "speca.timeline",
  settings: [
    { id: SHOW, category: ["SpeCa", "Timeline", "Show"], name: "Show the timeline in SpeCa Accelerate", type: "boolean", defaultValue: true, onChange: redrawAll },
    {
      id: DECIMALS,
      category: ["SpeCa", "Timeline", "Decimals"],
      name: "Decimals of speed-up and seconds",
      type: "slider",
      attrs: { min: 0, max: 3, step: 1 },
      defaultValue: 2,
      onChange: redrawAll,
    },
    {
      id: COLOURS,
      category: ["SpeCa", "Timeline", "Colours"],
      name: "Colours of the timeline",
      type: "combo",
      options: Object.keys(PALETTES),
      defaultValue: Object.keys(PALETTES)[0],
      onChange: redrawAll,
    },
  ],
  nodeCreated(node) {
    if (node.comfyClass === "SpeCaAccelerate") addTimeline(node);
    else if (node.comfyClass in NOTED) addNote(node, NOTED[node.comfyClass]);
  },
  afterConfigureGraph: deliver,
  setup() {
    api.addEventListener(EVENT, onRun);
    api.addEventListener("execution_error", onError);
    api.addEventListener("execution_start", onStart);
  },
});
