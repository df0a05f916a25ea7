// What one node shows. From top to bottom: the qualities, the sentence, the strip, the counts and
// the buttons.
import { shadowed } from "./assets.js";
import { button, html } from "./dom.js";
import { expectedCalls, stepsBegun } from "./report.js";
import { Strip } from "./strip.js";

const PARTS = ["qualities", "head", "line", "progress", "counts", "buttons"];
const COUNTS = ["computed", "accepted", "rejected", "limit"];

/**
 * The face of one node.
 *
 * `draw(model)` redraws it; model = {
 *   state: "empty" | "live" | "measured" | "whatif" | "stopped" | "failed",
 *   run: its id, report: the report to draw (null if there is none),
 *   said: see sentence.js, qualities: {name: {label, gain, warn, pressed}},
 *   cure, original, chosen, advanced: texts of the buttons that help, compare, show the next
 *     sampler and fold settings, or null; busy: pictures are being made,
 *   words, colours: a palette of ../speca.css }
 *
 * `owner` does what the buttons say: choose(quality), nextSampler(), compare(), fold(); and fit(),
 * when the face needs another height. `qualities`: their names.
 */
export class Face {
  constructor(owner, qualities) {
    this.owner = owner;
    for (const name of PARTS) this[name] = html("div", name);
    for (const name of COUNTS) this[name] = html("span", `count ${name}`);
    this.done = html("i");
    this.progress.append(this.done);
    this.strip = new Strip();
    this.sampler = button("link sampler", () => owner.nextSampler());
    this.details = button("link details", () => {
      this.open = !this.open;
      this.draw(this.model);
    });
    this.counts.append(...COUNTS.map((name) => this[name]), this.sampler, this.details);
    for (const name of qualities) {
      const made = button("quality", () => owner.choose(name), html("b"), html("i"));
      made.dataset.preset = name;
      this.qualities.append(made);
    }
    this.cure = button("pill cure", () => owner.choose(this.model.said.cure));
    this.original = button("pill original", () => owner.compare());
    this.advanced = button("link advanced", () => owner.fold());
    this.buttons.append(this.cure, this.original, this.advanced);
    this.body = html("div", "body", ...PARTS.map((name) => this[name]));
    this.progress.after(this.strip.host);
    this.host = shadowed(html("div", "card", this.body));
    this.host.ariaLabel = "SpeCa timeline";
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
    this.owner.fit();
  }

  draw(model) {
    this.model = model;
    const { state, run, report, said, words, colours } = model;
    Object.assign(this.host.dataset, { state, colours, draws: ++this.draws, run: run ?? "" });
    this.width = this.body.offsetWidth;
    this._qualities(model);
    this.body.dataset.tone = said.tone;
    say(this.head, said.head);
    say(this.line, said.line);
    const drawn = report ?? { calls: [] };
    const count = expectedCalls(drawn);
    const width = this.strip.host.clientWidth || this.width || 300;
    this.strip.host.classList.toggle("guess", state === "whatif");
    this.strip.draw(drawn, width, this.open && count ? words : null);
    this.strip.svg.ariaLabel = [said.head, said.line].filter(Boolean).join(". ");
    this.progress.hidden = state !== "live" || !count;
    if (count) this.done.style.width = `${(100 * drawn.calls.length) / count}%`;
    this._counts(model);
    this._buttons(model);
  }

  _qualities({ qualities, words }) {
    for (const made of this.qualities.children) {
      const { label, gain, warn, pressed } = qualities[made.dataset.preset];
      say(made.firstChild, label);
      say(made.lastChild, gain);
      made.classList.toggle("warn", warn);
      made.ariaPressed = pressed;
      made.title = words.preset;
    }
  }

  _counts({ state, report, chosen, words }) {
    this.counts.hidden = !report;
    if (!report) return;
    const { rows, accepted, rejected } = report.totals;
    const live = state === "live";
    const computed = `${words.computed} ${rows - accepted}`;
    say(this.computed, live ? words.step(stepsBegun(report), report.steps) : computed);
    this.computed.classList.toggle("sign", !live);
    say(this.accepted, `${words.accepted} ${accepted}`);
    const judged = report.calls.some(({ rows }) =>
      rows.some(({ tolerance }) => tolerance !== null),
    );
    say(this.rejected, this.open && rejected && words.rejected);
    say(this.limit, this.open && judged && words.tolerance);
    say(this.sampler, chosen);
    say(this.details, words.details);
    this.details.ariaExpanded = this.open;
  }

  _buttons({ cure, original, busy, advanced }) {
    say(this.cure, cure);
    say(this.original, original);
    say(this.advanced, advanced);
    this.original.disabled = busy;
    this.buttons.hidden = !(cure || original || advanced);
  }
}

/** Show a text, unless it is there: a change costs a layout. Hide its element where there is none. */
function say(element, text) {
  element.hidden = !text;
  if (text && element.textContent !== text) element.textContent = text;
}
