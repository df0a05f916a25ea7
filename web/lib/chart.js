// The timeline as inline SVG in a shadow root: no style leaks in or out.
// Knows the DOM, not ComfyUI.
import { expectedCalls, gainOf, panelsOf, scaleOf, shareOf, whyNothing } from "./report.js";
import style from "./style.js";

export const MIN_HEIGHT = 196;
const NS = "http://www.w3.org/2000/svg";

const CSS = `
:host { display: block; min-height: ${MIN_HEIGHT}px; height: 100%; }
.card {
  box-sizing: border-box; height: 100%; min-height: ${MIN_HEIGHT}px; padding: 8px 10px;
  display: flex; flex-direction: column; gap: 5px; border-radius: 8px; overflow: hidden;
  user-select: none; font: 11px/1.35 Inter, system-ui, sans-serif;
  color: var(--input-text, ${style.ink}); background: var(--comfy-input-bg, ${style.paper});
}
.line { display: flex; align-items: baseline; gap: 8px; white-space: nowrap; min-height: 20px; }
.gain {
  font-size: 19px; line-height: 20px; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums;
}
.say {
  flex: 1 1 0; overflow: hidden; text-overflow: ellipsis; opacity: .8;
  font-variant-numeric: tabular-nums;
}
.chip, button {
  font: inherit; font-size: 10px; line-height: 16px; padding: 0 7px; border-radius: 9px;
  white-space: nowrap; color: inherit; background: none;
  border: 1px solid color-mix(in srgb, currentColor 28%, transparent);
}
.chip { opacity: .85; }
button { cursor: pointer; }
button:hover { border-color: currentColor; }
button[aria-pressed=true] {
  background: var(--input-text, ${style.ink}); color: var(--comfy-input-bg, ${style.paper});
  border-color: transparent; font-weight: 600;
}
[data-state=live] .chip.state { border-color: var(--accepted); color: var(--accepted); }
[data-state=stopped] .chip.state, [data-state=failed] .chip.state {
  border-color: var(--rejected); color: var(--rejected);
}
[data-state=whatif] .chip.state { border-style: dashed; border-color: currentColor; }
[data-state=whatif] .gain { font-style: italic; }
[data-state=whatif] svg.plot {
  outline: 1px dashed color-mix(in srgb, currentColor 45%, transparent); outline-offset: 1px;
  border-radius: 3px;
}
svg.plot {
  flex: 1 1 0; height: 0; min-height: 92px; width: 100%; display: block; overflow: visible;
}
.failure {
  flex: 1 1 0; min-height: 92px; overflow: auto; white-space: pre-wrap; user-select: text;
  font-size: 12px;
}
[hidden] { display: none !important; }
.legend {
  display: flex; flex-wrap: wrap; column-gap: 8px; white-space: nowrap; overflow: hidden;
  font-variant-numeric: tabular-nums; height: 15px;
}
.legend span { display: inline-flex; align-items: center; gap: 4px; }
.legend svg { width: 11px; height: 11px; overflow: visible; }
.legend i { opacity: .7; font-style: normal; }
.presets { display: flex; gap: 4px; flex-wrap: wrap; height: 18px; overflow: hidden; }
.accepted {
  fill: var(--accepted); fill-opacity: ${style.opacity.accepted}; stroke: var(--accepted);
}
.computed { fill: var(--computed); }
.rejected { fill: var(--rejected); }
.column { fill-opacity: ${style.opacity.column}; }
.cross { fill: none; stroke: var(--rejected); stroke-width: 1.6; stroke-linecap: round; }
.tolerance {
  fill: none; stroke: currentColor; stroke-width: 1.2; stroke-dasharray: 3 2; opacity: .9;
}
.base { stroke: currentColor; stroke-width: 1; opacity: .3; }
.dot { fill: currentColor; opacity: .22; }
.hit { fill: transparent; }
.hit:hover { fill: currentColor; fill-opacity: .09; }
text {
  fill: currentColor; font-size: 9px; opacity: .65; font-variant-numeric: tabular-nums;
}
text.message { font-size: 11px; opacity: .8; text-anchor: middle; }
`;

const html = (tag, className, text = "") =>
  Object.assign(document.createElement(tag), { className, textContent: text });

function shape(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A bar, at least half a pixel wide: hundreds of calls leave it no room. */
function rectangle(x, y, width, height, className) {
  const wide = Math.max(width, 0.5);
  const rx = Math.min(1.5, wide / 3);
  return shape("rect", { x, y, width: wide, height: Math.max(height, 0.5), rx, class: className });
}

function cross(x, y, size) {
  const wide = 2 * size;
  const d = `M${x - size} ${y - size}l${wide} ${wide}m0 ${-wide}l${-wide} ${wide}`;
  return shape("path", { class: "cross", d });
}

/**
 * The chart of one node.
 *
 * `draw(model)` redraws it; model = {
 *   state: "empty" | "live" | "measured" | "whatif" | "stopped" | "failed",
 *   report: the report to draw (null if empty), note: short text after the gain,
 *   failure: the node's error message, shown in place of a report,
 *   samplers: ids, if there is a choice; sampler: the chosen one,
 *   presets: names, preset: the one the widgets hold (or undefined),
 *   words, decimals, colours: name of a palette }
 */
export class Chart {
  constructor({ onPreset, onSampler }) {
    this.host = document.createElement("div");
    this.host.setAttribute("aria-label", "SpeCa timeline");
    const root = this.host.attachShadow({ mode: "open" });
    this.card = html("div", "card");
    this.gain = html("span", "gain");
    this.say = html("span", "say");
    this.sampler = html("button", "sampler");
    this.sampler.addEventListener("click", onSampler);
    this.state = html("span", "chip state");
    const line = html("div", "line");
    line.append(this.gain, this.say, this.sampler, this.state);
    this.plot = shape("svg", { class: "plot", role: "img" });
    this.failure = html("div", "failure");
    this.legend = html("div", "legend");
    this.presets = html("div", "presets");
    this.onPreset = onPreset;
    this.card.append(line, this.plot, this.failure, this.legend, this.presets);
    root.append(Object.assign(document.createElement("style"), { textContent: CSS }), this.card);
    this.draws = 0;
    new ResizeObserver(() => this.model && this.draw(this.model)).observe(this.host);
  }

  draw(model) {
    this.model = model;
    const { state, report, words, colours } = model;
    const palette = style.palettes[colours] ?? Object.values(style.palettes)[0];
    for (const [name, value] of Object.entries(palette))
      this.card.style.setProperty(`--${name}`, value);
    this.card.dataset.state = this.host.dataset.state = state;
    this.host.dataset.draws = ++this.draws;
    this.host.dataset.run = model.run ?? "";
    this._header(model);
    this.failure.textContent = model.failure ?? "";
    this.failure.hidden = !model.failure;
    this.plot.style.display = model.failure ? "none" : "";
    this._plot(report, model);
    this._legend(report, words);
    this._presets(model);
    const texts = [this.gain, this.say, this.state].map((element) => element.textContent);
    this.plot.setAttribute("aria-label", texts.filter(Boolean).join(", "));
  }

  _header({ state, report, note, samplers, sampler, words, decimals }) {
    const gain = report && gainOf(report);
    this.gain.textContent = gain ? `≈${gain.speedup.toFixed(decimals)}×` : "";
    const parts = [];
    if (report) {
      if (note) parts.push(note);
      const saved = gain?.saved.toFixed(decimals);
      const nothing = state === "measured" && whyNothing(report);
      if (nothing) parts.push(words.noDrafts[nothing] ?? words.noDrafts.other(nothing));
      else if (gain && state !== "whatif")
        parts.push(saved < 0 ? words.lost(saved.slice(1)) : words.saved(saved.replace("-", "")));
      else if (!gain && state !== "live" && report.calls.length) parts.push(words.noGain);
    }
    this.say.textContent = parts.join(" · ");
    this.say.title = this.say.textContent;
    this.sampler.hidden = (samplers?.length ?? 0) < 2;
    this.sampler.textContent = words.sampler(sampler);
    const progress = state === "live" ? ` ${report.calls.length}/${expectedCalls(report)}` : "";
    this.state.textContent = state === "empty" ? "" : words[state] + progress;
    this.state.hidden = state === "empty";
  }

  _plot(report, { words }) {
    const width = this.plot.clientWidth || 300;
    const height = this.plot.clientHeight || 92;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.replaceChildren();
    if (!report?.calls.length) return this._empty(width, height, words);
    const panels = panelsOf(report);
    const shown = panels.slice(0, style.images);
    const count = expectedCalls(report);
    const scale = scaleOf(panels);
    const axis = 11;
    const gap = shown.length > 1 ? 4 : 0;
    const tall = (height - axis - gap * (shown.length - 1)) / shown.length;
    const step = width / count;
    shown.forEach(({ image, bars }, i) => {
      const label = shown.length > 1 ? `${image + 1}` : "";
      this._panel(bars, { top: i * (tall + gap), tall, step, count, width, scale, label });
    });
    const hidden = panels.length - shown.length;
    this._text(width, height - 1, hidden ? words.more(hidden) : count, "end");
    this._text(0, height - 1, 1, "start");
    if (count > 4) this._text(width / 2, height - 1, Math.round(count / 2), "middle");
    // One transparent column per call on top of all carries the tooltip.
    report.calls.forEach((call, i) => {
      const position = (call.position + 1).toFixed(call.position % 1 ? 2 : 0);
      const milliseconds = (1000 * call.seconds).toFixed(0);
      const lines = [`${words.call(i + 1, position, report.steps)}, ${milliseconds} ms`];
      for (const { image, bars } of shown) {
        const prefix = panels.length > 1 ? `${words.image(image + 1)}: ` : "";
        if (bars[i]) lines.push(describe(bars[i], prefix, words));
      }
      const hit = rectangle(i * step, 0, step, height - axis, "hit");
      hit.append(shape("title", {}, lines.join("\n")));
      this.plot.append(hit);
    });
  }

  _panel(bars, { top, tall, step, count, width, scale, label }) {
    const bottom = top + tall;
    const inset = Math.min(2, step * 0.14);
    const room = Math.min(10, tall / 3); // above the tallest bar, for the crosses
    const level = (share) => bottom - share * (tall - room);
    let path = "";
    for (let i = 0; i < count; i++) {
      const bar = bars[i];
      const x = i * step + inset;
      const wide = step - 2 * inset;
      if (!bar) {
        const r = Math.min(1.4, wide / 2);
        if (i >= bars.length)
          this.plot.append(shape("circle", { class: "dot", cx: x + wide / 2, cy: bottom - 2, r }));
        continue;
      }
      const group = shape("g", { class: "bar", "data-verdict": bar.verdict });
      const y = Math.min(level(shareOf(bar, scale)), bottom - 3);
      if (bar.verdict === "accepted") {
        group.append(rectangle(x + 0.5, y + 0.5, wide - 1, bottom - y - 1, "accepted"));
      } else {
        // The model ran: the whole column is filled, as that is where the time went.
        group.append(
          rectangle(x, top, wide, tall, `column ${bar.verdict}`),
          rectangle(x, y, wide, bottom - y, bar.verdict),
        );
        if (bar.verdict === "rejected")
          group.append(cross(x + wide / 2, top + room / 2, Math.min(3, wide / 2.4, room / 3)));
      }
      this.plot.append(group);
      if (bar.tolerance !== null) {
        const y = level(Math.min(bar.tolerance / scale, 1)).toFixed(1);
        path += `M${(i * step).toFixed(1)} ${y}h${step.toFixed(1)}`;
      }
    }
    this.plot.append(shape("line", { class: "base", x1: 0, x2: width, y1: bottom, y2: bottom }));
    if (path) this.plot.append(shape("path", { class: "tolerance", d: path }));
    if (label) this._text(1, top + 8, label, "start");
  }

  _empty(width, height, words) {
    const count = 24;
    for (let i = 0; i < count; i++) {
      const tall = [14, 22, 17][i % 3] + (i % 3 === 0 ? 26 : 0);
      const x = (i * width) / count + 1.5;
      this.plot.append(rectangle(x, height - 11 - tall, width / count - 3, tall, "dot"));
    }
    this.plot.append(
      shape("text", { class: "message", x: width / 2, y: height / 2 - 8 }, words.empty),
    );
  }

  _text(x, y, text, anchor) {
    this.plot.append(shape("text", { x, y, "text-anchor": anchor }, String(text)));
  }

  _legend(report, words) {
    const entry = (sign, count, name) => {
      const element = html("span", "");
      const icon = shape("svg", { viewBox: "0 0 11 11" }, ...sign);
      element.append(icon, html("b", "", count), html("i", "", name));
      return element;
    };
    const totals = report?.totals;
    const counts = totals && { ...totals, computed: totals.rows - totals.drafted };
    const verdicts = style.severity.map((verdict) => {
      const sign =
        verdict === "rejected"
          ? [rectangle(0.5, 5, 10, 5.5, verdict), cross(5.5, 2, 2)]
          : [rectangle(0.5, 0.5, 10, 10, verdict)];
      return entry(sign, String(counts?.[verdict] ?? ""), words[verdict]);
    });
    const line = shape("path", { class: "tolerance", d: "M0 5.5h11" });
    this.legend.replaceChildren(...verdicts, entry([line], "", words.tolerance));
  }

  _presets({ presets, preset, words }) {
    const made = this.presets.childElementCount;
    if (made !== presets.length || this.presets.dataset.words !== words.preset) {
      this.presets.dataset.words = words.preset;
      this.presets.replaceChildren(
        ...presets.map((name) => {
          const button = html("button", "", words.presets[name] ?? name);
          button.dataset.preset = name;
          button.title = words.preset;
          button.addEventListener("click", () => this.onPreset(name));
          return button;
        }),
      );
    }
    for (const button of this.presets.children)
      button.setAttribute("aria-pressed", String(button.dataset.preset === preset));
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
