// A dialog over the page: its content, and below it a row of texts and buttons.
import { button, html } from "./dom.js";

/** Opens it below `root`, a shadow root; its `closed` is called once it has gone. */
export function openDialog(root, { name, content, told, close, closed }) {
  const dialog = html("dialog", name);
  const row = html("div", "told");
  const shut = button("pill", () => dialog.close());
  shut.textContent = close;
  row.append(...told, html("i"), shut);
  dialog.append(content, row);
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed?.();
  });
  // The page has shortcuts of its own, and pans.
  for (const type of ["keydown", "wheel", "pointerdown", "pointermove", "pointerup"])
    dialog.addEventListener(type, (event) => event.stopPropagation());
  root.append(dialog);
  dialog.showModal();
  return dialog;
}
