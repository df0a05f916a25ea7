// A dialog over the page. Knows the DOM, not ComfyUI.
import { styles } from "./assets.js";
import { button, html } from "./dom.js";

const QUIET = ["keydown", "wheel", "pointerdown", "pointermove", "pointerup"];

/** Opens it: some elements, and below them a row that ends with a button to close it. */
export function openDialog(words, content, row) {
  const host = html("div");
  const dialog = html("dialog");
  const last = html("div", "told");
  last.append(
    ...row,
    button("pill close", () => dialog.close(), words.close),
  );
  dialog.append(...content, last);
  dialog.addEventListener("close", () => host.remove());
  // The page has shortcuts of its own, and pans.
  for (const type of QUIET) dialog.addEventListener(type, (event) => event.stopPropagation());
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [styles];
  root.append(dialog);
  document.body.append(host);
  dialog.showModal();
  return dialog;
}
