// Packed reports on stdin -> what the page draws of each, on stdout. tests/comfy/test_timeline.py
// compares it with what SpeCa Report draws.
import { readFileSync } from "node:fs";

import { MOST_IMAGES, panelsOf, scaleOf, shareOf, unpack } from "../../web/lib/report.js";

const reports = JSON.parse(readFileSync(0, "utf8")).map(unpack);
const drawn = reports.map((report) => {
  const panels = panelsOf(report);
  const scale = scaleOf(panels);
  const share = (bar) => bar && { ...bar, share: shareOf(bar, scale) };
  return { report, most: MOST_IMAGES, scale, panels: panels.map(({ bars }) => bars.map(share)) };
});
console.log(JSON.stringify(drawn));
