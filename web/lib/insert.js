// "Speed up with SpeCa": puts the node into a model's link, from the menu of a sampler or a loader.
import { app } from "../../../scripts/app.js";
import { feeder, KIND, redraw, tracked, words } from "./page.js";

const GUIDED = "guider"; // an input behind which the model goes on

export function menuItems(node) {
  const place = placeOf(node);
  return place ? [{ content: words().menu, callback: () => insert(place) }] : [];
}

/** Where the node would go: {from, slot, to: [{node, slot}]}; null where no model is near. */
function placeOf(node) {
  if (node.type === KIND) return null;
  const isModel = ({ type }) => type === "MODEL";
  const input = node.inputs?.findIndex(isModel) ?? -1;
  if (input >= 0) {
    const from = feeder(node, node.inputs[input].name);
    if (!from?.node || from.node.type === KIND) return null;
    return { from: from.node, slot: from.slot, to: [{ node, slot: input }] };
  }
  const guider = feeder(node, GUIDED);
  if (guider?.node) return placeOf(guider.node);
  const slot = node.outputs?.findIndex(isModel) ?? -1;
  if (slot < 0) return null;
  const to = (node.outputs[slot].links ?? []).map((id) => {
    const link = node.graph.links.get(id);
    return { node: node.graph.getNodeById(link.target_id), slot: link.target_slot };
  });
  return to.some(({ node }) => node.type === KIND) ? null : { from: node, slot, to };
}

function insert({ from, slot, to }) {
  const { graph } = from;
  const made = globalThis.LiteGraph.createNode(KIND);
  // Below all that lies in the column of the node that it follows: nothing is covered, or moves.
  const [left] = from.pos;
  const column = graph.nodes.filter(
    ({ pos, size }) => pos[0] < left + made.size[0] && left < pos[0] + size[0],
  );
  const lowest = Math.max(...column.map(({ pos, size }) => pos[1] + size[1]));
  graph.add(made);
  made.pos = [left, lowest + globalThis.LiteGraph.NODE_TITLE_HEIGHT + 20];
  from.connect(slot, made, 0);
  for (const end of to) made.connect(0, end.node, end.slot);
  app.canvas.selectNode?.(made);
  redraw(made);
  tracked();
}
