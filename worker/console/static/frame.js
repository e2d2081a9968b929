// A frame of the stream, with its heat map over it.

import { address } from "./api.js";
import { fill, h, svg } from "./dom.js";
import { t } from "./words.js";

/** The picture of a result in a box; `over(picture)` may give what lies over it, `why(url)` may tell why there is none. */
export function frameOf(id, { size = "small", over = (picture) => glaze(id, picture), alt = "", why = async () => null } = {}) {
  const url = address(id, "picture", `?size=${size}`);
  const box = h("div", { class: "box" });
  const picture = h("img", { src: url, alt,
    onload: () => box.append(over(picture)),
    onerror: async () => fill(box, missing(await why(url))) });
  return fill(box, picture);
}

/** A frame that was there once is gone; another one is no picture, or cannot be fetched now. */
function missing(refused) {
  return h("span", { class: "missing" }, h("b", {}, t(refused?.code === "fault.gone" ? "picture.gone" : "picture.none")), refused && ` ${refused.message}`);
}

/** The heat map covers the picture as that is drawn, whatever the shape of either. */
function glaze(id, picture) {
  const { naturalWidth: width, naturalHeight: height } = picture;
  return svg("svg", { class: "heat", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("image", { href: address(id, "heat"), width, height, preserveAspectRatio: "none" }));
}
