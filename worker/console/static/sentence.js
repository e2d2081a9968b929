// The verdict of an explanation in one sentence. The English one comes from the console, others are made here.

import { inWords, number, ratio, t } from "./words.js";

const VIEWS = 4; // turns of a view; those after them are mirrored

export function sentence(told, row) {
  const alert = told.alert ?? "good";
  const words = {
    ...told, looks: told.looks_like, score: number(told.score, 2), threshold: number(told.threshold, 2), times: ratio(told.score / told.threshold),
    reason: told.reason && inWords(told.reason, row.code), most: alert === "defect" ? most(told) : "",
    ...(alert === "wrong_product" && { looksFar: farness(told, told.looks_like), ownFar: farness(told, told.product) }),
    ...(alert === "wrong_orientation" && lying(told.orientations)),
  };
  return inWords(told.sentence, `explain.sentence.${alert}`, words);
}

/** A detector by what it compares; the English name is the one of the settings. */
export function detectorName(detector) {
  const [kind, depth] = detector.split(".");
  return inWords(detector, `detector.${kind}`, { depth });
}

/** What speaks most against a part, and where. */
function most(told) {
  const part = [...told.parts].sort((one, other) => other.points - one.points)[0];
  if (told.emptiness > part.points) return t("explain.empty");
  const place = told.places.find((one) => one.detector === part.detector);
  return t("explain.most", { share: number((100 * part.points) / told.score), detector: detectorName(part.detector), where: place ? `, ${where(place.box)}` : "" });
}

/** In which ninth of the picture the middle of a box lies. */
function where({ left, top, width, height }) {
  const [row, column] = [top + height / 2, left + width / 2].map((middle) => Math.min(2, Math.floor(3 * middle)));
  return t("explain.where").split("|")[3 * row + column];
}

function farness(told, product) {
  const { distance, limit } = told.products.find((one) => one.product === product);
  return ratio(distance / limit);
}

function lying(orientations) {
  const [lies, ...turned] = orientations;
  const least = Math.min(...turned);
  const view = 1 + turned.indexOf(least);
  const how = [view >= VIEWS && t("view.mirrored"), view % VIEWS && t("view.turned", { n: 90 * (view % VIEWS) })].filter(Boolean);
  return { how: how.join(", "), turned: number(least, 2), lies: number(lies, 2) };
}
