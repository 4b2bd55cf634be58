// One node opened: its matrix as average field, clipped, and permuted into clusters (Fig. 3), its clusters by name.

import { bound } from "../measures/matrices.js";
import { nodeStatistics } from "../measures/statistics.js";
import { description, ranks, clusterColour } from "./glyphs.js";
import { colours, parts } from "./colours.js";
import { element, shown } from "./element.js";
import { matrixView } from "./matrix.js";
import { thumbnail } from "./thumbnails.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Side} Side */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./site.js").SiteClusters} SiteClusters */
/** @typedef {import("./colours.js").Colours} Colours */

/** So many labels in the permuted matrix: those of the clusters, then those with most noise. */
const PERMUTED = 28;

/**
 * @param {(node: number | null) => void} open another node of the site, or none
 */
export function nodeView(open) {
  const heading = element("h3");
  const text = element("p", { class: "node-text" });
  const views = ["average field", "above threshold", "clusters"].map(matrixView);
  const clusters = element("ul", { class: "clusters" });
  const images = element("div", { class: "images" });
  let node = 0, last = 0;
  const made = element("section", { class: "node", "aria-label": "Node" },
    element("div", { class: "card-head" }, heading,
      element("button", { type: "button", "aria-label": "Previous node", click: () => open(node ? node - 1 : last) }, "‹"),
      element("button", { type: "button", "aria-label": "Next node", click: () => open(node < last ? node + 1 : 0) }, "›"),
      element("button", { type: "button", "aria-label": "Close the node", click: () => open(null) }, "×")),
    text,
    element("div", { class: "matrices" }, ...views.map((view) => view.element)),
    element("p", { class: "legend" }, "average field, from minus to plus its largest element ", element("span", { class: "swatch field" }),
      element("span", { class: "swatch noise" }), "noise outside the clusters; rows: label of the input, columns: output"),
    element("div", { class: "pictured" }, clusters, images));
  return {
    element: made,
    /**
     * @param {State} state
     * @param {Side} side
     * @param {Network} network
     */
    render(state, side, network) {
      made.hidden = side.node === null;
      const site = network.sites.get(side.site);
      if (side.node === null || !site) return;
      node = side.node;
      last = site.data.nodes - 1;
      const found = site.clusters(state.threshold, state.rule);
      heading.textContent = `Node ${node} of ${side.site}`;
      const own = nodeStatistics(found, node);
      text.textContent = `${description(found, node, network.labels, site.data.heads)}; mean cluster size ${shown(own.cluster_size)}; largest field ${shown(found.maxima[node])}.`;
      const matrix = matrixOf(site.matrices(), found, node, state.threshold);
      pictured(matrix, network.labels).forEach((picture, i) => views[i].render(picture));
      clusters.replaceChildren(...listed(matrix, network));
      images.replaceChildren(...exciting(site, node, network));
    },
  };
}

/**
 * A node's matrix as a function, never as an array.
 *
 * @typedef {object} Matrix
 * @property {number} labels
 * @property {(input: number, output: number) => number} share a field divided by the maximum
 * @property {(input: number, output: number) => boolean} above
 * @property {Int32Array} cluster
 * @property {number[]} rank of each cluster by size
 */

/**
 * @param {import("./site.js").NodalMatrices} matrices
 * @param {SiteClusters} found
 * @param {number} node
 * @param {number} threshold
 * @returns {Matrix}
 */
function matrixOf({ labels, field }, found, node, threshold) {
  const begin = node * labels, highest = found.maxima[node], limit = bound(highest, threshold);
  const cluster = found.cluster.subarray(begin, begin + labels);
  return {
    labels,
    share: (input, output) => field(node, input, output) / (highest > 0 ? highest : 1),
    above: (input, output) => field(node, input, output) > limit,
    cluster,
    rank: ranks(cluster, found.clusters[node]),
  };
}

/**
 * @param {Matrix} matrix
 * @param {string[]} names
 * @returns {import("./matrix.js").Picture[]}
 */
function pictured(matrix, names) {
  const all = names.map((_, label) => label), order = permuted(matrix);
  /** @param {number} i @param {number} j */
  const inside = (i, j) => matrix.cluster[i] >= 0 && matrix.cluster[i] === matrix.cluster[j];
  /** @param {number} i @param {number} j */
  const describe = (i, j) => `input ${names[i]} → output ${names[j]}: ${shown(matrix.share(i, j))} of the maximum, `
    + (matrix.above(i, j) ? (inside(i, j) ? "in a cluster" : "noise") : "below the threshold");
  const base = { names, describe };
  /** @type {import("./matrix.js").Picture[]} */
  const found = [
    { ...base, order: all, summary: "Every input label against every output.", colour: (i, j, paint) => diverging(matrix.share(i, j), paint) },
    { ...base, order: all, summary: "Elements above the threshold.", colour: (i, j, paint) => parts(matrix.above(i, j) ? paint.series[0] : paint.surface) },
    {
      ...base, order, summary: `Clusters: ${memberships(matrix, names).map((group) => group.join(", ")).join("; ") || "none"}.`,
      colour: (i, j, paint) => parts(!matrix.above(i, j) ? paint.surface
        : inside(i, j) ? clusterColour(paint, matrix.rank[matrix.cluster[i]]) : paint.noise),
    },
  ];
  return found;
}

/**
 * Labels cluster by cluster, the largest first, then the others by their number of noise elements.
 *
 * @param {Matrix} matrix
 */
function permuted({ labels, cluster, rank, above }) {
  const all = Array.from({ length: labels }, (_, label) => label);
  const held = all.filter((label) => cluster[label] >= 0).sort((a, b) => rank[cluster[a]] - rank[cluster[b]] || a - b);
  const shownLabels = Math.max(PERMUTED, held.length);
  const noise = all.map((label) => {
    let count = 0;
    if (cluster[label] < 0) for (let other = 0; other < labels; other++) count += Number(above(label, other)) + Number(above(other, label));
    return count;
  });
  const others = all.filter((label) => cluster[label] < 0).sort((a, b) => noise[b] - noise[a] || a - b);
  return [...held, ...others].slice(0, shownLabels);
}

/**
 * @param {Matrix} matrix
 * @param {string[]} names
 * @returns {string[][]} label names per cluster, the largest cluster first
 */
function memberships({ cluster, rank }, names) {
  /** @type {string[][]} */
  const groups = rank.map(() => []);
  cluster.forEach((own, label) => own >= 0 && groups[rank[own]].push(names[label]));
  return groups;
}

/**
 * @param {Matrix} matrix
 * @param {Network} network
 */
function listed(matrix, { labels: names, thumbnails }) {
  const paint = colours();
  return memberships(matrix, names).map((group, rank) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = clusterColour(paint, rank);
    const labels = group.map((name) => element("span", { class: "label" },
      ...(thumbnails ? [thumbnail(thumbnails, names.indexOf(name))] : []), name));
    return element("li", {}, swatch, ...labels);
  });
}

/**
 * @param {import("./site.js").Site} site
 * @param {number} node
 * @param {Network} network
 */
function exciting(site, node, { pictures, labels }) {
  const found = site.excitation(node);
  if (!found || !pictures) return [];
  /** @param {string} title @param {number[]} images */
  const row = (title, images) => element("div", { class: "excites" }, element("span", { class: "hint" }, title),
    ...images.map((image) => element("figure", { class: "texts" in pictures ? "text" : "image" },
      "texts" in pictures ? element("q", {}, pictures.texts[image] ?? "") : thumbnail(pictures, image),
      element("figcaption", {}, labels[pictures.labels[image]] ?? ""))));
  return [row("excites it most", found.most), row("least", found.least), element("p", { class: "hint" },
    "A node can also know a label by being silenced: where activation and weight are both negative.")];
}

/**
 * @param {number} value -1 to 1; beyond is as -1 and 1
 * @param {Colours} paint
 * @returns {[number, number, number]}
 */
function diverging(value, paint) {
  const share = Math.min(1, Math.abs(value)), end = paint.field[value < 0 ? 0 : 2], zero = paint.field[1];
  const mixed = zero.map((part, i) => Math.round(part + share * (end[i] - part)));
  return [mixed[0], mixed[1], mixed[2]];
}
