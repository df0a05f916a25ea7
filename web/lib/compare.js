// A dialog that compares pictures of one prompt: two on each other with a wipe between, and a row of
// all qualities to choose from.
import { openDialog } from "./dialog.js";
import { button, html } from "./dom.js";
import { clock, gains, joined, times } from "./sentence.js";

/**
 * `plain`, `speca`: {image, seconds: or null}. `others`:
 * [{label, make}]; `make()` resolves to such a pair. `work(job)` runs what makes them.
 */
export function compare(words, plain, speca, others, work) {
  const { naturalWidth: width, naturalHeight: height } = plain.image;
  const stage = html("div", "stage");
  const tiles = html("div", "tiles");
  const told = html("span");
  const caption = (name, picture) => html("span", "", joined(name, timed(picture)));
  const show = (made, name) => {
    stage.replaceChildren(plain.image.cloneNode(), made.image.cloneNode(), html("i"));
    stage.append(caption(words.plain, plain), caption(name, made));
    told.textContent = apart(words, plain, made);
  };
  show(speca, words.speca);
  stage.onpointermove = stage.onpointerdown = ({ clientX }) => {
    const { left, width: wide } = stage.getBoundingClientRect();
    const at = Math.min(1, Math.max(0, (clientX - left) / wide));
    stage.style.setProperty("--at", `${(100 * at).toFixed(1)}%`);
  };

  const makeAll = async () => {
    for (const { label, make } of others) {
      const wait = html("div", "wait", "…");
      const said = html("small", "", words.sheetMakes);
      const tile = button("tile", () => show(made, label), wait, html("b", "", label), said);
      tile.disabled = true;
      tiles.append(tile);
      const made = await make();
      if (!dialog.open) return;
      wait.replaceWith(made.image.cloneNode());
      said.textContent = joined(timed(made), apart(words, plain, made));
      tile.disabled = false;
    }
  };
  const askAll = () => {
    every.hidden = true;
    work(makeAll);
  };
  const every = button("pill sheet", askAll, words.everyQuality);
  const part = button("pill", () => stage.classList.toggle("apart"), words.difference);
  const dialog = openDialog(words, [stage, tiles], [told, html("i"), part, every]);
  dialog.style = `--width: ${width}; --height: ${height}`;
}

const timed = ({ seconds }) => (seconds ? clock(seconds) : "");

/** How much faster a picture was made, and how far off it is. */
function apart(words, plain, made) {
  const speedup = made.seconds && plain.seconds / made.seconds;
  const faster = gains({ speedup }) && words.faster(times(speedup));
  return joined(faster, distance(words, plain.image, made.image));
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
  const { naturalWidth: width, naturalHeight: height } = image;
  const context = html("canvas", { width, height }).getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}
