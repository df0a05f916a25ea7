// Two pictures on each other: a wipe shows how they differ. Knows the DOM, not ComfyUI.
import { openDialog } from "./dialog.js";
import { button, html } from "./dom.js";
import { apart } from "./pictures.js";
import { clock } from "./sentence.js";

/**
 * `plain`, `speca`: {image, seconds}. `onSheet`, if any: a button asks for the other qualities.
 */
export function wipe(root, words, plain, speca, onSheet) {
  const told = [html("span", "psnr", apart(plain.image, speca.image, words))];
  if (plain.seconds && speca.seconds)
    told.unshift(html("b", "", words.faster((plain.seconds / speca.seconds).toFixed(1))));
  const more = button("pill sheet", () => {
    dialog.close();
    onSheet();
  });
  more.textContent = words.everyQuality;
  if (onSheet) told.push(more);
  const content = stage(words, plain, speca);
  const dialog = openDialog(root, { name: "wipe", content, told, close: words.close });
}

function stage(words, plain, speca) {
  const made = html("div", "stage");
  const { width, height } = sizeOf(speca.image);
  Object.assign(made.style, { width: `${width}px`, height: `${height}px` });
  made.append(plain.image.cloneNode(), speca.image.cloneNode(), html("i"));
  for (const [name, { seconds }] of Object.entries({ plain, speca }))
    made.append(html("span", name, words[name] + (seconds ? ` · ${clock(seconds)}` : "")));
  const move = (event) => {
    const { left, width: wide } = made.getBoundingClientRect();
    const at = Math.min(1, Math.max(0, (event.clientX - left) / wide));
    made.style.setProperty("--at", `${(100 * at).toFixed(1)}%`);
  };
  made.addEventListener("pointermove", move);
  made.addEventListener("pointerdown", move);
  return made;
}

/** As large as the window allows; a small picture is shown larger. */
function sizeOf({ naturalWidth, naturalHeight }) {
  const most = Math.min(
    (0.86 * innerWidth) / naturalWidth,
    (0.74 * innerHeight) / naturalHeight,
    Math.max(1, 512 / naturalWidth),
  );
  return { width: Math.round(naturalWidth * most), height: Math.round(naturalHeight * most) };
}
