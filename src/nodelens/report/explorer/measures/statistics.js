// Statistics of a site's nodal matrices (eqs. 1-5 of the paper), as nodelens.measures computes them.

import { bound } from "./matrices.js";

/** @typedef {import("./matrices.js").NodalMatrices} NodalMatrices */
/** @typedef {import("./clusters.js").Rule} Rule */

/**
 * What each node of a site knows at a threshold.
 *
 * @typedef {object} SiteClusters
 * @property {number} labels
 * @property {number} nodes
 * @property {Int32Array} cluster each label's cluster in each node, -1 where it is in none, (node, label)
 * @property {Int32Array} clusters clusters per node
 * @property {Int32Array} diagonal labels per node that lie in a cluster
 * @property {Float64Array} noise above-threshold elements per node outside the clusters' own blocks
 * @property {Float64Array} maxima largest element of each matrix
 */

/**
 * Statistics of a site, by the names that the tables have.
 *
 * @typedef {object} SiteStatistics
 * @property {number} n_clusters
 * @property {number} cluster_size
 * @property {number} diagonal
 * @property {number} noise
 * @property {number} signal
 * @property {number} noise_internal
 * @property {number} noise_external
 * @property {number} snr
 * @property {number} snr_min
 * @property {number} snr_approximation
 */

/**
 * Cluster every node of a site.
 *
 * @param {NodalMatrices} matrices
 * @param {number} threshold between 0 and 1
 * @param {Rule} rule
 * @returns {SiteClusters}
 */
export function siteClusters(matrices, threshold, rule) {
  const { labels, nodes } = matrices;
  const cluster = new Int32Array(nodes * labels);
  const clusters = new Int32Array(nodes), diagonal = new Int32Array(nodes);
  const noise = new Float64Array(nodes), maxima = new Float64Array(nodes);
  for (let node = 0; node < nodes; node++) {
    maxima[node] = matrices.maximum(node);
    const limit = bound(maxima[node], threshold);
    const own = cluster.subarray(node * labels, (node + 1) * labels);
    const sizes = matrices.clusterNode(node, limit, rule, own);
    let inside = 0;
    for (const size of sizes) {
      diagonal[node] += size;
      inside += size * size;
    }
    clusters[node] = sizes.length;
    noise[node] = matrices.countAbove(node, limit) - inside;
  }
  return { labels, nodes, cluster, clusters, diagonal, noise, maxima };
}

/**
 * Number of nodes whose diagonal holds each label (Fig. 4a).
 *
 * @param {SiteClusters} found
 */
export function appearances({ labels, cluster }) {
  const count = new Int32Array(labels);
  for (let at = 0; at < cluster.length; at++) if (cluster[at] >= 0) count[at % labels]++;
  return count;
}

/**
 * The site's averages, and signal and noise that follow from them.
 *
 * @param {SiteClusters} found
 * @returns {SiteStatistics}
 */
export function siteStatistics(found) {
  const clusters = sum(found.clusters), diagonal = sum(found.diagonal);
  const { nodes, labels } = found;
  const averages = {
    n_clusters: clusters / nodes,
    cluster_size: clusters ? diagonal / clusters : 0,
    diagonal: diagonal / nodes,
    noise: sum(found.noise) / nodes,
  };
  return withRatios(averages, appearances(found).reduce((a, b) => Math.min(a, b)), nodes, labels);
}

/**
 * The statistics of one node, as those of a site that has no other.
 *
 * @param {SiteClusters} found
 * @param {number} node
 * @returns {SiteStatistics}
 */
export function nodeStatistics(found, node) {
  const clusters = found.clusters[node], diagonal = found.diagonal[node];
  const averages = {
    n_clusters: clusters,
    cluster_size: clusters ? diagonal / clusters : 0,
    diagonal,
    noise: found.noise[node],
  };
  return withRatios(averages, diagonal === found.labels ? 1 : 0, 1, found.labels);
}

/**
 * Total field on each output within the clusters' blocks, each matrix divided by its maximum (Fig. 4b).
 *
 * @param {NodalMatrices} matrices
 * @param {SiteClusters} found
 */
export function labelField(matrices, { labels, nodes, cluster, maxima }) {
  const total = new Float64Array(labels);
  for (let node = 0; node < nodes; node++) {
    const own = cluster.subarray(node * labels, (node + 1) * labels);
    if (maxima[node] > 0) matrices.addLabelField(node, own, maxima[node], total);
  }
  return total;
}

/**
 * @param {{n_clusters: number, cluster_size: number, diagonal: number, noise: number}} averages
 * @param {number} fewest nodes that hold the label that appears least
 * @param {number} nodes
 * @param {number} labels
 * @returns {SiteStatistics}
 */
function withRatios(averages, fewest, nodes, labels) {
  const { n_clusters, cluster_size, diagonal, noise } = averages;
  const signal = (diagonal * nodes) / labels;
  const noise_internal = internalNoise(cluster_size, signal, labels);
  const noise_external = (noise * nodes) / labels ** 2;
  const snr = ratio(signal, noise_internal + noise_external);
  const snr_min = ratio(fewest, internalNoise(cluster_size, fewest, labels) + noise_external);
  const snr_approximation = ratio(cluster_size * n_clusters * labels, noise);
  return { ...averages, signal, noise_internal, noise_external, snr, snr_min, snr_approximation };
}

/**
 * @param {number} size labels per cluster
 * @param {number} signal
 * @param {number} labels
 */
function internalNoise(size, signal, labels) {
  return (Math.max(size - 1, 0) * signal) / Math.max(labels - 1, 1);
}

/**
 * Signal over noise; infinite without noise, 0 without signal.
 *
 * @param {number} signal
 * @param {number} noise
 */
function ratio(signal, noise) {
  if (noise > 0) return signal / noise;
  return signal > 0 ? Infinity : 0;
}

/** @param {Int32Array | Float64Array} numbers */
function sum(numbers) {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
