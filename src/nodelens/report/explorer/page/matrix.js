// One node's matrix on a canvas, in any of the three forms of Fig. 3; a cursor names what it stands on.

import { colours, sharp } from "./colours.js";
import { element } from "./element.js";

/** @typedef {import("./colours.js").Colours} Colours */

/**
 * What a matrix view draws: labels in an order, and a colour per element.
 *
 * @typedef {object} Picture
 * @property {number[]} order labels along both axes
 * @property {string[]} names of all labels
 * @property {(input: number, output: number, paint: Colours) => [number, number, number]} colour
 * @property {(input: number, output: number) => string} describe
 * @property {string} summary for those who do not see it
 */

const FONT = "11px system-ui, sans-serif", LEAST_NAMED = 11, WIDEST = 96;

/**
 * @param {string} title
 */
export function matrixView(title) {
  const canvas = element("canvas", { role: "img", tabindex: 0 });
  const status = element("p", { class: "status", "aria-live": "polite" });
  const made = element("figure", { class: "matrix" }, element("figcaption", {}, title), canvas, status);
  /** @type {Picture | null} */
  let picture = null;
  /** @type {[row: number, column: number] | null} */
  let cursor = null;
  let frame = { left: 0, cell: 1 };
  const redraw = () => {
    if (picture && made.clientWidth) frame = draw(canvas, made.clientWidth, picture, cursor);
  };
  /** @param {[number, number] | null} to */
  const point = (to) => {
    if (!picture) return;
    const last = picture.order.length - 1;
    cursor = to && to.every((at) => at >= 0 && at <= last) ? to : null;
    status.textContent = cursor ? picture.describe(picture.order[cursor[0]], picture.order[cursor[1]]) : "";
    redraw();
  };
  for (const kind of /** @type {const} */ (["pointermove", "pointerdown"])) {
    canvas.addEventListener(kind, (event) =>
      point([Math.floor(event.offsetY / frame.cell), Math.floor((event.offsetX - frame.left) / frame.cell)]));
  }
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("keydown", (event) => {
    const [row, column] = cursor ?? [0, 0];
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1] };
    const to = moves[event.key];
    if (!to || !picture) return;
    event.preventDefault();
    const last = picture.order.length - 1;
    point([Math.max(0, Math.min(last, to[0])), Math.max(0, Math.min(last, to[1]))]);
  });
  new ResizeObserver(redraw).observe(made);
  return {
    element: made,
    /** @param {Picture} next */
    render(next) {
      picture = next;
      if (cursor && Math.max(...cursor) >= next.order.length) cursor = null;
      canvas.setAttribute("aria-label", `${title}. ${next.summary}`);
      redraw();
    },
  };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {Picture} picture
 * @param {[number, number] | null} cursor
 */
function draw(canvas, width, picture, cursor) {
  const { order, names } = picture, paint = colours(), size = order.length;
  const pen = sharp(canvas, 1, 1);
  pen.font = FONT;
  const room = Math.min(WIDEST, Math.max(...order.map((label) => pen.measureText(names[label]).width)) + 6);
  const named = (width - room) / size >= LEAST_NAMED;
  const left = named ? room : 0, cell = (width - left) / size;
  const ready = sharp(canvas, width, width - left + (named ? room : 0));
  ready.imageSmoothingEnabled = false;
  ready.drawImage(pixels(picture, paint), left, 0, width - left, width - left);
  ready.strokeStyle = paint.line;
  ready.strokeRect(left + 0.5, 0.5, width - left - 1, width - left - 1);
  if (named) nameAxes(ready, picture, left, cell, paint);
  if (cursor) {
    ready.strokeStyle = paint.ink;
    ready.lineWidth = 1.5;
    ready.strokeRect(left + cursor[1] * cell, cursor[0] * cell, Math.max(cell, 3), Math.max(cell, 3));
  }
  return { left, cell };
}

/**
 * @param {Picture} picture
 * @param {Colours} paint
 */
function pixels({ order, colour }, paint) {
  const small = document.createElement("canvas");
  small.width = small.height = order.length;
  const pen = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
  const image = pen.createImageData(order.length, order.length);
  let at = 0;
  for (const input of order) {
    for (const output of order) {
      const [red, green, blue] = colour(input, output, paint);
      image.data.set([red, green, blue, 255], at);
      at += 4;
    }
  }
  pen.putImageData(image, 0, 0);
  return small;
}

/**
 * Input labels downwards, output labels across.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {Picture} picture
 * @param {number} left
 * @param {number} cell
 * @param {Colours} paint
 */
function nameAxes(pen, { order, names }, left, cell, paint) {
  pen.font = FONT;
  pen.fillStyle = paint.ink;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const bottom = cell * order.length;
  order.forEach((label, i) => {
    const name = fitting(pen, names[label], left - 6);
    pen.fillText(name, left - 4, (i + 0.5) * cell);
    pen.save();
    pen.translate(left + (i + 0.5) * cell, bottom + 4);
    pen.rotate(-Math.PI / 2);
    pen.fillText(name, 0, 0);
    pen.restore();
  });
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {string} name
 * @param {number} room
 */
function fitting(pen, name, room) {
  if (pen.measureText(name).width <= room) return name;
  let short = name;
  while (short && pen.measureText(`${short}…`).width > room) short = short.slice(0, -1);
  return `${short}…`;
}
