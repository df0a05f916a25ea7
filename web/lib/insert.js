// "Speed up with SpeCa": puts the node into a model's link, from the menu of a sampler or a loader.
import { app } from "../../../scripts/app.js";
import { feeder, tracker, words } from "./page.js";

const KIND = "SpeCaAccelerate";
const GUIDED = "guider"; // an input behind which the model goes on

/** The menu's entries for a node. */
export function menuItems(node) {
  const place = placeOf(node);
  if (!place) return [];
  return [{ content: words().menu, callback: () => insert(place) }];
}

/** Where the node would go: {from, slot, to: [{node, slot}]}; null where no model is near. */
function placeOf(node) {
  if (!node || node.type === KIND) return null;
  const input = node.inputs?.findIndex(({ type }) => type === "MODEL") ?? -1;
  if (input >= 0) {
    const source = feeder(node, node.inputs[input].name);
    if (!source?.node || source.node.type === KIND) return null;
    return { from: source.node, slot: source.slot, to: [{ node, slot: input }] };
  }
  const guider = feeder(node, GUIDED);
  if (guider?.node) return placeOf(guider.node);
  const slot = node.outputs?.findIndex(({ type }) => type === "MODEL") ?? -1;
  if (slot < 0) return null;
  const links = (node.outputs[slot].links ?? []).map((id) => node.graph.links.get(id));
  const to = links.map((link) => ({
    node: node.graph.getNodeById(link.target_id),
    slot: link.target_slot,
  }));
  return to.some(({ node }) => node.type === KIND) ? null : { from: node, slot, to };
}

function insert({ from, slot, to }) {
  const { graph } = from;
  const made = globalThis.LiteGraph.createNode(KIND);
  graph.add(made);
  made.pos = [from.pos[0] + from.size[0] + 40, from.pos[1]];
  makeRoom(made, graph, from);
  from.connect(slot, made, 0);
  for (const end of to) made.connect(0, end.node, end.slot);
  app.canvas.selectNode?.(made);
  graph.setDirtyCanvas(true, true);
  tracker()?.checkState?.();
}

/** What lies where the node goes moves down below it, if it is free: the node, not the others. */
function makeRoom(made, graph, from) {
  const title = globalThis.LiteGraph.NODE_TITLE_HEIGHT;
  const meets = (other) =>
    other !== made &&
    made.pos[0] < other.pos[0] + other.size[0] &&
    other.pos[0] < made.pos[0] + made.size[0] &&
    made.pos[1] - title < other.pos[1] + other.size[1] &&
    other.pos[1] - title < made.pos[1] + made.size[1];
  if (!graph.nodes.some(meets)) return;
  const left = from.pos[0];
  const column = graph.nodes.filter(
    (other) =>
      other !== made &&
      other.pos[0] < left + made.size[0] + 40 &&
      other.pos[0] + other.size[0] > left,
  );
  const lowest = Math.max(...column.map((other) => other.pos[1] + other.size[1]));
  made.pos = [left, lowest + title + 20];
}
