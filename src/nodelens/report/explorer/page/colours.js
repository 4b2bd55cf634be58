// The page's colours, for what is drawn on a canvas; they follow the theme.

/** Clusters by size, the largest first, then heads: Okabe and Ito's palette. */
const SERIES = ["--blue", "--vermilion", "--green", "--purple", "--sky", "--orange"];

/**
 * @typedef {object} Colours
 * @property {string} ink
 * @property {string} faint
 * @property {string} line
 * @property {string} surface
 * @property {string} noise
 * @property {string[]} series
 * @property {[number, number, number][]} field red, green, blue of -1, 0 and 1
 */

/** @returns {Colours} */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    ink: read("--ink"),
    faint: read("--faint"),
    line: read("--line"),
    surface: read("--surface"),
    noise: read("--noise"),
    series: SERIES.map(read),
    field: [parts(read("--negative")), parts(read("--field-zero")), parts(read("--positive"))],
  };
}

/**
 * Red, green and blue of a colour, 0 to 255.
 *
 * @param {string} colour #rrggbb
 * @returns {[number, number, number]}
 */
export function parts(colour) {
  const number = parseInt(colour.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/**
 * Make a canvas as sharp as the screen.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number} width in CSS pixels
 * @param {number} height
 * @returns {CanvasRenderingContext2D} in CSS pixels, cleared
 */
export function sharp(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  return pen;
}
