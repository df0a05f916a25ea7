// The speed-up in a node's title, also when the node is collapsed.
import { app } from "../../../scripts/app.js";
import { also, nodes2, redraw } from "./page.js";

const INK = "#4fe0b5";
const PAPER = "#12382e";
const TALL = 18;
const LOOK = `flex: none; padding: 0 7px; border-radius: 9px; font: 12px/${TALL}px sans-serif;
  color: ${INK}; background: ${PAPER};`;

const texts = new WeakMap(); // node -> text
const sheet = new CSSStyleSheet();
document.adoptedStyleSheets.push(sheet);

export function setBadge(node, text) {
  if (texts.get(node) === text) return;
  if (!texts.has(node)) paintTitle(node);
  texts.set(node, text);
  showBadges();
  redraw(node);
}

/** Nodes 2.0 makes titles anew at times: styles stay. They name the nodes of the graph in sight. */
export function showBadges() {
  const rules = app.canvas.graph.nodes.map((node) => {
    const text = texts.get(node);
    const title = `[data-testid="node-header-${node.id}"] > div::after`;
    return text ? `${title} { content: "${text}"; ${LOOK} }` : "";
  });
  sheet.replaceSync(rules.join(""));
}

/** On the canvas at the right of the title; of a collapsed node below it. */
function paintTitle(node) {
  also(node, "onDrawTitle", (context) => {
    const text = texts.get(node);
    if (!text || nodes2()) return;
    context.save();
    context.font = "12px sans-serif";
    const width = context.measureText(text).width + 14;
    const left = node.width - width - 8;
    const top = node.flags.collapsed ? 3 : -(globalThis.LiteGraph.NODE_TITLE_HEIGHT + TALL) / 2;
    context.fillStyle = PAPER;
    context.beginPath();
    context.roundRect(left, top, width, TALL, TALL / 2);
    context.fill();
    Object.assign(context, { fillStyle: INK, textAlign: "left", textBaseline: "middle" });
    context.fillText(text, left + 7, top + TALL / 2 + 1);
    context.restore();
  });
}
