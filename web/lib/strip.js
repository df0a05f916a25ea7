// A run as one row of cells per image: solid where the model ran, hollow where a step was skipped,
// with a notch where a draft was tried and then computed. With details each cell is as tall as its
// error, below a line for its tolerance.
import { html, shape } from "./dom.js";
import { expectedCalls, isComputed, MOST_IMAGES, panelsOf, scaleOf, shareOf } from "./report.js";

const TALL = [0, 14, 12, 10, 10, 8, 8, 8, 8]; // of a row, by the number of images
const LEAST = 5; // of more
const DETAILED = { row: 64, rows: 192, gap: 4, axis: 11 }; // rows share what three would take
const GAP = 2.5;

/** Keeps its cells: a redraw changes attributes. */
export class Strip {
  constructor() {
    this.rest = shape("path", { class: "rest" });
    this.details = shape("g");
    this.svg = shape("svg", { role: "img" }, this.rest, this.details);
    this.host = html("div", "strip", this.svg);
    this.cells = [];
  }

  /** `words`: for the details; null without. */
  draw(report, width, words) {
    const panels = panelsOf(report);
    const rows = words ? panels.slice(0, MOST_IMAGES) : panels;
    const count = expectedCalls(report);
    const step = width / Math.max(1, count);
    const wide = Math.max(0.6, step - Math.min(2.5, step * 0.25));
    const tall = words
      ? Math.min(DETAILED.row, DETAILED.rows / rows.length)
      : (TALL[rows.length] ?? LEAST);
    const pitch = tall + (words ? DETAILED.gap : GAP);
    const bottom = Math.max(0, rows.length * pitch - pitch + tall);
    const height = bottom + (words ? DETAILED.axis : 0);
    const scale = words && scaleOf(panels);
    set(this.svg, "height", height);
    set(this.svg, "viewBox", `0 0 ${width} ${height}`);
    this.host.classList.toggle("detailed", Boolean(words));
    let used = 0;
    let rest = "";
    rows.forEach(({ bars }, row) => {
      for (let i = 0; i < count; i++) {
        const bar = bars[i];
        const high = bar && scale ? Math.max(3, tall * shareOf(bar, scale)) : tall;
        const box = [i * step, row * pitch + tall - high, wide, high];
        if (bar) this._cell(used++, bar.verdict, outline(bar.verdict, ...box));
        else if (i >= bars.length) rest += outline("", ...box);
      }
    });
    for (const cell of this.cells.splice(used)) cell.remove();
    set(this.rest, "d", rest);
    const place = { step, wide, tall, pitch, bottom, width, count, scale };
    this.details.replaceChildren(...(words ? detailsOf(report, panels, rows, place, words) : []));
  }

  _cell(index, verdict, d) {
    this.cells[index] ??= this.svg.insertBefore(shape("path", { class: "bar" }), this.details);
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

const label = (x, y, text, anchor) => shape("text", { x, y, "text-anchor": anchor }, text);

/** What lies around and on the cells. Where the model ran all of the column is tinted. */
function detailsOf(report, panels, rows, place, words) {
  const { step, wide, tall, pitch, bottom, width, count, scale } = place;
  const columns = { computed: "", rejected: "" };
  let tolerances = "";
  rows.forEach(({ bars }, row) => {
    const top = row * pitch;
    bars.forEach((bar, i) => {
      const x = short(i * step);
      if (isComputed(bar)) columns[bar.verdict] += outline("", x, top, wide, tall);
      if (bar?.tolerance == null) return;
      const share = Math.min(bar.tolerance / scale, 1);
      tolerances += `M${x} ${short(top + tall * (1 - share))}h${short(step)}`;
    });
  });
  const hidden = panels.length - rows.length;
  const under = bottom + DETAILED.axis - 1;
  return [
    ...Object.entries(columns).map(([verdict, d]) => shape("path", { class: verdict, d })),
    shape("path", { class: "tolerance", d: tolerances }),
    ...rows.map(({ image }, row) => label(1, row * pitch + 8, rows[1] ? image + 1 : "", "start")),
    label(0, under, 1, "start"),
    label(width / 2, under, count > 4 ? Math.round(count / 2) : "", "middle"),
    label(width, under, hidden ? words.more(hidden) : count, "end"),
    ...report.calls.map((call, i) => {
      const d = outline("", i * step, 0, step, bottom);
      const title = shape("title", {}, tooltip(call, i, report.steps, rows, words));
      return shape("path", { class: "hit", d }, title);
    }),
  ];
}

function tooltip(call, index, steps, rows, words) {
  const position = (call.position + 1).toFixed(call.position % 1 ? 2 : 0);
  const lines = [
    `${words.call(index + 1, position, steps)}, ${Math.round(1000 * call.seconds)} ms`,
  ];
  for (const { image, bars } of rows) {
    const bar = bars[index];
    if (!bar) continue;
    const parts = [`${words[bar.verdict]} (${bar.reasons.join(", ")})`];
    if (bar.infinite) parts.push(`${words.error} ∞`);
    for (const name of ["error", "tolerance", "hindcast"])
      if (bar[name] !== null) parts.push(`${words[name]} ${bar[name].toPrecision(3)}`);
    const whose = rows[1] ? `${words.image(image + 1)}: ` : "";
    lines.push(whose + parts.join(", "));
  }
  return lines.join("\n");
}
