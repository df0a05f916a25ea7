// What the pack asks of ComfyUI's page.
import { app } from "../../../scripts/app.js";
import { text } from "./assets.js";
import { workflowKey } from "./runs.js";
import { wordsIn, wordsOf } from "./words.js";

const languages = wordsIn(await text("words.json"));
export const EVENT = "speca.run"; // nodes/runtime/page/events.py
export const setting = (id) => app.extensionManager.setting.get(id);
export const words = () => wordsOf(languages, setting("Comfy.Locale"));
export const rootGraph = () => app.rootGraph ?? app.graph;
export const currentWorkflow = () => workflowKey(rootGraph()?.id);
export const nodes2 = () => Boolean(globalThis.LiteGraph?.vueNodesMode);
export const tracker = () => app.extensionManager?.workflow?.activeWorkflow?.changeTracker;

/** Called once per frame at most. */
export function perFrame(work) {
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

/** The node at a path such as "5:2": node 2 in the subgraph of node 5. */
export function nodeAt(path) {
  let graph = rootGraph();
  let node = null;
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/** The subgraphs' nodes on the way to a node, outermost first. */
export function outerNodes(path = "") {
  const steps = path.split(":");
  const paths = steps.slice(1).map((_, i) => steps.slice(0, i + 1).join(":"));
  return paths.map(nodeAt).filter(Boolean);
}

/** The node that feeds an input, by its name. */
export function feeder(node, name) {
  const link = node?.inputs?.find((input) => input.name === name)?.link;
  const found = link == null ? null : node.graph.links.get(link);
  return found ? { node: node.graph.getNodeById(found.origin_id), slot: found.origin_slot } : null;
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
  const { onConfigure } = node;
  node.onConfigure = function (...values) {
    const result = onConfigure?.apply(this, values);
    requestAnimationFrame(() => replaceStale(node, element));
    return result;
  };
  return widget;
}

/**
 * After undo Nodes 2.0 goes on showing the elements of the nodes that were there before. The page
 * also configures nodes that are in no graph, such as the copy that goes to the clipboard.
 */
function replaceStale(node, element) {
  if (element.isConnected || !node.graph || !nodes2()) return;
  const label = element.getAttribute("aria-label");
  document
    .querySelector(`[data-node-id="${node.id}"] [aria-label="${label}"]`)
    ?.replaceWith(element);
}

/** An element needs another height than before: the node follows, unless it was made larger. */
export function fit(node, before) {
  if (!node.graph) return;
  const [, least] = node.computeSize();
  const [width, height] = node.size;
  const wanted = height > before + 2 ? Math.max(height, least) : least;
  if (Math.abs(wanted - height) > 1)
    silently(node, (each) => {
      if (each === node) node.setSize([width, wanted]);
      else each.size = [width, wanted];
    });
  node.graph.setDirtyCanvas(true, true);
}

/**
 * On the classic canvas an element swallows wheel and middle button, which should zoom and pan;
 * Nodes 2.0 passes them on.
 */
export function handOnNavigation(element) {
  const handOn = (type, handler, wanted) =>
    element.addEventListener(
      type,
      (event) => {
        if (nodes2() || !wanted(event)) return;
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

/**
 * Change a node without an undo step, a "modified" mark, or a change that "run on change" would
 * answer with a run. The page's change tracker compares the graph with its own copies of it, so
 * these are changed as well. Where they cannot be reached (an internal interface), the node is
 * changed all the same, at the price of one undo step.
 */
export function silently(node, change) {
  change(node);
  const kept = tracker();
  const queued = [...(kept?.undoQueue ?? []), ...(kept?.redoQueue ?? [])];
  for (const state of [kept?.activeState, kept?.initialState, ...queued]) {
    const graphs = [state, ...(state?.definitions?.subgraphs ?? [])];
    const inside = (candidate) => candidate?.id === node.graph?.id;
    const graph = node.graph === rootGraph() ? state : graphs.find(inside);
    const saved = graph?.nodes?.find(
      (other) => String(other.id) === String(node.id) && other.type === node.type,
    );
    if (saved) change(saved);
  }
}
