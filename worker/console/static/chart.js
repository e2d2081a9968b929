// Scores over time against the threshold.

import { svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 64;
const TOP = 2; // thresholds; what is beyond is drawn at the upper edge

/** The curve of some scores in thresholds, the oldest first; what is beyond the threshold has a mark. */
export function curve(scores, label) {
  const x = (index) => (scores.length < 2 ? WIDTH / 2 : (index / (scores.length - 1)) * WIDTH);
  const y = (value) => HEIGHT - (Math.min(value, TOP) / TOP) * HEIGHT;
  const known = scores.map((value, index) => [value, index]).filter(([value]) => value !== null);
  const points = known.map(([value, index]) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
  const beyond = known.filter(([value]) => value > 1);
  return svg("svg", { viewBox: `-4 -4 ${WIDTH + 8} ${HEIGHT + 8}`, class: "curve", role: "img", "aria-label": label },
    svg("line", { x1: 0, x2: WIDTH, y1: y(1), y2: y(1), class: "threshold" }),
    svg("polyline", { points: points.join(" "), class: "scores" }),
    beyond.map(([value, index]) => svg("path", { d: diamond(x(index), y(value)), class: "beyond" })));
}

function diamond(x, y) {
  return `M${x.toFixed(1)} ${(y - 4).toFixed(1)}l4 4-4 4-4-4z`;
}
