// What ANDC pruning would remove: weights between nodes whose diagonals share no label (Fig. 6 of the paper).

/** @typedef {import("./statistics.js").SiteClusters} SiteClusters */

/**
 * Share of the weights between two sites that ANDC removes.
 *
 * @param {SiteClusters} source of the layer's inputs
 * @param {SiteClusters} target of its outputs
 * @returns {number} 0 to 1
 */
export function dilution(source, target) {
  const words = Math.ceil(source.labels / 32);
  const inputs = labelBits(source, words), outputs = labelBits(target, words);
  let kept = 0;
  for (let out = 0; out < outputs.length; out += words) {
    for (let into = 0; into < inputs.length; into += words) {
      for (let word = 0; word < words; word++) {
        if (outputs[out + word] & inputs[into + word]) {
          kept++;
          break;
        }
      }
    }
  }
  return 1 - kept / (source.nodes * target.nodes);
}

/**
 * Share of the weights from a site to the labels that ANDC removes: those outside the diagonals.
 *
 * @param {SiteClusters} source
 * @returns {number} 0 to 1
 */
export function outputDilution(source) {
  let kept = 0;
  for (const own of source.diagonal) kept += own;
  return 1 - kept / (source.nodes * source.labels);
}

/**
 * The diagonals as bits, `words` numbers per node.
 *
 * @param {SiteClusters} site
 * @param {number} words
 */
function labelBits({ nodes, labels, cluster }, words) {
  const bits = new Int32Array(nodes * words);
  for (let node = 0; node < nodes; node++) {
    for (let label = 0; label < labels; label++) {
      if (cluster[node * labels + label] >= 0) bits[node * words + (label >> 5)] |= 1 << (label & 31);
    }
  }
  return bits;
}
