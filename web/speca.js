// The only file here with side effects: ComfyUI imports every .js below web/, in any order.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Chart, MIN_HEIGHT } from "./lib/chart.js";
import { Note } from "./lib/note.js";
import { agrees, gainOf, legible, same, unpack } from "./lib/report.js";
import { keyOf, Runs, Waiting, workflowKey } from "./lib/runs.js";
import { settingsOf, settingWidgets, upgradeSwitches, writeSettings } from "./lib/settings.js";
import style from "./lib/style.js";
import { wordsOf } from "./lib/words.js";

const EVENT = "speca.run"; // nodes/runtime/page/events.py
const PROPERTY = "speca_runs"; // of the node: the runs that have ended
const NOTED = { SpeCaReport: "report", SpeCaCompare: "compare" };

const SHOW = "SpeCa.Timeline.Show";
const DECIMALS = "SpeCa.Timeline.Decimals";
const COLOURS = "SpeCa.Timeline.Colours";

const setting = (id) => app.extensionManager.setting.get(id);
const words = () => wordsOf(setting("Comfy.Locale"));
const rootGraph = () => app.rootGraph ?? app.graph;
const currentWorkflow = () => workflowKey(rootGraph()?.id);

const timelines = new Map(); // node -> Timeline, of the nodes that exist now
const waiting = new Waiting();
let presets = {}; // name -> settings, once the server has sent them

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

/**
 * A node's DOM widget; not part of the workflow or the prompt. It has to be the node's last: the
 * values of later widgets would shift.
 */
function addElement(node, name, element, options) {
  const widget = node.addDOMWidget(name, `speca_${name}`, element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true,
    ...options,
  });
  widget.serialize = false;
  const { onConfigure } = node;
  node.onConfigure = function (...values) {
    const result = onConfigure?.apply(this, values);
    requestAnimationFrame(() => replaceStale(node, element));
    return result;
  };
  return widget;
}

/** After undo Nodes 2.0 goes on showing the elements of the nodes that were there before. */
function replaceStale(node, element) {
  if (element.isConnected || !globalThis.LiteGraph?.vueNodesMode) return;
  const label = element.getAttribute("aria-label");
  document
    .querySelector(`[data-node-id="${node.id}"] [aria-label="${label}"]`)
    ?.replaceWith(element);
}

/**
 * On the classic canvas an element swallows wheel and middle button, which should zoom and pan;
 * Nodes 2.0 passes them on.
 */
function handOnNavigation(element) {
  const handOn = (type, handler, wanted) =>
    element.addEventListener(
      type,
      (event) => {
        if (globalThis.LiteGraph?.vueNodesMode || !wanted(event)) return;
        event.preventDefault();
        app.canvas[handler](event);
      },
      { passive: false },
    );
  handOn("wheel", "processMouseWheel", () => true);
  handOn("pointerdown", "processMouseDown", (event) => event.button === 1);
  handOn("pointermove", "processMouseMove", (event) => event.buttons & 4);
  handOn("pointerup", "processMouseUp", (event) => event.button === 1);
}

/** The timeline in one SpeCa Accelerate node. */
class Timeline {
  constructor(node) {
    this.node = node;
    this.runs = new Runs();
    this.guess = null; // the what-if: {settings, report, outcome}
    this.failure = null; // the message of an error in the node
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
    this.widget = addElement(node, "timeline", this.chart.host, {
      getMinHeight: () => (setting(SHOW) ? MIN_HEIGHT : 0),
    });
    this.showOrHide();
    this.watchWidgets();
  }

  /** As the setting says. */
  showOrHide() {
    this.widget.hidden = !setting(SHOW);
    this.chart.host.style.display = setting(SHOW) ? "" : "none";
  }

  /** Redraw after every change of a setting, also of widgets that a combo has just made. */
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

  /** The node was loaded from a workflow. */
  configured() {
    upgradeSwitches(this.node);
    this.runs = new Runs();
    const kept = this.node.properties?.[PROPERTY];
    for (const run of Array.isArray(kept) ? kept.filter(legible) : []) this.runs.take(run);
    this.guess = null;
    this.watchWidgets();
    this.refresh();
  }

  /** Show the message of an error in the node; null: it runs again. */
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
    const model = {
      state: "empty",
      report: null,
      failure: this.failure,
      samplers: this.runs.list.map(keyOf),
      sampler: run?.ids.sampler,
      presets: Object.keys(presets),
      preset: settings && Object.keys(presets).find((name) => same(presets[name], settings)),
      words: words(),
      decimals: setting(DECIMALS),
      colours: setting(COLOURS),
    };
    if (this.failure) model.state = "failed";
    else if (run) {
      model.run = run.ids.run;
      model.report = unpack(run.report);
      model.state = !run.ended ? "live" : model.report.finished ? "measured" : "stopped";
      if (run.predicted && run.ended)
        model.note = model.words.predicted(run.predicted.speedup.toFixed(model.decimals));
      const moved = settings && run.ended && !agrees(model.report.settings, settings);
      if (moved) this._whatIf(run, settings, model);
      else this.guess = run.ended ? null : this.guess;
    }
    this.chart.draw(model);
  }

  /** The widgets differ from the run's settings: predict the run with theirs, and show it. */
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
      model.note = model.words.changed; // no prediction is possible
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
      const found = await answer.json(); // without a report if no prediction is possible
      const report = found.report ? unpack(found.report) : null;
      const gain = report && gainOf(report);
      const outcome = gain && { speedup: gain.speedup, totals: report.totals };
      this.guess = { run: run.ids.run, settings, report, psnr: found.psnr, outcome };
    } catch (error) {
      console.warn("SpeCa: the server did not answer what-if:", error);
      this.guess = { run: run.ids.run, settings, report: null, outcome: null }; // do not ask again
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
 * Keep runs in the workflow without an undo step, a "modified" mark, or a change that "run on
 * change" would answer with a run. The page's change tracker compares the graph with its own
 * copies, so these are changed as well. Where they cannot be reached (an internal interface), the
 * runs are kept all the same, at the price of one undo step.
 */
function keepSilently(node, runs) {
  const copy = () => JSON.parse(JSON.stringify(runs));
  node.properties[PROPERTY] = copy();
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  const queued = [...(tracker?.undoQueue ?? []), ...(tracker?.redoQueue ?? [])];
  for (const state of [tracker?.activeState, tracker?.initialState, ...queued]) {
    const graphs = [state, ...(state?.definitions?.subgraphs ?? [])];
    const inside = (candidate) => candidate?.id === node.graph?.id;
    const graph = node.graph === rootGraph() ? state : graphs.find(inside);
    const saved = graph?.nodes?.find(
      (other) => String(other.id) === String(node.id) && other.type === node.type,
    );
    if (saved) saved.properties = { ...saved.properties, [PROPERTY]: copy() };
  }
}

function onRun({ detail: run }) {
  const workflow = workflowKey(run.ids.workflow);
  const timeline = workflow === currentWorkflow() ? timelines.get(nodeAt(run.ids.node)) : null;
  if (timeline) timeline.take(run);
  else waiting.add(run);
}

function onError({ detail }) {
  // In the workflow on screen, the number may be another node's.
  if (detail.node_type !== "SpeCaAccelerate") return;
  timelines.get(nodeAt(detail.node_id))?.fail(detail.exception_message.trim());
}

function onStart() {
  for (const timeline of timelines.values()) timeline.fail(null);
}

/** A workflow was opened: give its nodes the runs that they missed. */
function deliver() {
  for (const run of waiting.take(currentWorkflow())) timelines.get(nodeAt(run.ids.node))?.take(run);
}

/** A block of text below the node's other widgets. */
function addNote(node, word) {
  const note = new Note(word, words()[word], () => {
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.graph?.setDirtyCanvas(true, true);
  });
  addElement(node, word, note.host, {
    getMinHeight: () => note.height,
    getMaxHeight: () => note.height + 24,
  });
  const { onExecuted } = node;
  node.onExecuted = function (output, ...rest) {
    onExecuted?.call(this, output, ...rest);
    if (output?.text) note.say(output.text.join("\n"), output.speca_diagnosis?.join("\n"), words());
  };
}

function addTimeline(node) {
  const timeline = new Timeline(node);
  timelines.set(node, timeline);
  const { onConfigure, onRemoved } = node;
  node.onConfigure = function (...values) {
    const result = onConfigure?.apply(this, values);
    timeline.configured();
    return result;
  };
  node.onRemoved = function (...values) {
    timelines.delete(node);
    return onRemoved?.apply(this, values);
  };
  const [width, height] = node.computeSize();
  node.setSize([Math.max(360, width, node.size[0]), Math.max(height, node.size[1])]);
  timeline.refresh();
}

/**
 * Redraw after a change of the page's settings. The page calls this before it stores the new value,
 * so the work waits for the next frame.
 */
const redrawAll = perFrame(() => {
  for (const [node, timeline] of timelines) {
    timeline.showOrHide();
    node.setSize([node.size[0], node.computeSize()[1]]);
    timeline.refresh();
    node.graph?.setDirtyCanvas(true, true);
  }
});

/** Without presets the timeline works all the same: it has no buttons then. */
async function fetchPresets() {
  try {
    const answer = await api.fetchApi("/speca/presets");
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    presets = await answer.json();
    for (const timeline of timelines.values()) timeline.refresh();
  } catch (error) {
    console.warn("SpeCa: the server did not send the presets:", error);
  }
}

app.registerExtension({
  name: "speca.timeline",
  settings: [
    {
      id: SHOW,
      category: ["SpeCa", "Timeline", "Show"],
      name: "Show the timeline in SpeCa Accelerate",
      type: "boolean",
      defaultValue: true,
      onChange: redrawAll,
    },
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
      options: Object.keys(style.palettes),
      defaultValue: Object.keys(style.palettes)[0],
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
    fetchPresets();
  },
});
