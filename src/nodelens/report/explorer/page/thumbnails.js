// Small images out of the one picture that holds them all.

import { element } from "./element.js";

/** @typedef {import("./network.js").Thumbnails} Thumbnails */

const SHOWN = 32; // pixels

/**
 * @param {Thumbnails} pictures
 * @param {number} number
 */
export function thumbnail({ picture, columns, rows }, number) {
  const made = element("span", { class: "thumbnail", "aria-hidden": "true" });
  made.style.backgroundImage = `url("${picture}")`;
  made.style.backgroundSize = `${columns * SHOWN}px ${rows * SHOWN}px`;
  made.style.backgroundPosition = `${-(number % columns) * SHOWN}px ${-Math.floor(number / columns) * SHOWN}px`;
  return made;
}
