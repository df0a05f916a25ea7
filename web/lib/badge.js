// The speed-up in a node's title, also when the node is collapsed.
import { html } from "./dom.js";
import { nodes2 } from "./page.js";

const INK = "#4fe0b5";
const PAPER = "#12382e";
const TALL = 18;
const LOOK = `flex: none; padding: 0 7px; border-radius: 9px; font: 12px/${TALL}px sans-serif;
  color: ${INK}; background: ${PAPER};`;

export class Badge {
  constructor(node) {
    this.node = node;
    this.text = "";
    this.element = html("span", "speca-badge");
    this.element.style = LOOK;
    const { onDrawTitle } = node;
    const badge = this;
    node.onDrawTitle = function (context, ...rest) {
      onDrawTitle?.call(this, context, ...rest);
      if (badge.text && !nodes2()) badge._draw(context, this.width);
    };
  }

  set(text) {
    const changed = text !== this.text;
    this.text = this.element.textContent = text;
    this.show();
    if (changed) this.node.graph?.setDirtyCanvas(true, true);
  }

  /**
   * Nodes 2.0 has no place for badges in titles, and makes titles anew at times. A title may also
   * have been that of an earlier node with the same number, whose badge is still there.
   */
  show() {
    const title = `[data-node-id="${this.node.id}"] [data-testid="node-header-${this.node.id}"] > div`;
    const place = nodes2() ? document.querySelector(title) : null;
    for (const other of place?.querySelectorAll(".speca-badge") ?? [])
      if (other !== this.element) other.remove();
    if (!place || !this.text) this.element.remove();
    else if (this.element.parentNode !== place) place.append(this.element);
  }

  /** At the right of the title; over the corner of a collapsed node, whose title fills it. */
  _draw(context, wide) {
    context.save();
    context.font = "12px sans-serif";
    const width = context.measureText(this.text).width + 14;
    const title = globalThis.LiteGraph.NODE_TITLE_HEIGHT;
    const top = this.node.flags.collapsed ? -title - TALL - 3 : -(title + TALL) / 2;
    context.fillStyle = PAPER;
    context.beginPath();
    context.roundRect(wide - width - 8, top, width, TALL, TALL / 2);
    context.fill();
    Object.assign(context, { fillStyle: INK, textAlign: "left", textBaseline: "middle" });
    context.fillText(this.text, wide - width - 1, top + TALL / 2 + 1);
    context.restore();
  }
}
