// Bars per label on a canvas: appearances (Fig. 4a), total field (Fig. 4b), appearances in each head (Fig. 7).

import { colours, sharp } from "./colours.js";
import { element, shown } from "./element.js";

const HEIGHT = 120, LEFT = 34, BOTTOM = 4, NAMED = 16;

/**
 * A chart with one bar, or one stack of bars, per label; pointing at it names the label.
 *
 * @param {string} title
 */
export function barChart(title) {
  const canvas = element("canvas", { role: "img" });
  const status = element("figcaption", {}, title);
  const made = element("figure", { class: "chart" }, status, canvas);
  /** @type {string[]} */
  let names = [];
  /** @type {ArrayLike<number>[]} */
  let series = [];
  let mark = -1;
  canvas.addEventListener("pointermove", (event) => {
    const at = Math.floor(((event.offsetX - LEFT) / (canvas.clientWidth - LEFT)) * names.length);
    if (at >= 0 && at < names.length) status.textContent = `${title} · ${names[at]}: ${series.map((one) => shown(one[at])).join(", ")}`;
  });
  canvas.addEventListener("pointerleave", () => (status.textContent = title));
  const redraw = () => drawBars(canvas, made.clientWidth, series, mark, names);
  new ResizeObserver(redraw).observe(made);
  return {
    element: made,
    /**
     * @param {string[]} labels
     * @param {ArrayLike<number>[]} values one series, or one per head
     * @param {number} marked the label to point out, -1 for none
     * @param {string} summary for those who do not see it
     */
    render(labels, values, marked, summary) {
      names = labels;
      series = values;
      mark = marked;
      canvas.setAttribute("aria-label", `${title}. ${summary}`);
      redraw();
    },
  };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {ArrayLike<number>[]} series
 * @param {number} mark
 * @param {string[]} names of the labels, shown where there is room for all
 */
function drawBars(canvas, width, series, mark, names) {
  if (!width || !series.length) return;
  const pen = sharp(canvas, width, HEIGHT), paint = colours(), labels = series[0].length;
  const totals = Array.from({ length: labels }, (_, label) => series.reduce((sum, one) => sum + one[label], 0));
  const step = (width - LEFT) / labels;
  pen.font = "11px system-ui, sans-serif";
  const named = names.every((name) => pen.measureText(name).width < step - 2), floor = HEIGHT - (named ? NAMED : BOTTOM);
  const highest = Math.max(...totals, 1e-9), high = floor - 10;
  totals.forEach((_, label) => {
    let top = floor;
    series.forEach((one, k) => {
      const height = (one[label] / highest) * high;
      pen.fillStyle = series.length > 1 || label !== mark ? paint.series[k % paint.series.length] : paint.series[1];
      pen.fillRect(LEFT + label * step, (top -= height), Math.max(1, step - (step > 3 ? 1 : 0)), height);
    });
    if (label === mark) {
      pen.fillStyle = paint.ink;
      pen.fillText("▼", LEFT + (label + 0.5) * step - 4, Math.max(9, top - 2));
    }
  });
  const mean = totals.reduce((a, b) => a + b, 0) / labels, level = floor - (mean / highest) * high;
  pen.strokeStyle = paint.ink;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.moveTo(LEFT, level);
  pen.lineTo(width, level);
  pen.stroke();
  pen.fillStyle = paint.ink;
  pen.textAlign = "center";
  if (named) names.forEach((name, label) => pen.fillText(name, LEFT + (label + 0.5) * step, HEIGHT - 4));
  pen.textAlign = "right";
  pen.fillText(shown(highest, 3), LEFT - 4, 16);
  pen.fillText(shown(mean, 3), LEFT - 4, Math.max(30, level + 4));
}
