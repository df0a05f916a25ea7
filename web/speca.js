// The only file here that acts on the page: ComfyUI imports every .js below web/, in any order.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { setBadge, showBadges } from "./lib/badge.js";
import { menuItems } from "./lib/insert.js";
import { Note } from "./lib/note.js";
import {
  addElement,
  also,
  EVENT,
  feeder,
  KIND,
  nodeAt,
  perFrame,
  redraw,
  words,
} from "./lib/page.js";
import { showProfiles } from "./lib/profiles.js";
import { unpack } from "./lib/report.js";
import { Waiting, workflowKey } from "./lib/runs.js";
import { oneLine } from "./lib/sentence.js";
import { keepNames, noteNames } from "./lib/settings.js";
import { COLOURS, SHOW, Timeline } from "./lib/timeline.js";

const NOTED = { SpeCaReport: "report", SpeCaCompare: "compare" };

const timelines = new Map(); // node -> Timeline, of the nodes that exist now
const waiting = new Waiting();

function onRun({ detail }) {
  waiting.add(detail);
  deliver();
}

/** An error in the node, or one that SpeCa raised while a sampler ran. */
function onError({ detail }) {
  const message = detail.exception_message.trim();
  const node = nodeAt(detail.node_id); // in the workflow on screen, the number may be another's
  if (detail.node_type === KIND) timelines.get(node)?.fail(message);
  else if (message.startsWith("SpeCa"))
    for (const each of sourcesOf(node)) timelines.get(each)?.fail(message);
}

/** A node, and all of its graph from which links lead to it. */
function sourcesOf(node) {
  const seen = new Set([node]);
  for (const each of seen)
    for (const { name } of each?.inputs ?? []) seen.add(feeder(each, name)?.node);
  return seen;
}

/** Without a node, as a value or inside: a prompt has ended. */
function onExecuting({ detail }) {
  if (!(typeof detail === "object" ? detail?.node : detail))
    for (const timeline of timelines.values()) timeline.original.ended();
}

/** Give the nodes of the workflow on screen their runs. */
function deliver() {
  const here = workflowKey(app.rootGraph?.id);
  for (const run of waiting.take(here)) timelines.get(nodeAt(run.ids.node))?.take(run);
}

/** A block of text below the node's other widgets. */
function addNote(node, word) {
  const note = new Note(word, words(), () => {
    node.expandToFitContent();
    redraw(node);
  });
  addElement(node, word, note.host, {
    getMinHeight: () => note.height,
    getMaxHeight: () => note.height + 24,
  });
  const tell = (output) => {
    if (!output?.text) return;
    const [run] = output.speca_run ?? [];
    const lines = run ? [oneLine(unpack(run), words()), ...output.text] : output.text;
    note.say(lines.join("\n"), output.speca_diagnosis?.join("\n"));
  };
  also(node, "onExecuted", tell);
  also(node, "onConfigure", () => tell(app.nodeOutputs[node.id])); // after undo
}

function addTimeline(node) {
  const timeline = new Timeline(node);
  timelines.set(node, timeline);
  also(node, "onSerialize", (saved) => keepNames(node, saved));
  also(node, "onConfigure", (saved) => timeline.configured(saved));
  also(node, "onRemoved", () => {
    timelines.delete(node);
    setBadge(node, "");
  });
  node.setSize([Math.max(340, node.size[0]), node.size[1]]);
  node.expandToFitContent();
}

/** The page tells of a changed setting before it stores the value: hence a frame later. */
const redrawAll = perFrame(() => {
  for (const timeline of timelines.values()) timeline.showOrHide();
});

app.registerExtension({
  name: "speca.timeline",
  settings: [
    {
      id: SHOW,
      name: "Show the timeline in the SpeCa node",
      type: "boolean",
      defaultValue: true,
      onChange: redrawAll,
    },
    {
      id: COLOURS,
      name: "Colours of the timeline",
      type: "combo",
      options: ["colour-blind safe", "grey"],
      defaultValue: "colour-blind safe",
      onChange: redrawAll,
    },
  ],
  nodeCreated(node) {
    if (node.comfyClass === KIND) addTimeline(node);
    else if (node.comfyClass in NOTED) addNote(node, NOTED[node.comfyClass]);
  },
  getNodeMenuItems: (node) =>
    node.comfyClass === KIND
      ? [{ content: words().profiles, callback: showProfiles }]
      : menuItems(node),
  beforeConfigureGraph: (workflow) => noteNames(workflow, KIND),
  afterConfigureGraph() {
    showBadges();
    deliver();
  },
  setup() {
    app.canvas.canvas.addEventListener("litegraph:set-graph", perFrame(showBadges));
    api.addEventListener(EVENT, onRun);
    api.addEventListener("execution_error", onError);
    api.addEventListener("execution_start", () => {
      for (const timeline of timelines.values()) timeline.fail(null);
    });
    api.addEventListener("executing", onExecuting);
  },
});
