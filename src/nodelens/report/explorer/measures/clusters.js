// Clusters of labels in one node's matrix: sets whose block is wholly above threshold, the diagonal included.
//
// All labels of a cluster share one sign of mu; for one sign the block is full iff
// `min mu * min W > bound`, so two numbers stand for a cluster.

/** @typedef {import("./outer.js").Factors} Factors */
/** @typedef {"greedy" | "maximum"} Rule */

/** @type {readonly Rule[]} */
export const RULES = ["greedy", "maximum"];

/**
 * Number the clusters of one node.
 *
 * @param {Factors} factors
 * @param {number} node
 * @param {number} limit the node's bound
 * @param {Rule} rule
 * @param {Int32Array} cluster written: each label's cluster, counted from 0 within the node; -1 where it is in none
 * @returns {number[]} labels per cluster
 */
export function clusterNode(factors, node, limit, rule, cluster) {
  cluster.fill(-1);
  if (limit === Infinity) return [];
  return rule === "greedy" ? firstFit(factors, node, limit, cluster) : largestFirst(factors, node, limit, cluster);
}

/**
 * The rule of the paper's authors: each label, ascending, joins the first cluster it fits, or opens one.
 *
 * @param {Factors} factors
 * @param {number} node
 * @param {number} limit
 * @param {Int32Array} cluster
 */
function firstFit({ labels, means, weight }, node, limit, cluster) {
  const sizes = numbers(), signs = numbers(), lowestMean = numbers(), lowestWeight = numbers();
  for (let label = 0, at = node * labels; label < labels; label++, at++) {
    if (!(means[at] * weight[at] > limit)) continue;
    const sign = means[at] > 0 ? 1 : -1;
    const mean = Math.abs(means[at]), partner = Math.abs(weight[at]);
    let k = 0;
    while (k < sizes.length) {
      const fits = Math.min(lowestMean[k], mean) * Math.min(lowestWeight[k], partner) > limit;
      if (signs[k] === sign && fits) break;
      k++;
    }
    if (k === sizes.length) {
      sizes.push(0);
      signs.push(sign);
      lowestMean.push(Infinity);
      lowestWeight.push(Infinity);
    }
    lowestMean[k] = Math.min(lowestMean[k], mean);
    lowestWeight[k] = Math.min(lowestWeight[k], partner);
    sizes[k]++;
    cluster[label] = k;
  }
  return sizes;
}

/**
 * Take the largest possible cluster, remove its labels, repeat; numbered by size, then positive labels first.
 *
 * @param {Factors} factors
 * @param {number} node
 * @param {number} limit
 * @param {Int32Array} cluster
 */
function largestFirst(factors, node, limit, cluster) {
  const found = [...peel(factors, node, limit, 1), ...peel(factors, node, limit, -1)];
  found.sort((a, b) => b.length - a.length); // stable: equal sizes keep their order
  found.forEach((members, k) => members.forEach((label) => (cluster[label] = k)));
  return found.map((members) => members.length);
}

/**
 * The clusters of the labels of one sign, in the order in which they are taken.
 *
 * With the labels sorted by descending mean, the cut-off at `k` allows the labels `i <= k` with
 * `W_i * mu_k > bound`; some cut-off gives a largest cluster, and of equally large ones the first is taken.
 * Label `i` stays allowed up to its last `k`, and what is removed changes that for no other label.
 *
 * @param {Factors} factors
 * @param {number} node
 * @param {number} limit
 * @param {1 | -1} sign
 * @returns {number[][]}
 */
function peel({ labels, means, weight }, node, limit, sign) {
  const begin = node * labels;
  let left = numbers();
  for (let label = 0; label < labels; label++) {
    const at = begin + label;
    if (means[at] * weight[at] > limit && sign * means[at] > 0) left.push(label);
  }
  left.sort((a, b) => sign * (means[begin + b] - means[begin + a]));
  let leaves = left.map((label) => partners(left, means, begin, weight[begin + label], limit));
  const taken = [];
  while (left.length) {
    const cut = bestCut(leaves);
    /** @type {boolean[]} */
    const inside = leaves.map((end, i) => i <= cut && end > cut);
    taken.push(left.filter((_, i) => inside[i]));
    const survivors = [0];
    for (const gone of inside) survivors.push(survivors[survivors.length - 1] + (gone ? 0 : 1));
    leaves = leaves.filter((_, i) => !inside[i]).map((end) => survivors[end]);
    left = left.filter((_, i) => !inside[i]);
  }
  return taken;
}

/**
 * How many labels, from the largest mean on, have a mean that is above the bound with this weight.
 *
 * @param {number[]} left sorted by descending mean
 * @param {Float32Array} means
 * @param {number} begin
 * @param {number} partner
 * @param {number} limit
 */
function partners(left, means, begin, partner, limit) {
  let low = 0, high = left.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (partner * means[begin + left[middle]] > limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The first cut-off that allows most labels.
 *
 * @param {number[]} leaves first cut-off at which each label is no longer allowed
 */
function bestCut(leaves) {
  const leaving = new Int32Array(leaves.length + 1);
  for (const end of leaves) leaving[end]++;
  let gone = 0, most = -1, best = 0;
  for (let cut = 0; cut < leaves.length; cut++) {
    gone += leaving[cut];
    if (cut + 1 - gone > most) {
      most = cut + 1 - gone;
      best = cut;
    }
  }
  return best;
}

/** @returns {number[]} */
function numbers() {
  return [];
}
