// Pictures in the page: loaded, and how far two of them are apart. Knows the DOM, not ComfyUI.
import { html } from "./dom.js";

export function loaded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
}

/** How far two 8 bit pictures are apart, in words: their peak signal-to-noise ratio. */
export function apart(one, other, words) {
  const [a, b] = [one, other].map(pixelsOf);
  let sum = 0;
  for (let i = 0; i < a.length; i++) if (i % 4 !== 3) sum += (a[i] - b[i]) ** 2;
  if (!sum) return words.identical;
  return words.psnr((10 * Math.log10((255 ** 2 * a.length * 0.75) / sum)).toFixed(1));
}

function pixelsOf(image) {
  const canvas = html("canvas");
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}
