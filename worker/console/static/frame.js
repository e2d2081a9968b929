// A frame of the stream, with its heat map over it.

import { address } from "./api.js";
import { fill, h, svg } from "./dom.js";
import { t } from "./words.js";

/** The picture of a result in a box; `over(picture)` may give what lies over it, `why(url)` may tell why it is gone. */
export function frameOf(id, { size = "small", over = (picture) => glaze(id, picture), alt = "", why = async () => "" } = {}) {
  const url = address(id, "picture", `?size=${size}`);
  const box = h("div", { class: "box" });
  const picture = h("img", { src: url, alt,
    onload: () => box.append(over(picture)),
    onerror: async () => fill(box, h("span", { class: "gone" }, h("b", {}, t("picture.gone")), ` ${await why(url)}`)) });
  return fill(box, picture);
}

/** The heat map covers the picture as that is drawn, whatever the shape of either. */
function glaze(id, picture) {
  const { naturalWidth: width, naturalHeight: height } = picture;
  return svg("svg", { class: "heat", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("image", { href: address(id, "heat"), width, height, preserveAspectRatio: "none" }));
}
