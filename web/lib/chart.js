// The details of a run: each call's error against its tolerance, as inline SVG.
// Knows the DOM, not ComfyUI.
import { html, shape } from "./dom.js";
import { expectedCalls, panelsOf, scaleOf, shareOf } from "./report.js";
import style from "./style.js";

const AXIS = 11; // pixels below the panels, for the numbers
const TALL = 64; // of one panel; more panels share what three would take

/** A bar, at least half a pixel wide: hundreds of calls leave it no room. */
function rectangle(x, y, width, height, className) {
  const wide = Math.max(width, 0.5);
  const rx = Math.min(1.5, wide / 3);
  return shape("rect", { x, y, width: wide, height: Math.max(height, 0.5), rx, class: className });
}

/** `draw(report, words, width)` redraws it. */
export class Chart {
  constructor() {
    this.host = html("div", "chart");
    this.plot = shape("svg", { class: "plot", role: "img" });
    this.legend = html("div", "legend");
    this.host.append(this.plot, this.legend);
  }

  draw(report, words, width) {
    const panels = panelsOf(report);
    const shown = panels.slice(0, style.images);
    const gap = shown.length > 1 ? 4 : 0;
    const tall = Math.min(TALL, (3 * TALL) / shown.length);
    const height = shown.length * (tall + gap) - gap + AXIS;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.setAttribute("height", height);
    this.plot.replaceChildren();
    const count = expectedCalls(report);
    const scale = scaleOf(panels);
    const step = width / Math.max(1, count);
    shown.forEach(({ image, bars }, i) => {
      const label = shown.length > 1 ? `${image + 1}` : "";
      this._panel(bars, { top: i * (tall + gap), tall, step, count, width, scale, label });
    });
    const hidden = panels.length - shown.length;
    this._text(width, height - 1, hidden ? words.more(hidden) : count, "end");
    this._text(0, height - 1, 1, "start");
    if (count > 4) this._text(width / 2, height - 1, Math.round(count / 2), "middle");
    this._hover(report, panels, shown, step, height, words);
    this._legend(words);
  }

  /** One transparent column per call on top of all carries the tooltip. */
  _hover(report, panels, shown, step, height, words) {
    report.calls.forEach((call, i) => {
      const position = (call.position + 1).toFixed(call.position % 1 ? 2 : 0);
      const milliseconds = (1000 * call.seconds).toFixed(0);
      const lines = [`${words.call(i + 1, position, report.steps)}, ${milliseconds} ms`];
      for (const { image, bars } of shown) {
        const prefix = panels.length > 1 ? `${words.image(image + 1)}: ` : "";
        if (bars[i]) lines.push(describe(bars[i], prefix, words));
      }
      const hit = rectangle(i * step, 0, step, height - AXIS, "hit");
      hit.append(shape("title", {}, lines.join("\n")));
      this.plot.append(hit);
    });
  }

  _panel(bars, { top, tall, step, count, width, scale, label }) {
    const bottom = top + tall;
    const inset = Math.min(2, step * 0.14);
    const level = (share) => bottom - share * (tall - 2);
    let path = "";
    for (let i = 0; i < count; i++) {
      const bar = bars[i];
      const x = i * step + inset;
      const wide = step - 2 * inset;
      if (!bar) continue;
      const y = Math.min(level(shareOf(bar, scale)), bottom - 3);
      if (bar.verdict === "accepted") {
        this.plot.append(rectangle(x + 0.5, y + 0.5, wide - 1, bottom - y - 1, "accepted"));
      } else {
        // The model ran: the whole column is filled, as that is where the time went.
        this.plot.append(
          rectangle(x, top, wide, tall, `column ${bar.verdict}`),
          rectangle(x, y, wide, bottom - y, bar.verdict),
        );
      }
      if (bar.tolerance !== null) {
        const y = level(Math.min(bar.tolerance / scale, 1)).toFixed(1);
        path += `M${(i * step).toFixed(1)} ${y}h${step.toFixed(1)}`;
      }
    }
    this.plot.append(shape("line", { class: "base", x1: 0, x2: width, y1: bottom, y2: bottom }));
    if (path) this.plot.append(shape("path", { class: "tolerance", d: path }));
    if (label) this._text(1, top + 8, label, "start");
  }

  _text(x, y, text, anchor) {
    this.plot.append(shape("text", { x, y, "text-anchor": anchor }, String(text)));
  }

  _legend(words) {
    const entry = (sign, name) => {
      const element = html("span");
      element.append(shape("svg", { viewBox: "0 0 11 11" }, sign), name);
      return element;
    };
    const signs = style.severity.map((verdict) =>
      entry(rectangle(0.5, 0.5, 10, 10, verdict), words[verdict]),
    );
    const line = shape("path", { class: "tolerance", d: "M0 5.5h11" });
    this.legend.replaceChildren(...signs, entry(line, words.tolerance));
  }
}

function describe(bar, prefix, words) {
  const parts = [`${prefix}${words[bar.verdict]} (${bar.reasons.join(", ")})`];
  if (bar.infinite) parts.push(`${words.error} ∞`);
  else if (bar.error !== null) parts.push(`${words.error} ${bar.error.toPrecision(3)}`);
  if (bar.tolerance !== null) parts.push(`${words.tolerance} ${bar.tolerance.toPrecision(3)}`);
  if (bar.hindcast !== null) parts.push(`${words.hindcast} ${bar.hindcast.toPrecision(3)}`);
  return parts.join(", ");
}
