// "Speed up with SpeCa": puts the node into a model's link, from the menu of a sampler or a loader.
import { app } from "../../../scripts/app.js";
import { feeder, KIND, tracked, words } from "./page.js";

const GAP = 50; // for titles, and for a timeline

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
  const { graph, pos, size } = from.node;
  const made = globalThis.LiteGraph.createNode(KIND);
  const [width, height] = made.size;
  // Beside the node that it follows, so far down that it covers nothing.
  const left = pos[0] + size[0] + GAP;
  let top = pos[1];
  for (const node of [...graph.nodes].sort((a, b) => a.pos[1] - b.pos[1])) {
    const [x, y, w, h] = [...node.pos, ...node.size];
    const beside = x < left + width + GAP && left < x + w;
    if (beside && y < top + height + 2 * GAP && top < y + h + GAP) top = y + h + 2 * GAP;
  }
  graph.add(made);
  made.pos = [left, top];
  from.node.connect(from.slot, made, 0);
  for (const end of to) made.connect(0, end.node, end.slot);
  app.canvas.selectNode?.(made);
  const [x, y, w, h] = app.canvas.visible_area;
  if (left < x || top < y || left + width > x + w || top + height > y + h)
    app.canvas.centerOnNode(made);
  tracked();
}
