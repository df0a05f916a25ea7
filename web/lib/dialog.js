// A dialog over the page: its content, and below it a row of texts and buttons.
import { button, html } from "./dom.js";

const CSS = `
dialog {
  border: none; border-radius: 10px; padding: 12px; background: #1b1b1b; color: #e4e4e4;
  font: 13px/1.4 Inter, system-ui, sans-serif; max-width: 92vw;
}
dialog::backdrop { background: rgb(0 0 0 / 70%); }
.told { display: flex; gap: 16px; align-items: center; margin-top: 10px; }
.told i { flex: 1; }
.told b { font-weight: 600; }
`;

/** Opens it below `root`, a shadow root; its `closed` is called once it has gone. */
export function openDialog(root, { name, css, content, told, close, closed }) {
  const dialog = html("dialog", name);
  const row = html("div", "told");
  const shut = button("pill", () => dialog.close());
  shut.textContent = close;
  row.append(...told, html("i"), shut);
  dialog.append(html("style", "", CSS + css), content, row);
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
