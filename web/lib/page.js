// What the pack asks of ComfyUI's page.
import { app } from "../../../scripts/app.js";
import { text } from "./assets.js";
import { wordsIn, wordsOf } from "./words.js";

const languages = wordsIn(await text("words.json"));
export const KIND = "SpeCaAccelerate";
export const EVENT = "speca.run"; // nodes/runtime/page/events.py
export const setting = (id) => app.extensionManager.setting.get(id);
export const words = () => wordsOf(languages, setting("Comfy.Locale"));
export const nodes2 = () => globalThis.LiteGraph.vueNodesMode;
const tracker = () => app.extensionManager?.workflow?.activeWorkflow?.changeTracker;

/** Called once per frame at most. */
export function perFrame(work) {
  let asked = false;
  const paint = () => {
    asked = false;
    work();
  };
  return () => {
    if (!asked) requestAnimationFrame(paint);
    asked = true;
  };
}

/** After what a method of an object does, if it has one, do more with the same values. */
export function also(object, name, more) {
  const before = object[name];
  object[name] = function (...values) {
    const result = before?.apply(this, values);
    more.apply(this, values);
    return result;
  };
}

export const redraw = (node) => node.graph?.setDirtyCanvas(true, true);

/** The user changed the graph: an undo step. */
export const tracked = () => tracker()?.checkState?.();

/** The nodes on a path such as "5:2": node 5, and node 2 in its subgraph. */
function nodesOn(path) {
  let graph = app.rootGraph;
  return path.split(":").map((id) => {
    const node = graph?.getNodeById(id);
    graph = node?.subgraph;
    return node;
  });
}

export const nodeAt = (path) => nodesOn(path).at(-1);

/** The subgraphs' nodes on the way to a node, outermost first. */
export const outerNodes = (path = "") => nodesOn(path).slice(0, -1).filter(Boolean);

/** The node that feeds an input, by its name. */
export function feeder(node, name) {
  const id = node?.inputs?.find((input) => input.name === name)?.link;
  const link = node?.graph.links.get(id);
  return link && { node: node.graph.getNodeById(link.origin_id), slot: link.origin_slot };
}

/**
 * A node's DOM widget; not part of the workflow or the prompt. It has to be the node's last: the
 * values of later widgets would shift.
 */
export function addElement(node, name, element, options) {
  const widget = node.addDOMWidget(name, `speca_${name}`, element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true,
    ...options,
  });
  widget.serialize = false;
  also(node, "onConfigure", () => requestAnimationFrame(() => replaceStale(node, element)));
  return widget;
}

/**
 * After undo Nodes 2.0 goes on showing the elements of the nodes that were there before. The page
 * also configures nodes that are in no graph, such as the copy that goes to the clipboard.
 */
function replaceStale(node, element) {
  if (element.isConnected || !node.graph || !nodes2()) return;
  const stale = `[data-node-id="${node.id}"] [aria-label="${element.ariaLabel}"]`;
  document.querySelector(stale)?.replaceWith(element);
}

/**
 * An element needs another height: the node follows, unless it was made higher than it needed to be
 * `before`. Returns the height that it needs now.
 */
export function fit(node, before = 0) {
  const [, least] = node.computeSize();
  if (!node.graph) return least;
  const [width, height] = node.size;
  const wanted = height > before + 2 ? Math.max(height, least) : least;
  if (Math.abs(wanted - height) > 1) {
    node.setSize([width, wanted]);
    silently(node, (each) => Object.assign(each, { size: [width, wanted] }));
  }
  redraw(node);
  return least;
}

/**
 * On the classic canvas an element swallows wheel and middle button, which should zoom and pan;
 * Nodes 2.0 passes them on.
 */
export function handOnNavigation(element) {
  const handOn = (event) => {
    const middle = event.button === 1 || event.buttons & 4;
    if (nodes2() || !(middle || event.type === "wheel")) return;
    event.preventDefault();
    app.canvas.canvas.dispatchEvent(new event.constructor(event.type, event));
  };
  for (const type of ["wheel", "pointerdown", "pointermove", "pointerup"])
    element.addEventListener(type, handOn, { passive: false });
}

/** Keep a value in the workflow, at a node. */
export function keep(node, name, value) {
  silently(node, (each) => {
    each.properties ??= {};
    each.properties[name] = structuredClone(value);
  });
}

/**
 * Change a node without an undo step, a "modified" mark, or a run by "run on change". The page's
 * change tracker compares the graph with its own copies of it, so these are changed as well. They
 * are internal: where they cannot be reached, the price is one undo step.
 */
function silently(node, change) {
  change(node);
  const { activeState, initialState, undoQueue = [], redoQueue = [] } = tracker() ?? {};
  const isOurs = ({ id, type }) => String(id) === String(node.id) && type === node.type;
  for (const state of [activeState, initialState, ...undoQueue, ...redoQueue]) {
    const subgraph = state?.definitions?.subgraphs?.find(({ id }) => id === node.graph?.id);
    const saved = (node.graph === app.rootGraph ? state : subgraph)?.nodes?.find(isOurs);
    if (saved) change(saved);
  }
}
