// A block of text in a node, and a longer one under a fold, to be copied.
// Knows the DOM, not ComfyUI.

const CSS = `
  font: 12px/1.5 sans-serif; color: var(--input-text); background: var(--comfy-input-bg);
  border-radius: 6px; padding: 6px 10px; white-space: pre-wrap; overflow: auto;
  box-sizing: border-box; user-select: text;`;
const DETAIL = `
  display: block; width: 100%; height: 150px; margin-top: 4px; box-sizing: border-box; resize: none;
  font: 11px/1.4 monospace; color: inherit; background: none; border-radius: 4px;
  border: 1px solid color-mix(in srgb, currentColor 28%, transparent);`;
const BUTTON = `
  float: right; font: inherit; font-size: 11px; color: inherit; background: none; border: none;
  text-decoration: underline; cursor: pointer;`;

const styled = (tag, style) => Object.assign(document.createElement(tag), { style });

/** `host` is the element, `height` the pixels it needs; `onResize` is called when that changes. */
export class Note {
  constructor(label, text, onResize) {
    this.host = styled("div", CSS);
    this.host.setAttribute("aria-label", `SpeCa ${label}`);
    this.text = styled("div", "");
    this.text.textContent = text;
    this.host.append(this.text);
    this.onResize = onResize;
  }

  get height() {
    return this.fold?.open ? 268 : this.fold ? 114 : 72;
  }

  /**
   * Show a text; `detail`, if any, under a fold.
   * `words`: diagnosis (the fold's name), copy, copied.
   */
  say(text, detail, words) {
    this.text.textContent = text;
    this.fold?.remove();
    this.fold = detail ? folded(detail, words) : null;
    if (!this.fold) return;
    this.fold.addEventListener("toggle", this.onResize);
    this.host.append(this.fold);
    this.onResize();
  }
}

function folded(detail, words) {
  const fold = styled("details", "margin-top: 4px");
  const title = styled("summary", "cursor: pointer; opacity: .8");
  const button = styled("button", BUTTON);
  // In a text field ComfyUI leaves the keys alone: Ctrl+C copies text, not nodes.
  const field = Object.assign(styled("textarea", DETAIL), {
    readOnly: true,
    spellcheck: false,
    value: detail,
  });
  field.setAttribute("aria-label", words.diagnosis);
  title.textContent = words.diagnosis;
  button.textContent = words.copy;
  button.addEventListener("click", async (event) => {
    event.preventDefault(); // leave the fold as it is
    fold.open = true;
    field.select();
    // A page loaded over plain http from another machine has no navigator.clipboard.
    if (navigator.clipboard) await navigator.clipboard.writeText(detail);
    else if (!document.execCommand("copy")) return; // the text is selected: Ctrl+C works
    button.textContent = words.copied;
  });
  title.append(button);
  fold.append(title, field);
  return fold;
}
