// What one node shows, in a shadow root: no style leaks in or out. From top to bottom: the
// qualities, the sentence, the strip, the counts and the buttons.
// Knows the DOM, not ComfyUI.
import { styles } from "./assets.js";
import { button, html, write } from "./dom.js";
import { expectedCalls } from "./report.js";
import { Strip } from "./strip.js";
import style from "./style.js";

/**
 * The face of one node.
 *
 * `draw(model)` redraws it; model = {
 *   state: "empty" | "live" | "measured" | "whatif" | "stopped" | "failed",
 *   run: its id, report: the report to draw (null if there is none),
 *   said: see sentence.js, cure: text of the button that helps, or null,
 *   qualities: [{name, label, gain, warn, pressed}],
 *   samplers: ids, if there is a choice; sampler: the chosen one,
 *   original: text of the button to compare, or null; busy: pictures are being made,
 *   advanced: text of the button that folds settings, or null,
 *   words, colours: name of a palette }
 *
 * Handlers: onQuality(name), onSampler(), onOriginal(), onAdvanced(), onHeight(): it needs another.
 */
export class Face {
  constructor(handlers) {
    this.host = html("div");
    this.host.setAttribute("aria-label", "SpeCa timeline");
    this.root = this.host.attachShadow({ mode: "open" });
    this.body = html("div", "body");
    this.qualities = html("div", "qualities");
    this.head = html("div", "head");
    this.line = html("div", "line");
    this.progress = html("div", "progress");
    this.progress.append(html("i"));
    this.strip = new Strip();
    this._rows(handlers);
    this.body.append(
      ...[this.qualities, this.head, this.line, this.progress],
      ...[this.strip.host, this.counts, this.buttons],
    );
    const card = html("div", "card");
    card.append(this.body);
    this.root.adoptedStyleSheets = [styles];
    this.root.append(card);
    this.handlers = handlers;
    this.draws = this.height = this.width = 0;
    this.open = false; // the details
    new ResizeObserver(() => this._resized()).observe(this.body);
  }

  _rows({ onSampler, onOriginal, onAdvanced }) {
    this.computed = html("span", "count computed");
    this.accepted = html("span", "count accepted");
    this.rejected = html("span", "count rejected");
    this.limit = html("span", "count limit");
    this.sampler = button("link sampler", onSampler);
    this.details = button("link details", () => {
      this.open = !this.open;
      this.draw(this.model);
    });
    this.counts = html("div", "counts");
    this.counts.append(this.computed, this.accepted, this.rejected, this.limit);
    this.counts.append(this.sampler, this.details);
    this.cure = button("pill cure", () => this.handlers.onQuality(this.model.said.cure));
    this.original = button("pill original", onOriginal);
    this.advanced = button("link advanced", onAdvanced);
    this.buttons = html("div", "buttons");
    this.buttons.append(this.cure, this.original, this.advanced);
  }

  _resized() {
    const { offsetHeight: height, offsetWidth: width } = this.body;
    if (!height) return; // not on the page
    if (width !== this.width && this.model) this.draw(this.model);
    if (height === this.height) return;
    this.height = height;
    this.handlers.onHeight();
  }

  draw(model) {
    this.model = model;
    const { state, report, said, words, colours } = model;
    const palette = style.palettes[colours] ?? Object.values(style.palettes)[0];
    const { accepted, column } = style.opacity;
    const opacities = { "accepted-opacity": accepted, "column-opacity": column };
    for (const [name, value] of Object.entries({ ...palette, ...opacities }))
      this.host.style.setProperty(`--${name}`, value);
    Object.assign(this.host.dataset, { state, draws: ++this.draws, run: model.run ?? "" });
    this.width = this.body.offsetWidth;
    this._qualities(model);
    this.body.dataset.tone = said.tone;
    write(this.head, said.head);
    write(this.line, said.line);
    const drawn = report?.calls.length ? report : null;
    const count = drawn ? expectedCalls(drawn) : 0;
    const width = this.strip.host.clientWidth || this.width || 300;
    this.strip.host.classList.toggle("guess", state === "whatif");
    this.strip.draw(drawn, width, this.open && drawn ? words : null);
    this.strip.svg.setAttribute("aria-label", [said.head, said.line].filter(Boolean).join(". "));
    this._progress(state === "live" && count ? drawn.calls.length / count : null);
    this._counts(model, drawn, count);
    this._buttons(model);
  }

  _qualities({ qualities, words }) {
    if (this.qualities.childElementCount !== qualities.length)
      this.qualities.replaceChildren(
        ...qualities.map(({ name }) => {
          const made = button("quality", () => this.handlers.onQuality(name));
          made.dataset.preset = name;
          made.append(html("b"), html("i"));
          return made;
        }),
      );
    qualities.forEach(({ label, gain, warn, pressed }, i) => {
      const made = this.qualities.children[i];
      write(made.firstChild, label);
      write(made.lastChild, gain);
      made.classList.toggle("warn", warn);
      made.setAttribute("aria-pressed", String(pressed));
      made.title = words.preset;
    });
  }

  _progress(share) {
    this.progress.hidden = share === null;
    if (share !== null) this.progress.firstChild.style.width = `${(100 * share).toFixed(1)}%`;
  }

  _counts({ state, samplers, sampler, words }, report, count) {
    this.counts.hidden = !report;
    this.sampler.hidden = (samplers?.length ?? 0) < 2;
    write(this.sampler, words.sampler(sampler));
    write(this.details, words.details);
    this.details.setAttribute("aria-expanded", String(this.open));
    if (!report) return;
    const { rows, accepted } = report.totals;
    const live = state === "live";
    write(
      this.computed,
      live ? words.step(report.calls.length, count) : `${words.computed} ${rows - accepted}`,
    );
    this.computed.classList.toggle("sign", !live);
    for (const sign of [this.rejected, this.limit]) sign.hidden = !this.open;
    write(this.rejected, words.rejected);
    write(this.limit, words.tolerance);
    write(this.accepted, `${words.accepted} ${accepted}`);
  }

  _buttons({ cure, original, busy, advanced }) {
    for (const [element, text] of [
      [this.cure, cure],
      [this.original, original],
      [this.advanced, advanced],
    ]) {
      element.hidden = !text;
      write(element, text ?? "");
    }
    this.original.disabled = Boolean(busy);
    this.buttons.hidden = !cure && !original && !advanced;
  }
}
