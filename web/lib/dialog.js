// A dialog over the page.
import { shadowed } from "./assets.js";
import { button, html } from "./dom.js";

const QUIET = ["keydown", "wheel", "pointerdown", "pointermove", "pointerup"];

/** Opens it: some elements, and below them a row that ends with a button to close it. */
export function openDialog(words, content, row) {
  const close = button("pill close", () => dialog.close(), words.close);
  const dialog = html("dialog", "", ...content, html("div", "told", ...row, close));
  const host = shadowed(dialog);
  dialog.addEventListener("close", () => host.remove());
  // The page has shortcuts of its own, and pans.
  for (const type of QUIET) dialog.addEventListener(type, (event) => event.stopPropagation());
  document.body.append(host);
  dialog.showModal();
  return dialog;
}

/** Do what may fail, and say so. */
export async function orAlert(work, failed = "SpeCa:") {
  try {
    await work();
  } catch (error) {
    console.warn("SpeCa:", error);
    globalThis.alert(`${failed} ${error.message}`);
  }
}
