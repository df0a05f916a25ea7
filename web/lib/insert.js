// "Speed up with SpeCa": puts the node into a model's link, from the menu of a sampler or a loader.
import { app } from "../../../scripts/app.js";
import { feeder, KIND, redraw, tracked, words } from "./page.js";

export function menuItems(node) {
  const place = placeOf(node);
  return place ? [{ content: words().menu, callback: () => insert(place) }] : [];
}

/** Where the node would go: {from, to: [...]}, each {node, slot}; null where no model is near. */
function placeOf(node) {
  if (node.type === KIND) return null;
  const isModel = ({ type }) => type === "MODEL";
  const input = node.inputs?.find(isModel);
  if (input) {
    const from = feeder(node, input.name);
    if (!from?.node || from.node.type === KIND) return null;
    return { from, to: [{ node, slot: input.name }] };
  }
  const guider = feeder(node, "guider")?.node; // behind it the model goes on
  if (guider) return placeOf(guider);
  const slot = node.outputs?.findIndex(isModel) ?? -1;
  if (slot < 0) return null;
  const to = (node.outputs[slot].links ?? []).map((id) => {
    const link = node.graph.links.get(id);
    return { node: node.graph.getNodeById(link.target_id), slot: link.target_slot };
  });
  // What leaves a subgraph leads to no node.
  const taken = to.some(({ node }) => !node || node.type === KIND);
  return taken ? null : { from: { node, slot }, to };
}

function insert({ from, to }) {
  const { graph } = from.node;
  const made = globalThis.LiteGraph.createNode(KIND);
  // Below all that lies in the column of the node that it follows: nothing is covered, or moves.
  const [left] = from.node.pos;
  const column = graph.nodes.filter(
    ({ pos, size }) => pos[0] < left + made.size[0] && left < pos[0] + size[0],
  );
  const lowest = Math.max(...column.map(({ pos, size }) => pos[1] + size[1]));
  graph.add(made);
  made.pos = [left, lowest + globalThis.LiteGraph.NODE_TITLE_HEIGHT + 20];
  from.node.connect(from.slot, made, 0);
  for (const end of to) made.connect(0, end.node, end.slot);
  app.canvas.selectNode?.(made);
  redraw(made);
  tracked();
}
