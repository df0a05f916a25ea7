// The contact sheet: one picture at every quality, with its time. Knows the DOM, not ComfyUI.
import { openDialog } from "./dialog.js";
import { button, html } from "./dom.js";
import { apart } from "./pictures.js";
import { clock, times } from "./sentence.js";
import { wipe } from "./wipe.js";

class Tile {
  constructor(label) {
    this.host = button("tile", () => this.onClick?.());
    this.host.disabled = true;
    this.picture = html("div", "wait", "…");
    this.said = html("small");
    this.host.append(this.picture, html("b", "", label), this.said);
  }

  wait(text) {
    this.picture.textContent = text;
  }

  show({ image }, said) {
    const shown = image.cloneNode();
    this.picture.replaceWith(shown);
    this.picture = shown;
    this.said.textContent = said.filter(Boolean).join(" · ");
  }
}

/**
 * Show the original, and make the others one by one until the dialog is closed. `plain`: {image,
 * seconds}. `others`: [{label, make}]; `make()` resolves to such a pair. A click on one compares it.
 */
export async function contactSheet(root, words, plain, others) {
  const sheet = html("div", "tiles");
  const { naturalWidth: width, naturalHeight: height } = plain.image;
  sheet.style.setProperty("--ratio", `${width} / ${height}`);
  const original = new Tile(words.plain);
  original.show(plain, [plain.seconds && clock(plain.seconds)]);
  const tiles = others.map(({ label }) => new Tile(label));
  sheet.append(...[original, ...tiles].map(({ host }) => host));
  let open = true;
  openDialog(root, {
    ...{ name: "contact", content: sheet, close: words.close },
    told: [html("span", "", words.sheetHint)],
    closed: () => (open = false),
  });
  for (const [i, { make }] of others.entries()) {
    if (!open) return;
    tiles[i].wait(words.sheetMakes);
    const made = await make();
    const gain = made.seconds && plain.seconds && `${times(plain.seconds / made.seconds)}×`;
    const psnr = apart(plain.image, made.image, words);
    tiles[i].show(made, [made.seconds && clock(made.seconds), gain, psnr]);
    tiles[i].onClick = () => wipe(root, words, plain, made);
    tiles[i].host.disabled = false;
  }
}
