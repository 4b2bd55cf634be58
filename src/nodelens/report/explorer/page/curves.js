// A statistic of a site against the threshold (Fig. 5), beside what chance and an untrained network give.

import { colours, sharp } from "./colours.js";
import { element, shown } from "./element.js";

/** @typedef {import("./colours.js").Colours} Colours */

/**
 * @typedef {object} Curve
 * @property {[threshold: number, value: number][]} points
 * @property {number} series which colour
 * @property {number[]} dashes
 */

const HEIGHT = 130, LEFT = 34, BOTTOM = 20, TOP = 8;

/**
 * @param {string} title
 */
export function curveChart(title) {
  const canvas = element("canvas", { role: "img" });
  const made = element("figure", { class: "chart curve" }, element("figcaption", {}, title), canvas);
  /** @type {Curve[]} */
  let curves = [];
  let threshold = 0.3;
  const redraw = () => draw(canvas, made.clientWidth, curves, threshold);
  new ResizeObserver(redraw).observe(made);
  return {
    element: made,
    /**
     * @param {Curve[]} next
     * @param {number} at the threshold to mark
     */
    render(next, at) {
      curves = next.map((curve) => ({ ...curve, points: curve.points.filter(([, value]) => Number.isFinite(value)) }));
      threshold = at;
      canvas.setAttribute("aria-label", `${title}. ${summary(curves[0])}`);
      redraw();
    },
  };
}

/** @param {Curve | undefined} curve */
function summary(curve) {
  if (!curve?.points.length) return "No finite value.";
  const [at, most] = curve.points.reduce((best, point) => (point[1] > best[1] ? point : best));
  return `Largest at threshold ${at}: ${shown(most)}.`;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {Curve[]} curves
 * @param {number} threshold
 */
function draw(canvas, width, curves, threshold) {
  if (!width) return;
  const pen = sharp(canvas, width, HEIGHT), paint = colours();
  const highest = Math.max(1e-9, ...curves.flatMap((curve) => curve.points.map(([, value]) => value)));
  /** @param {number} at */
  const x = (at) => LEFT + at * (width - LEFT - 4);
  /** @param {number} value */
  const y = (value) => HEIGHT - BOTTOM - (value / highest) * (HEIGHT - BOTTOM - TOP);
  axes(pen, paint, x, y, highest);
  pen.strokeStyle = paint.ink;
  pen.setLineDash([2, 3]);
  stroke(pen, [[x(threshold), TOP], [x(threshold), HEIGHT - BOTTOM]]);
  for (const curve of [...curves].reverse()) {
    pen.strokeStyle = curve.series < 0 ? paint.faint : paint.series[curve.series];
    pen.lineWidth = 1.8;
    pen.setLineDash(curve.dashes);
    stroke(pen, curve.points.map(([at, value]) => [x(at), y(value)]));
  }
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Colours} paint
 * @param {(threshold: number) => number} x
 * @param {(value: number) => number} y
 * @param {number} highest
 */
function axes(pen, paint, x, y, highest) {
  pen.strokeStyle = paint.line;
  stroke(pen, [[x(0), TOP], [x(0), y(0)], [x(1), y(0)]]);
  pen.fillStyle = paint.ink;
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "center";
  for (const at of [0.2, 0.4, 0.6, 0.8]) pen.fillText(String(at), x(at), HEIGHT - 6);
  pen.textAlign = "right";
  pen.fillText("threshold", x(1), HEIGHT - 6);
  pen.fillText(shown(highest, 3), LEFT - 4, TOP + 8);
  pen.fillText("0", LEFT - 4, y(0));
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {number[][]} points
 */
function stroke(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}
