// Two pictures on each other: a wipe shows how they differ. Knows the DOM, not ComfyUI.
import { button, html } from "./dom.js";
import { clock } from "./sentence.js";

const CSS = `
dialog.wipe {
  border: none; border-radius: 10px; padding: 12px; background: #1b1b1b; color: #e4e4e4;
  font: 13px/1.4 Inter, system-ui, sans-serif; max-width: 92vw;
}
dialog.wipe::backdrop { background: rgb(0 0 0 / 70%); }
.stage {
  position: relative; overflow: hidden; cursor: ew-resize; border-radius: 6px; touch-action: none;
  --at: 50%; user-select: none;
}
.stage img { display: block; width: 100%; height: 100%; image-rendering: auto; pointer-events: none; }
.stage img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.stage i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; background: #fff; }
.stage span {
  position: absolute; top: 8px; padding: 1px 8px; border-radius: 9px; background: rgb(0 0 0 / 60%);
}
.stage span:first-of-type { left: 8px; } .stage span:last-of-type { right: 8px; }
.told { display: flex; gap: 16px; align-items: center; margin-top: 10px; }
.told i { flex: 1; }
.told b { font-weight: 600; }
`;

export class Wipe {
  constructor(root, words) {
    this.root = root;
    this.words = words;
  }

  /** `times`: {plain, speca} in seconds. Resolves once both pictures are there. */
  async show(plain, speca, times) {
    const images = await Promise.all([plain, speca].map(loaded));
    const dialog = html("dialog", "wipe");
    const stage = html("div", "stage");
    const { width, height } = sizeOf(images[1]);
    Object.assign(stage.style, { width: `${width}px`, height: `${height}px` });
    stage.append(...images, html("i"));
    ["plain", "speca"].forEach((name) => {
      const time = times[name] ? ` · ${clock(times[name])}` : "";
      stage.append(html("span", name, this.words[name] + time));
    });
    const move = (event) => {
      const { left, width: wide } = stage.getBoundingClientRect();
      const at = Math.min(1, Math.max(0, (event.clientX - left) / wide));
      stage.style.setProperty("--at", `${(100 * at).toFixed(1)}%`);
    };
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerdown", move);
    const told = html("div", "told");
    if (times.plain && times.speca)
      told.append(html("b", "", this.words.faster((times.plain / times.speca).toFixed(1))));
    told.append(html("span", "psnr", this.words.psnr(psnrOf(images))), html("i"));
    const close = button("pill", () => dialog.close());
    close.textContent = this.words.close;
    told.append(close);
    dialog.append(html("style", "", CSS), stage, told);
    dialog.addEventListener("close", () => dialog.remove());
    // The page has shortcuts of its own, and pans.
    for (const type of ["keydown", "wheel", "pointerdown", "pointermove", "pointerup"])
      dialog.addEventListener(type, (event) => event.stopPropagation());
    this.root.append(dialog);
    dialog.showModal();
  }
}

function loaded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
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

/** Peak signal-to-noise ratio of two 8 bit pictures, in dB; infinite: they are the same. */
function psnrOf(images) {
  const [a, b] = images.map(pixelsOf);
  let sum = 0;
  for (let i = 0; i < a.length; i++) if (i % 4 !== 3) sum += (a[i] - b[i]) ** 2;
  return 10 * Math.log10((255 ** 2 * a.length * 0.75) / sum);
}

function pixelsOf(image) {
  const canvas = html("canvas");
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}
