// A block of text in a node, and a longer one under a fold, to be copied.
import { button, html } from "./dom.js";

const FIELD = "comfy-multiline-input"; // the page's class for text
const TEXT = `height: auto; overflow: auto; white-space: pre-wrap; user-select: text;
  font: 12px/1.5 sans-serif; padding: 6px 10px; border-radius: 6px`;

/**
 * `host` is the element, `height` the pixels it needs; `onResize` is called when that changes.
 * `words`: its first text by `name`, diagnosis (the fold's title), copy, copied.
 */
export class Note {
  constructor(name, words, onResize) {
    this.words = words;
    this.onResize = onResize;
    this.text = html("div", "", words[name]);
    // In a text field ComfyUI leaves the keys alone: Ctrl+C copies text, not nodes.
    this.field = html("textarea", {
      className: FIELD,
      readOnly: true,
      ariaLabel: words.diagnosis,
      style: "width: 100%; height: 150px",
    });
    this.copy = button("", (event) => this._copy(event));
    this.copy.style = "all: unset; float: right; outline: revert; text-decoration: underline";
    const title = html("summary", { style: "cursor: pointer" }, words.diagnosis, this.copy);
    this.fold = html("details", { style: "margin-top: 4px", hidden: true }, title, this.field);
    this.fold.addEventListener("toggle", onResize);
    const look = { className: FIELD, ariaLabel: `SpeCa ${name}`, style: TEXT };
    this.host = html("div", look, this.text, this.fold);
  }

  get height() {
    return this.fold.hidden ? 72 : this.fold.open ? 268 : 114;
  }

  /** Show a text; `detail`, if any, under the fold. */
  say(text, detail = "") {
    this.text.textContent = text;
    this.field.value = detail;
    this.copy.textContent = this.words.copy;
    this.fold.hidden = !detail;
    this.onResize();
  }

  _copy(event) {
    event.preventDefault(); // leave the fold as it is
    this.fold.open = true;
    this.field.focus();
    this.field.select();
    // A page loaded over plain http from another machine has no navigator.clipboard.
    if (document.execCommand("copy")) this.copy.textContent = this.words.copied;
  }
}
