// Nodal matrices of convolution filters that own several positions: F = sum over p of mu_p * W_p.
//
// Their rank is the number of positions, so each matrix is formed, as nodelens.measures forms it: positions are
// added one after the other, and each product of two float32 is exact.

import { cliques } from "./cliques.js";

/** @typedef {import("./matrices.js").NodalMatrices} NodalMatrices */
/** @typedef {import("./clusters.js").Rule} Rule */

/**
 * The matrices of a site's filters from their factors, both (node, label, position).
 *
 * @param {number} labels
 * @param {number} nodes
 * @param {Float32Array} means mean activation over the inputs of each label
 * @param {Float32Array} weight weights of the probe
 * @returns {Float64Array} fields, (node, label, label)
 */
export function formed(labels, nodes, means, weight) {
  const fields = new Float64Array(nodes * labels * labels), positions = means.length / (nodes * labels);
  for (let node = 0, at = 0; node < nodes; node++) {
    const begin = node * labels, end = begin + labels;
    for (let input = begin; input < end; input++) {
      for (let output = begin; output < end; output++, at++) {
        let sum = 0;
        for (let p = 0; p < positions; p++) sum += means[input * positions + p] * weight[output * positions + p];
        fields[at] = sum;
      }
    }
  }
  return fields;
}

/**
 * @param {number} labels
 * @param {number} nodes
 * @param {Float64Array} fields (node, label, label)
 * @returns {NodalMatrices}
 */
export function filters(labels, nodes, fields) {
  const size = labels ** 2;
  /** @param {number} node */
  const own = (node) => fields.subarray(node * size, (node + 1) * size);
  const maxima = Float64Array.from({ length: nodes }, (_, node) => maximum(own(node))); // the same at any threshold
  return {
    labels,
    nodes,
    field: (node, input, output) => fields[node * size + input * labels + output],
    maximum: (node) => maxima[node],
    countAbove: (node, limit) => countAbove(own(node), limit),
    clusterNode: (node, limit, rule, cluster) => clusterFilter(own(node), limit, rule, cluster),
    addLabelField: (node, cluster, maximum, total) => addLabelField(own(node), cluster, maximum, total),
  };
}

/** @param {Float64Array} field */
function maximum(field) {
  let highest = -Infinity;
  for (let at = 0; at < field.length; at++) if (field[at] > highest) highest = field[at];
  return highest;
}

/**
 * @param {Float64Array} field
 * @param {number} limit
 */
function countAbove(field, limit) {
  let count = 0;
  for (let at = 0; at < field.length; at++) if (field[at] > limit) count++;
  return count;
}

/**
 * @param {Float64Array} field
 * @param {number} limit
 * @param {Rule} rule
 * @param {Int32Array} cluster
 */
function clusterFilter(field, limit, rule, cluster) {
  cluster.fill(-1);
  if (limit === Infinity) return [];
  const labels = cluster.length;
  /** @param {number} a @param {number} b */
  const joined = (a, b) => field[a * labels + b] > limit && field[b * labels + a] > limit;
  const held = Array.from(cluster.keys()).filter((label) => joined(label, label));
  const found = rule === "greedy" ? firstFit(held, joined) : cliques(held, joined);
  found.forEach((members, k) => members.forEach((label) => (cluster[label] = k)));
  return found.map((members) => members.length);
}

/**
 * The rule of the paper's authors: open a cluster with the first label left, and add each label, ascending,
 * that is joined with all in it.
 *
 * @param {number[]} held labels of the diagonal, ascending
 * @param {(a: number, b: number) => boolean} joined
 * @returns {number[][]}
 */
function firstFit(held, joined) {
  const found = [];
  let left = held;
  while (left.length) {
    /** @type {number[]} */
    const members = [];
    /** @type {number[]} */
    const others = [];
    for (const label of left) (members.every((own) => joined(own, label)) ? members : others).push(label);
    found.push(members);
    left = others;
  }
  return found;
}

/**
 * @param {Float64Array} field
 * @param {Int32Array} cluster of each label
 * @param {number} maximum
 * @param {Float64Array} total per output, added to
 */
function addLabelField(field, cluster, maximum, total) {
  const labels = cluster.length;
  for (let output = 0; output < labels; output++) {
    if (cluster[output] < 0) continue;
    let sum = 0;
    for (let input = 0; input < labels; input++) {
      if (cluster[input] === cluster[output]) sum += field[input * labels + output];
    }
    total[output] += sum / maximum;
  }
}
