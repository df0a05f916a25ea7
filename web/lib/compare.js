// A dialog that compares pictures of one prompt: two on each other with a wipe
// between, and a row of all qualities to choose from. Knows the DOM, not ComfyUI.
import { openDialog } from "./dialog.js";
import { button, html } from "./dom.js";
import { clock, joined, times } from "./sentence.js";

/**
 * `plain`, `speca`: {image, seconds: or null}. `others`:
 * [{label, make}]; `make()` resolves to such a pair. `work(job)` runs what makes them.
 */
export function compare(words, plain, speca, others, work) {
  const stage = html("div", "stage");
  const told = html("span");
  const tiles = html("div", "tiles");
  const show = (made) => {
    fill(stage, words, plain, made, every.hidden ? 0.5 : 0.74);
    told.textContent = apart(words, plain, made);
  };
  const askAll = () => {
    every.hidden = true;
    show(speca);
    work(() => makeAll(dialog, tiles, words, plain, others, show));
  };
  const every = button("pill sheet", askAll, words.everyQuality);
  show(speca);
  const dialog = openDialog(words, [stage, tiles], [told, html("i"), every]);
}

/** One by one, until the dialog is closed. */
async function makeAll(dialog, tiles, words, plain, others, show) {
  const { naturalWidth: width, naturalHeight: height } = plain.image;
  tiles.style.setProperty("--ratio", `${width} / ${height}`);
  for (const { label, make } of others) {
    const said = html("small", "", words.sheetMakes);
    let made = null;
    const wait = html("div", "wait", "…");
    const tile = button("tile", () => show(made), wait, html("b", "", label), said);
    tile.disabled = true;
    tiles.append(tile);
    made = await make();
    if (!dialog.open) return;
    wait.replaceWith(made.image.cloneNode());
    said.textContent = joined(timed(made), apart(words, plain, made));
    tile.disabled = false;
  }
}

const timed = ({ seconds }) => (seconds ? clock(seconds) : "");

/** How much faster a picture was made, and how far it is from the original. */
function apart(words, plain, made) {
  const faster = plain.seconds && made.seconds && words.faster(times(plain.seconds / made.seconds));
  return joined(faster, distance(words, plain.image, made.image));
}

function fill(stage, words, plain, made, share) {
  const { naturalWidth: width, naturalHeight: height } = made.image;
  // As large as the window allows; a small picture is shown larger.
  const room = Math.min((0.86 * innerWidth) / width, (share * innerHeight) / height);
  const scale = Math.min(room, Math.max(1, 512 / width));
  Object.assign(stage.style, { width: `${width * scale}px`, height: `${height * scale}px` });
  const label = (name, picture) => html("span", name, joined(words[name], timed(picture)));
  stage.replaceChildren(plain.image.cloneNode(), made.image.cloneNode(), html("i"));
  stage.append(label("plain", plain), label("speca", made));
  stage.onpointermove = stage.onpointerdown = ({ clientX }) => {
    const { left, width: wide } = stage.getBoundingClientRect();
    const at = Math.min(1, Math.max(0, (clientX - left) / wide));
    stage.style.setProperty("--at", `${(100 * at).toFixed(1)}%`);
  };
}

/** Of two 8 bit pictures, in words: their peak signal-to-noise ratio. */
function distance(words, ...images) {
  const [a, b] = images.map(pixelsOf);
  let sum = 0;
  for (let i = 0; i < a.length; i++) if (i % 4 !== 3) sum += (a[i] - b[i]) ** 2;
  if (!sum) return words.identical;
  return words.psnr((10 * Math.log10((255 ** 2 * a.length * 0.75) / sum)).toFixed(1));
}

function pixelsOf(image) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = Object.assign(html("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}
