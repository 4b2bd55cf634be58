// All nodes of a site at once: a field of marks per node, one place per label, and the node's noise below.
//
// One canvas draws them all; over it lie transparent buttons, so that keyboard and screen reader reach each node.

import { nodeStatistics } from "../measures/statistics.js";
import { colours, sharp } from "./colours.js";
import { counted, element, shown } from "./element.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./site.js").Site} Site */
/** @typedef {import("./site.js").SiteClusters} SiteClusters */
/** @typedef {import("./colours.js").Colours} Colours */

const GAP = 8, NOISE_HEIGHT = 4, HEAD_WIDTH = 3;

/**
 * @typedef {object} Shape of a glyph, in pixels
 * @property {number} columns of marks
 * @property {number} mark side of one
 * @property {number} side of all marks together
 * @property {number} width of the cell
 * @property {number} height of the cell
 */

/**
 * @param {number} labels
 * @returns {Shape}
 */
function shapeFor(labels) {
  const columns = Math.ceil(Math.sqrt(labels));
  const mark = columns <= 20 ? Math.min(10, Math.floor(40 / columns)) : columns <= 40 ? 2 : 1;
  const side = columns * mark;
  return { columns, mark, side, width: side + HEAD_WIDTH + GAP, height: side + NOISE_HEIGHT + GAP };
}

/**
 * @param {(node: number) => void} open
 */
export function glyphs(open) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const cells = element("div", { class: "cells", role: "group" });
  const status = element("p", { class: "status" });
  const made = element("div", { class: "glyphs" }, element("div", { class: "glyph-field" }, canvas, cells), status);
  /** @type {HTMLButtonElement[]} */
  let buttons = [];
  /** @type {number[]} */
  let order = [];
  /** @type {(node: number) => string} */
  let describe = () => "";
  let redraw = () => {};
  const idle = "Point at a node, or walk with the arrow keys; Enter opens it.";
  status.textContent = idle;

  listen(cells, () => buttons, (at) => (status.textContent = at < 0 ? idle : describe(order[at])), (at) => open(order[at]));
  new ResizeObserver(() => redraw()).observe(cells);

  return {
    element: made,

    /**
     * @param {Site} site
     * @param {State} state
     * @param {string[]} names
     * @param {number | null} chosen
     */
    render(site, state, names, chosen) {
      const found = site.clusters(state.threshold, state.rule), label = names.indexOf(state.label);
      const shape = shapeFor(site.labels);
      order = sorted(site, found, state, label);
      describe = (node) => description(found, node, names, site.data.heads);
      cells.style.setProperty("--width", `${shape.width}px`);
      cells.style.setProperty("--height", `${shape.height}px`);
      cells.setAttribute("aria-label", `${found.nodes} nodes of ${site.data.name}`);
      while (buttons.length < found.nodes) buttons.push(element("button", { type: "button", tabindex: -1 }));
      buttons.length = found.nodes;
      if (cells.childElementCount !== found.nodes) cells.replaceChildren(...buttons);
      if (!buttons.some((button) => button.tabIndex === 0)) buttons[0].tabIndex = 0;
      buttons.forEach((button, i) => {
        button.setAttribute("aria-label", describe(order[i]));
        button.setAttribute("aria-pressed", String(order[i] === chosen));
        button.dataset.node = String(order[i]);
      });
      redraw = () => draw(canvas, cells, found, order, { shape, label, chosen, heads: site.data.heads });
      redraw();
    },
  };
}

/**
 * Pointer and keyboard on the buttons: one of them is in the order of Tab, arrows walk from it.
 *
 * @param {HTMLElement} cells
 * @param {() => HTMLButtonElement[]} all
 * @param {(at: number) => void} tell about the button at a position, -1 for none
 * @param {(at: number) => void} press
 */
function listen(cells, all, tell, press) {
  /** @param {Event} event */
  const positionOf = (event) => all().indexOf(/** @type {HTMLButtonElement} */ (event.target));
  cells.addEventListener("pointerover", (event) => tell(positionOf(event)));
  cells.addEventListener("pointerleave", () => tell(-1));
  cells.addEventListener("focusin", (event) => {
    const at = positionOf(event);
    tell(at);
    all().forEach((button, i) => (button.tabIndex = i === at ? 0 : -1));
  });
  cells.addEventListener("click", (event) => {
    if (positionOf(event) >= 0) press(positionOf(event));
  });
  cells.addEventListener("keydown", (event) => {
    const buttons = all(), at = positionOf(event), perRow = rowLength(buttons), last = buttons.length - 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - perRow, ArrowDown: at + perRow, Home: 0, End: last }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(last, to))].focus();
  });
}

/** @param {HTMLButtonElement[]} buttons */
function rowLength(buttons) {
  const top = buttons[0]?.offsetTop;
  const next = buttons.findIndex((button) => button.offsetTop !== top);
  return next < 0 ? buttons.length : next;
}

/**
 * The nodes in the order that was asked for; ties by number.
 *
 * @param {Site} site
 * @param {SiteClusters} found
 * @param {State} state
 * @param {number} label the one that is searched, -1 for none
 */
function sorted(site, found, { sort }, label) {
  const nodes = Array.from({ length: found.nodes }, (_, node) => node);
  const perHead = site.data.heads ? found.nodes / site.data.heads : found.nodes;
  /** @type {Record<string, (node: number) => number>} */
  const keys = {
    number: () => 0,
    diagonal: (node) => -found.diagonal[node],
    noise: (node) => -found.noise[node],
    snr: (node) => -nodeStatistics(found, node).snr,
    label: (node) => labelKey(site, found, node, label),
    head: (node) => Math.floor(node / perHead) * (found.labels + 1) - found.diagonal[node],
  };
  const values = nodes.map(keys[sort]);
  return nodes.sort((a, b) => (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : a - b));
}

/**
 * Nodes that hold the searched label come first, the stronger the earlier; without a search nodes stand by
 * the label that is strongest in their diagonal.
 *
 * @param {Site} site
 * @param {SiteClusters} found
 * @param {number} node
 * @param {number} label
 */
function labelKey(site, found, node, label) {
  const { labels } = found, begin = node * labels, matrices = site.matrices();
  /** @param {number} one */
  const share = (one) => found.cluster[begin + one] < 0 ? 0 : matrices.field(node, one, one) / found.maxima[node];
  if (label >= 0) return -share(label);
  let strongest = labels;
  for (let one = 0; one < labels; one++) {
    if (share(one) > (strongest === labels ? 0 : share(strongest))) strongest = one;
  }
  return strongest;
}

/**
 * @param {SiteClusters} found
 * @param {number} node
 * @param {string[]} names
 * @param {number} heads
 */
export function description(found, node, names, heads) {
  const held = names.filter((_, label) => found.cluster[node * found.labels + label] >= 0);
  const knows = held.length ? `knows ${held.slice(0, 12).join(", ")}${held.length > 12 ? ` and ${held.length - 12} more` : ""}` : "knows no label";
  const head = heads ? `, head ${Math.floor((node * heads) / found.nodes) + 1}` : "";
  return `node ${node}${head}: ${knows}; ${counted(found.clusters[node], "cluster")}, noise ${found.noise[node]}, SNR ${shown(nodeStatistics(found, node).snr)}`;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLElement} cells
 * @param {SiteClusters} found
 * @param {number[]} order
 * @param {{shape: Shape, label: number, chosen: number | null, heads: number}} how
 */
function draw(canvas, cells, found, order, how) {
  const { shape } = how, width = cells.clientWidth, perRow = Math.max(1, Math.floor(width / shape.width));
  if (!width) return;
  const pen = sharp(canvas, width, Math.ceil(found.nodes / perRow) * shape.height);
  const paint = colours();
  const noisiest = found.noise.reduce((a, b) => Math.max(a, b), 1);
  order.forEach((node, i) => {
    pen.save();
    pen.translate((i % perRow) * shape.width + 1, Math.floor(i / perRow) * shape.height + 2);
    const knows = how.label < 0 || found.cluster[node * found.labels + how.label] >= 0;
    pen.globalAlpha = knows ? 1 : 0.22;
    glyph(pen, paint, found, node, how);
    pen.fillStyle = paint.noise;
    pen.fillRect(HEAD_WIDTH, shape.side + 2, (shape.side * found.noise[node]) / noisiest, NOISE_HEIGHT - 1);
    pen.restore();
  });
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Colours} paint
 * @param {SiteClusters} found
 * @param {number} node
 * @param {{shape: Shape, label: number, chosen: number | null, heads: number}} how
 */
function glyph(pen, paint, found, node, { shape, label, chosen, heads }) {
  const { mark, columns, side } = shape, begin = node * found.labels;
  pen.fillStyle = paint.surface;
  pen.fillRect(HEAD_WIDTH, 0, side, side);
  pen.strokeStyle = node === chosen ? paint.ink : paint.line;
  pen.lineWidth = node === chosen ? 2 : 1;
  pen.strokeRect(HEAD_WIDTH - 0.5, -0.5 + (node === chosen ? 1 : 0.5), side + 1, side + 0.5);
  if (heads) {
    pen.fillStyle = paint.series[Math.floor((node * heads) / found.nodes) % paint.series.length];
    pen.fillRect(0, 0, HEAD_WIDTH - 1, side);
  }
  const rank = ranks(found.cluster.subarray(begin, begin + found.labels), found.clusters[node]);
  const inset = mark > 3 ? 1 : 0;
  for (let at = 0; at < found.labels; at++) {
    const cluster = found.cluster[begin + at];
    if (cluster < 0) continue;
    pen.fillStyle = clusterColour(paint, rank[cluster]);
    pen.fillRect(HEAD_WIDTH + (at % columns) * mark, Math.floor(at / columns) * mark, mark - inset, mark - inset);
  }
  if (label >= 0 && found.cluster[begin + label] >= 0) {
    pen.strokeStyle = paint.ink;
    pen.lineWidth = 1.5;
    pen.strokeRect(HEAD_WIDTH + (label % columns) * mark - 1.5, Math.floor(label / columns) * mark - 1.5, mark + 2, mark + 2);
  }
}

/**
 * Place of each cluster when they are sorted by size, the largest first.
 *
 * @param {Int32Array} cluster of each label
 * @param {number} clusters
 * @returns {number[]}
 */
export function ranks(cluster, clusters) {
  const size = new Array(clusters).fill(0);
  for (const own of cluster) if (own >= 0) size[own]++;
  const order = size.map((_, k) => k).sort((a, b) => size[b] - size[a] || a - b);
  const rank = new Array(clusters).fill(0);
  order.forEach((k, place) => (rank[k] = place));
  return rank;
}

/**
 * @param {Colours} paint
 * @param {number} rank
 */
export function clusterColour(paint, rank) {
  return paint.series[rank] ?? paint.faint;
}
