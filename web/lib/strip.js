// A run as one strip of cells per image: solid where the model ran, hollow where a step was skipped,
// with a notch where a draft was tried and then computed. Knows the DOM, not ComfyUI.
import { shape } from "./dom.js";

const TALL = [14, 12, 10, 10, 8, 8, 8, 8, 5]; // of a row, by the number of images; more are as 9
const GAP = 2.5;

/** Keeps its cells: a redraw changes attributes. */
export class Strip {
  constructor() {
    this.host = document.createElement("div");
    this.host.className = "strip";
    this.rest = shape("path", { class: "rest" });
    this.svg = shape("svg", { role: "img" }, this.rest);
    this.host.append(this.svg);
    this.cells = [];
  }

  /** `panels` as panelsOf() of report.js makes them; `count`: calls of the whole run. */
  draw(panels, count, width) {
    const tall = TALL[Math.min(panels.length, TALL.length) - 1] ?? 0;
    const height = Math.max(0, panels.length * (tall + GAP) - GAP);
    set(this.svg, "height", height);
    set(this.svg, "viewBox", `0 0 ${width} ${height}`);
    const step = width / Math.max(1, count);
    const wide = Math.max(0.6, step - Math.min(2.5, step * 0.25));
    let used = 0;
    let rest = "";
    panels.forEach(({ bars }, row) => {
      const y = row * (tall + GAP);
      for (let i = 0; i < count; i++) {
        const x = i * step;
        if (bars[i])
          this._cell(used++, bars[i].verdict, outline(bars[i].verdict, x, y, wide, tall));
        else if (i >= bars.length) rest += outline("", x, y, wide, tall);
      }
    });
    for (const cell of this.cells.splice(used)) cell.remove();
    set(this.rest, "d", rest);
  }

  _cell(index, verdict, d) {
    if (!this.cells[index]) {
      this.cells[index] = shape("path", { class: "bar" });
      this.svg.append(this.cells[index]);
    }
    set(this.cells[index], "data-verdict", verdict);
    set(this.cells[index], "d", d);
  }
}

function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const short = (number) => Number(number.toFixed(2));

function outline(verdict, x, y, wide, tall) {
  const inset = verdict === "accepted" ? Math.min(0.55, wide / 4) : 0; // of the stroke
  const [left, top] = [short(x + inset), short(y + inset)];
  const [across, down] = [short(wide - 2 * inset), short(tall - 2 * inset)];
  if (verdict !== "rejected") return `M${left} ${top}h${across}v${down}h${-across}z`;
  const half = short(across / 2);
  const deep = short(tall * 0.45);
  return `M${left} ${top}l${half} ${deep}l${short(across - half)} ${-deep}v${down}h${-across}z`;
}
