// Nodal matrices as outer products: F_k[i, j] = mu_i * W_j, kept as their two factors, node after node.
//
// Numbers are float32 widened to float64, where their product is exact: membership here and in
// nodelens.measures is the same, bit for bit.

import { clusterNode } from "./clusters.js";

/** @typedef {import("./matrices.js").NodalMatrices} NodalMatrices */

/**
 * The factors of a site's nodal matrices. Node `k` owns the numbers `k * labels` up to `(k + 1) * labels - 1`.
 *
 * @typedef {object} Factors
 * @property {number} labels
 * @property {number} nodes
 * @property {Float32Array} means mean activation of each node over the inputs of each label, (node, label)
 * @property {Float32Array} weight weights of the probe, (node, label)
 */

/**
 * @param {Factors} factors
 * @returns {NodalMatrices}
 */
export function outerProducts(factors) {
  const { labels, nodes, means, weight } = factors;
  return {
    labels,
    nodes,
    field: (node, input, output) => means[node * labels + input] * weight[node * labels + output],
    maximum: (node) => maximum(factors, node),
    countAbove: (node, limit) => countAbove(factors, node, limit),
    clusterNode: (node, limit, rule, cluster) => clusterNode(factors, node, limit, rule, cluster),
    addLabelField: (node, cluster, maximum, total) => addLabelField(factors, node, cluster, maximum, total),
  };
}

/**
 * Largest element of one node's matrix: it lies at a corner of the range of both factors.
 *
 * @param {Factors} factors
 * @param {number} node
 * @returns {number} in units of a field
 */
export function maximum({ labels, means, weight }, node) {
  const begin = node * labels;
  let lowMean = Infinity, highMean = -Infinity, lowWeight = Infinity, highWeight = -Infinity;
  for (let at = begin; at < begin + labels; at++) {
    if (means[at] < lowMean) lowMean = means[at];
    if (means[at] > highMean) highMean = means[at];
    if (weight[at] < lowWeight) lowWeight = weight[at];
    if (weight[at] > highWeight) highWeight = weight[at];
  }
  return Math.max(lowMean * lowWeight, lowMean * highWeight, highMean * lowWeight, highMean * highWeight);
}

/**
 * How many elements of one node's matrix are above its bound, without the matrix.
 *
 * Both factors of an element above a positive bound have the same sign. With the candidates of a sign sorted,
 * the number of partners of a mean only grows with the mean: one walk counts all.
 *
 * @param {Factors} factors
 * @param {number} node
 * @param {number} limit the node's bound
 */
export function countAbove(factors, node, limit) {
  return limit === Infinity ? 0 : countSign(factors, node, limit, 1) + countSign(factors, node, limit, -1);
}

let meansOfSign = new Float64Array(128);
let weightsOfSign = new Float64Array(128);

/**
 * @param {Factors} factors
 * @param {number} node
 * @param {number} limit
 * @param {1 | -1} sign
 */
function countSign({ labels, means, weight }, node, limit, sign) {
  if (meansOfSign.length < labels) {
    meansOfSign = new Float64Array(labels);
    weightsOfSign = new Float64Array(labels);
  }
  const begin = node * labels;
  let highMean = 0, highWeight = 0;
  for (let at = begin; at < begin + labels; at++) {
    highMean = Math.max(highMean, sign * means[at]);
    highWeight = Math.max(highWeight, sign * weight[at]);
  }
  let meanCount = 0, weightCount = 0;
  for (let at = begin; at < begin + labels; at++) {
    const mean = sign * means[at], partner = sign * weight[at];
    // What is below the bound even with its best partner need not be sorted.
    if (mean > 0 && mean * highWeight > limit) meansOfSign[meanCount++] = mean;
    if (partner > 0 && partner * highMean > limit) weightsOfSign[weightCount++] = partner;
  }
  const ascending = meansOfSign.subarray(0, meanCount).sort();
  const partners = weightsOfSign.subarray(0, weightCount).sort();
  let count = 0, first = weightCount;
  for (const mean of ascending) {
    while (first > 0 && mean * partners[first - 1] > limit) first--;
    count += weightCount - first;
  }
  return count;
}

/**
 * @param {Factors} factors
 * @param {number} node
 * @param {Int32Array} cluster of each label
 * @param {number} maximum largest element of the matrix
 * @param {Float64Array} total per output, added to
 */
function addLabelField({ labels, means, weight }, node, cluster, maximum, total) {
  const begin = node * labels, meanOfCluster = new Float64Array(labels);
  for (let label = 0; label < labels; label++) {
    if (cluster[label] >= 0) meanOfCluster[cluster[label]] += means[begin + label];
  }
  for (let label = 0; label < labels; label++) {
    if (cluster[label] >= 0) total[label] += weight[begin + label] * (meanOfCluster[cluster[label]] / maximum);
  }
}
