// Where the defect is: a rectangle that somebody draws on the picture with mouse, pen or finger.

import { extent } from "./api.js";
import { fill, h, svg } from "./dom.js";
import { frameOf } from "./frame.js";
import { t } from "./words.js";

const LEAST = 10; // pixels of the screen: what is smaller was a tap

/** The picture of `row` to draw on; `onChange()` is told when a region was drawn or taken away. */
export function markedPicture(row, { alt, why, onChange }) {
  const rectangle = svg("rect", { class: "mark" });
  const caption = h("figcaption");
  let size = null; // of the picture as it is shown, in its own pixels
  let whole = null;
  let recorded; // what is shown of the record, as JSON
  let isMarked = false;
  let region; // undefined: as it stands in the record; null: none; else a promise of it, in pixels of the frame as it came

  const frame = () => (whole ??= extent(row.id).catch((error) => {
    whole = null;
    throw error;
  }));

  function over(picture) {
    size = [picture.naturalWidth, picture.naturalHeight];
    show();
    return drawing(size, rectangle, (drawn) => change(frame().then((known) => inFrame(drawn, size, known))));
  }

  function change(to) {
    region = to;
    to?.catch(() => {}); // whoever judges with it is told
    captioned(to !== null);
    onChange();
  }

  function captioned(marked) {
    isMarked = marked;
    const hint = size && row.lane !== "unusable";
    fill(caption, h("span", {}, hint && !marked ? t("mark.how") : alt), marked && h("button", { type: "button", class: "quiet", onclick: remove }, t("mark.none")));
  }

  function remove() {
    if (!isMarked) return;
    place(rectangle, null);
    change(null);
  }

  const record = () => JSON.stringify([row.region, row.reviewedAt]);

  /** What the record says. */
  async function show() {
    recorded = record();
    region = undefined;
    captioned(row.region !== null);
    place(rectangle, null);
    if (!row.region || !size) return;
    const known = await frame().catch(() => null);
    if (known && region === undefined) place(rectangle, onPicture(row.region, size, known));
  }

  const element = h("figure", { class: "marked" }, frameOf(row.id, { size: "large", over, alt, why }), caption);
  show();
  return {
    element,
    remove,
    /** The record of this very result may have changed. */
    update: () => record() !== recorded && show(),
    region: async () => (region === undefined ? row.region : region),
  };
}

/** A sheet over the picture; `onDrawn({left, top, right, bottom})` gets a rectangle in pixels of the picture shown. */
function drawing([width, height], rectangle, onDrawn) {
  const element = svg("svg", { class: "sheet", viewBox: `0 0 ${width} ${height}` }, rectangle);
  let from = null;
  let before = null;
  const point = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(element.getScreenCTM().inverse());
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  };
  const isTap = (event) => Math.max(Math.abs(event.clientX - from.clientX), Math.abs(event.clientY - from.clientY)) < LEAST;
  const drawn = (event) => {
    const [[x1, y1], [x2, y2]] = [point(from), point(event)];
    return { left: Math.min(x1, x2), top: Math.min(y1, y2), right: Math.max(x1, x2), bottom: Math.max(y1, y2) };
  };
  const end = (event) => {
    if (!from) return;
    const done = event.type === "pointerup" && !isTap(event) && drawn(event);
    place(rectangle, done || before);
    from = null;
    if (done) onDrawn(done);
  };
  element.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    from = event;
    before = placeOf(rectangle);
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => from && event.isPrimary && !isTap(event) && place(rectangle, drawn(event)));
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
  return element;
}

function place(rectangle, at) {
  const values = at && { x: at.left, y: at.top, width: at.right - at.left, height: at.bottom - at.top };
  for (const name of ["x", "y", "width", "height"]) {
    if (values) rectangle.setAttribute(name, values[name]);
    else rectangle.removeAttribute(name);
  }
}

function placeOf(rectangle) {
  if (!rectangle.hasAttribute("width")) return null;
  const [left, top, width, height] = ["x", "y", "width", "height"].map((name) => Number(rectangle.getAttribute(name)));
  return { left, top, right: left + width, bottom: top + height };
}

/** From pixels of the picture shown to whole pixels of the frame, of which it shows the part `seen`. */
function inFrame({ left, top, right, bottom }, [width, height], { seen }) {
  const [x, across] = along(left, right, seen.width / width, seen.width);
  const [y, down] = along(top, bottom, seen.height / height, seen.height);
  return { x: seen.x + x, y: seen.y + y, width: across, height: down };
}

function along(begin, end, scale, length) {
  const first = Math.min(Math.floor(begin * scale), length - 1);
  return [first, Math.max(1, Math.min(Math.ceil(end * scale), length) - first)];
}

/** And back. */
function onPicture(region, [width, height], { seen }) {
  const [across, down] = [width / seen.width, height / seen.height];
  const [left, top] = [(region.x - seen.x) * across, (region.y - seen.y) * down];
  return { left, top, right: left + region.width * across, bottom: top + region.height * down };
}
