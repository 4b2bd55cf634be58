// What the statistics need to know of a site's nodal matrices, whatever they are made of.

/** @typedef {import("./clusters.js").Rule} Rule */

/**
 * The nodal matrices of a site; a field is float64.
 *
 * @typedef {object} NodalMatrices
 * @property {number} labels
 * @property {number} nodes
 * @property {(node: number, input: number, output: number) => number} field one element
 * @property {(node: number) => number} maximum largest element
 * @property {(node: number, limit: number) => number} countAbove how many elements are above a bound
 * @property {(node: number, limit: number, rule: Rule, cluster: Int32Array) => number[]} clusterNode
 *   numbers the clusters of a node: writes each label's (-1 where it is in none), gives labels per cluster
 * @property {(node: number, cluster: Int32Array, maximum: number, total: Float64Array) => void} addLabelField
 *   adds the elements within the clusters' blocks, divided by the maximum, to each output's total
 */

/**
 * What an element must exceed to be above threshold: infinite where no element is positive.
 *
 * @param {number} maximum largest element of the matrix
 * @param {number} threshold share of it, between 0 and 1
 */
export function bound(maximum, threshold) {
  return maximum > 0 ? threshold * maximum : Infinity;
}
