// What one node shows, in a shadow root: no style leaks in or out. From top to bottom: the
// qualities, the sentence, the strip, the counts and the buttons.
// Knows the DOM, not ComfyUI.
import { shadowed } from "./assets.js";
import { button, html, write } from "./dom.js";
import { expectedCalls } from "./report.js";
import { Strip } from "./strip.js";

const PARTS = ["qualities", "head", "line", "progress", "counts", "buttons"];
const COUNTS = ["computed", "accepted", "rejected", "limit"];

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
 *   words, colours: a palette of ../speca.css }
 *
 * Handlers: onQuality(name), onSampler(), onOriginal(), onAdvanced(), onHeight(): it needs another.
 */
export class Face {
  constructor(handlers) {
    this.handlers = handlers;
    for (const name of PARTS) this[name] = html("div", name);
    for (const name of COUNTS) this[name] = html("span", `count ${name}`);
    this.done = html("i");
    this.progress.append(this.done);
    this.strip = new Strip();
    this.sampler = button("link sampler", handlers.onSampler);
    this.details = button("link details", () => {
      this.open = !this.open;
      this.draw(this.model);
    });
    this.counts.append(...COUNTS.map((name) => this[name]), this.sampler, this.details);
    this.cure = button("pill cure", () => handlers.onQuality(this.model.said.cure));
    this.original = button("pill original", handlers.onOriginal);
    this.advanced = button("link advanced", handlers.onAdvanced);
    this.buttons.append(this.cure, this.original, this.advanced);
    this.body = html("div", "body", ...PARTS.map((name) => this[name]));
    this.progress.after(this.strip.host);
    this.host = shadowed(html("div", "card", this.body));
    this.host.setAttribute("aria-label", "SpeCa timeline");
    this.draws = this.height = this.width = 0;
    this.open = false; // the details
    new ResizeObserver(() => this._resized()).observe(this.body);
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
    Object.assign(this.host.dataset, { state, colours, draws: ++this.draws, run: model.run ?? "" });
    this.width = this.body.offsetWidth;
    this._qualities(model);
    this.body.dataset.tone = said.tone;
    say(this.head, said.head);
    say(this.line, said.line);
    const drawn = report?.calls.length ? report : null;
    const count = drawn ? expectedCalls(drawn) : 0;
    const width = this.strip.host.clientWidth || this.width || 300;
    this.strip.host.classList.toggle("guess", state === "whatif");
    this.strip.draw(drawn, width, this.open && drawn ? words : null);
    this.strip.svg.setAttribute("aria-label", [said.head, said.line].filter(Boolean).join(". "));
    this.progress.hidden = state !== "live" || !count;
    if (count) this.done.style.width = `${(100 * drawn.calls.length) / count}%`;
    this._counts(model, drawn, count);
    this._buttons(model);
  }

  _qualities({ qualities, words }) {
    if (this.qualities.childElementCount !== qualities.length)
      this.qualities.replaceChildren(
        ...qualities.map(({ name }) => {
          const press = () => this.handlers.onQuality(name);
          const made = button("quality", press, html("b"), html("i"));
          made.dataset.preset = name;
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

  _counts({ state, samplers, sampler, words }, report, count) {
    this.counts.hidden = !report;
    if (!report) return;
    const { rows, accepted, rejected } = report.totals;
    const live = state === "live";
    const computed = `${words.computed} ${rows - accepted}`;
    say(this.computed, live ? words.step(report.calls.length, count) : computed);
    this.computed.classList.toggle("sign", !live);
    say(this.accepted, `${words.accepted} ${accepted}`);
    const judged = report.calls.some(({ rows }) =>
      rows.some(({ tolerance }) => tolerance !== null),
    );
    say(this.rejected, this.open && rejected && words.rejected);
    say(this.limit, this.open && judged && words.tolerance);
    say(this.sampler, samplers.length > 1 && words.sampler(sampler));
    say(this.details, words.details);
    this.details.setAttribute("aria-expanded", String(this.open));
  }

  _buttons({ cure, original, busy, advanced }) {
    say(this.cure, cure);
    say(this.original, original);
    say(this.advanced, advanced);
    this.original.disabled = Boolean(busy);
    this.buttons.hidden = !cure && !original && !advanced;
  }
}

/** Show a text; hide its element where there is none. */
function say(element, text) {
  element.hidden = !text;
  write(element, text || "");
}
