// How a run is drawn: in the node by strip.js, in SpeCa Report by nodes/runtime/page/timeline.py,
// which reads the object as JSON.
//
// palettes: after Okabe and Ito, darkened until they stand out on white as well; the report's is the
//     first.
// severity: of the verdicts. An image shows the worst of its branches.
// opacity: of an accepted bar, and of the column around another.
// scale: `headroom` above the largest tolerance, or error; of that at most `tolerances` times the
//     largest tolerance. Taller bars are cut.
// images: panels at most.
export default {
  "palettes": {
    "colour-blind safe": { "accepted": "#12a07a", "computed": "#3a8fd0", "rejected": "#e0642a" },
    "grey": { "accepted": "currentColor", "computed": "currentColor", "rejected": "currentColor" }
  },
  "paper": "#222222",
  "ink": "#dddddd",
  "severity": ["accepted", "computed", "rejected"],
  "opacity": { "accepted": 0.22, "column": 0.15 },
  "scale": { "headroom": 1.15, "tolerances": 2 },
  "images": 6
};
