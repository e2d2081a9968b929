// Elements without markup: text only ever becomes text, so whatever a camera calls itself is shown as it is.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, `on…` listeners and children; a string is a text, null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(set(document.createElement(tag), attributes), ...children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(set(document.createElementNS(SVG, tag), attributes), ...children);
}

/** Put these children in place of those that are there. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  return element;
}

const SHAPES = {
  defect: "M12 2 22 12 12 22 2 12z",
  wrong: "M12 4a8 8 0 1 0 8 8h-3a5 5 0 1 1-5-5v4l7-5.500L12 0z",
  unusable: "M3 3h18v18H3zm3 3v12h12V6zm1 9 8-8h3v1L8 17H7z",
  good: "m3 13 3-3 4 4L19 4l3 3L10 20z",
  bad: "m5 2 7 7 7-7 3 3-7 7 7 7-3 3-7-7-7 7-3-3 7-7-7-7z",
  alarm: "M12 2 23 21H1zm-1.500 7v6h3V9zm0 7.500v2.500h3v-2.500z",
  stop: "M4 4h16v16H4z",
};

/** A shape that tells by its form what its colour may tell, too. */
export function shape(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: `shape ${name}`, "aria-hidden": "true" },
    svg("path", { d: SHAPES[name], "fill-rule": "evenodd" }));
}

const OF_KINDS = { null: "good", wrong_product: "wrong", wrong_orientation: "wrong", unusable_picture: "unusable", drift: "unusable", late: "alarm", dead_letter: "alarm" };

/** The name of the shape of a kind of result: its lane's, and a warning's where nobody inspected the frame. */
export function kindShape(kind) {
  return OF_KINDS[kind] ?? "defect";
}
