// The look of the face; the strip and the chart bring their own.
import style from "./style.js";

export const FACE_CSS = `
:host { display: block; }
[hidden] { display: none !important; }
.card {
  box-sizing: border-box; min-height: 100%; padding: 8px 10px; border-radius: 8px;
  user-select: none; font: 12px/1.4 Inter, system-ui, sans-serif; container-type: inline-size;
  color: var(--input-text, ${style.ink}); background: var(--comfy-input-bg, ${style.paper});
  font-variant-numeric: tabular-nums;
}
.body { display: flex; flex-direction: column; gap: 6px; }
button { font: inherit; color: inherit; background: none; border: none; padding: 0; cursor: pointer; }
button:focus-visible { outline: 2px solid var(--computed); outline-offset: 1px; }
.qualities {
  display: grid; grid-template-columns: repeat(4, 1fr); border-radius: 6px; overflow: hidden;
  background: color-mix(in srgb, currentColor 9%, transparent);
}
@container (max-width: 240px) { .qualities { grid-template-columns: repeat(2, 1fr); } }
.quality { padding: 3px 2px 4px; display: flex; flex-direction: column; align-items: center; }
.quality:hover { background: color-mix(in srgb, currentColor 9%, transparent); }
.quality b { font-weight: 500; line-height: 16px; }
.quality i { font-style: normal; font-size: 11px; line-height: 13px; opacity: .75; }
.quality[aria-pressed=true] { background: #2f6fa8; color: #fff; }
.quality[aria-pressed=true] i { opacity: .95; }
.quality.warn i { color: var(--warn); opacity: 1; }
.quality.warn[aria-pressed=true] i { color: #ffd9a8; }
.head {
  font-size: 19px; line-height: 23px; font-weight: 650; letter-spacing: -.01em; margin-top: 2px;
  overflow-wrap: anywhere;
}
.head:empty, .line:empty { display: none; }
.line { opacity: .85; overflow-wrap: anywhere; white-space: pre-line; }
[data-tone=bad] .line { user-select: text; opacity: 1; }
.body { /* mixed with the ink: readable on dark and on light */
  --good: color-mix(in srgb, #12b088 72%, currentColor);
  --warn: color-mix(in srgb, #d98a14 75%, currentColor);
  --bad: color-mix(in srgb, #e8551c 80%, currentColor);
}
[data-tone=good] .head { color: var(--good); }
[data-tone=warn] .head { color: var(--warn); }
[data-tone=bad] .head { color: var(--bad); }
.progress { height: 4px; border-radius: 2px; background: color-mix(in srgb, currentColor 14%, transparent); }
.progress i { display: block; height: 100%; border-radius: 2px; background: var(--accepted); }
.counts { display: flex; flex-wrap: wrap; gap: 0 10px; font-size: 11px; opacity: .85; }
.counts > .details { margin-left: auto; }
.count { display: inline-flex; align-items: center; gap: 4px; }
.count.sign::before, .count.accepted::before {
  content: ""; width: 8px; height: 8px; border-radius: 1px; box-sizing: border-box;
}
.count.sign::before { background: var(--computed); }
.count.accepted::before { border: 1.2px solid var(--accepted); }
.link { text-decoration: underline dotted; text-underline-offset: 2px; opacity: .9; }
.link:hover { text-decoration: underline; }
.buttons { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; }
.pill {
  padding: 2px 10px; border-radius: 11px; line-height: 17px;
  border: 1px solid color-mix(in srgb, currentColor 35%, transparent);
}
.pill:hover { border-color: currentColor; }
.pill:disabled { opacity: .6; cursor: default; }
.cure { background: #2f6fa8; color: #fff; border-color: transparent; }
.advanced { margin-left: auto; font-size: 11px; opacity: .75; }
`;
