// A block of text in a node, and a longer one under a fold, to be copied.
// Knows the DOM, not ComfyUI; its fields look as the page's.

const FIELD = "comfy-multiline-input"; // the page's class for text
const TEXT = `height: auto; overflow: auto; white-space: pre-wrap; user-select: text;
  font: 12px/1.5 sans-serif; padding: 6px 10px; border-radius: 6px`;

const styled = (tag, style, more) => Object.assign(document.createElement(tag), { style, ...more });

/** `host` is the element, `height` the pixels it needs; `onResize` is called when that changes. */
export class Note {
  constructor(label, textContent, onResize) {
    this.host = styled("div", TEXT, { className: FIELD, ariaLabel: `SpeCa ${label}` });
    this.text = styled("div", "", { textContent });
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

function folded(value, words) {
  const fold = styled("details", "margin-top: 4px");
  const title = styled("summary", "cursor: pointer", { textContent: words.diagnosis });
  const button = styled("button", "float: right; font: inherit; text-decoration: underline", {
    textContent: words.copy,
  });
  // In a text field ComfyUI leaves the keys alone: Ctrl+C copies text, not nodes.
  const field = styled("textarea", "width: 100%; height: 150px", {
    className: FIELD,
    readOnly: true,
    value,
    ariaLabel: words.diagnosis,
  });
  button.addEventListener("click", async (event) => {
    event.preventDefault(); // leave the fold as it is
    fold.open = true;
    field.select();
    // A page loaded over plain http from another machine has no navigator.clipboard.
    if (navigator.clipboard) await navigator.clipboard.writeText(value);
    else if (!document.execCommand("copy")) return; // the text is selected: Ctrl+C works
    button.textContent = words.copied;
  });
  title.append(button);
  fold.append(title, field);
  return fold;
}
