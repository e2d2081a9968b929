// Why a result is as it is, in words and small pictures.

import { h, shape, svg } from "./dom.js";
import { detectorName, sentence } from "./sentence.js";
import { number, t } from "./words.js";

const BARS = [240, 56]; // width and height of the histogram
const PICTURES = 6;

/** The good place that comes nearest to the worst place of the frame, or null where the bank shows none. */
export function nearestGood(told) {
  const worst = [...told.places].sort((one, other) => other.thresholds - one.thresholds);
  const shown = worst.flatMap((place) => place.nearest).find((good) => good.picture !== null);
  return shown ?? null;
}

/** A small picture of a good part, with the place marked that was compared. */
export function goodPicture(good) {
  const box = h("div", { class: "box" });
  const image = h("img", { src: `data:image/jpeg;base64,${good.picture.jpeg}`, alt: good.picture.name, onload: () => good.box && box.append(mark(good.box, image)) });
  box.append(image);
  return box;
}

function mark(place, image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  return svg("svg", { class: "heat", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("rect", { x: place.left * width, y: place.top * height, width: place.width * width, height: place.height * height, class: "mark" }));
}

/** All of it. */
export function explained(told, row) {
  return [
    h("p", { class: "sentence" }, sentence(told, row)),
    told.notes.map((note) => h("p", {}, shape("alarm"), note)),
    told.same_score !== null && h("p", {}, shape(told.same_score ? "good" : "alarm"), t(told.same_score ? "explain.same" : "explain.other")),
    h("h3", {}, t("explain.parts")),
    parts(told),
    h("h3", {}, t("explain.standing")),
    histogram(told),
    h("p", {}, t("explain.above", { above: number(told.standing.above), pictures: number(told.standing.pictures) })),
    told.turning && turning(told.turning),
    h("h3", {}, t("explain.views")),
    h("p", {}, told.views.map((view) => number(view, 2)).join(" · ")),
    nearest(told),
  ];
}

function parts(told) {
  const rows = [...told.parts].sort((one, other) => other.points - one.points);
  const head = ["explain.detector", "explain.vote", "explain.evidence", "explain.points"];
  return h("table", {}, h("thead", {}, h("tr", {}, head.map((key) => h("th", {}, t(key))))),
    h("tbody", {}, rows.map((part) => h("tr", {}, h("td", {}, detectorName(part.detector)), h("td", {}, `${number(100 * part.vote)} %`), h("td", {}, number(part.evidence, 2)), h("td", {}, number(part.points, 2))))));
}

/** Good pictures by score, with this one's score and the threshold as lines. */
function histogram(told) {
  const { edges, counts } = told.standing;
  const low = edges[0];
  const span = Math.max(told.score, told.threshold, edges[edges.length - 1]) - low || 1;
  const x = (value) => ((value - low) / span) * BARS[0];
  const most = Math.max(...counts, 1);
  const line = (value, name) => svg("line", { x1: x(value), x2: x(value), y1: 0, y2: BARS[1], class: name });
  return svg("svg", { viewBox: `-2 -2 ${BARS[0] + 4} ${BARS[1] + 4}`, class: "curve histogram", role: "img", "aria-label": t("explain.standing") },
    counts.map((count, index) => svg("rect", { x: x(edges[index]), width: Math.max(0.5, x(edges[index + 1]) - x(edges[index]) - 0.5), y: BARS[1] * (1 - count / most), height: (BARS[1] * count) / most, class: "bar-of-good" })),
    line(told.threshold, "threshold"), line(told.score, "this-score"));
}

function turning({ threshold, passes, overkill, bound, past }) {
  const words = { threshold: number(threshold, 3), overkill: atMost(overkill), bound: atMost(bound) };
  return [h("p", {}, t(passes ? "explain.passes" : "explain.fails", words)),
    past && h("p", {}, t("explain.past", { frames: number(past.frames), alerts: number(past.alerts), then: number(past.then) }))];
}

/** A share as a bound is shown: in percent, rounded up, so that it is true. */
function atMost(share) {
  return number(Math.ceil(1000 * share - 1e-9) / 10, 1); // less a trifle, or 2 % would become 2.1 %
}

function nearest(told) {
  const shown = told.places.flatMap((place) => place.nearest.filter((good) => good.picture).map((good) => [place, good])).slice(0, PICTURES);
  return shown.length > 0 && [h("h3", {}, t("explain.nearest")),
    h("div", { class: "good-places" }, shown.map(([place, good]) => h("figure", {}, goodPicture(good), h("figcaption", {}, `${good.picture.name} · ${detectorName(place.detector)} · ${number(good.distance, 2)}`))))];
}
