// Which attention head is the expert for which labels (section 4 of the paper).

/** @typedef {import("./statistics.js").SiteClusters} SiteClusters */

/** Of no head. */
export const NOBODY = -1;

/**
 * Number of each head's nodes whose diagonal holds each label, A[h, l] (Fig. 7).
 *
 * @param {SiteClusters} found
 * @param {number} heads they own the nodes in equal runs
 * @returns {Int32Array} (head, label)
 */
export function headAppearances({ labels, nodes, cluster }, heads) {
  const count = new Int32Array(heads * labels), width = nodes / heads;
  for (let node = 0; node < nodes; node++) {
    const row = Math.floor(node / width) * labels;
    for (let label = 0; label < labels; label++) if (cluster[node * labels + label] >= 0) count[row + label]++;
  }
  return count;
}

/**
 * The head that specialises in each label: it holds the label `ratio` times as often as every other head.
 * A tie belongs to nobody.
 *
 * @param {Int32Array} count appearances, (head, label)
 * @param {number} heads
 * @param {number} ratio at least 1
 * @returns {Int32Array} head per label, -1 where it is nobody's
 */
export function headOfLabel(count, heads, ratio) {
  const labels = count.length / heads, owner = new Int32Array(labels);
  for (let label = 0; label < labels; label++) {
    let most = -1, others = 0, leading = NOBODY;
    for (let head = 0; head < heads; head++) {
      const own = count[head * labels + label];
      if (own > most) {
        others = Math.max(others, most);
        most = own;
        leading = head;
      } else {
        others = Math.max(others, own);
      }
    }
    // Less what rounding may have added: 1.1 · 50 is 55.000000000000007, and 55 is enough.
    owner[label] = most > others && most >= ratio * others * (1 - 1e-12) ? leading : NOBODY;
  }
  return owner;
}

/**
 * Number of labels that each head specialises in (Tables 4 and 5).
 *
 * @param {Int32Array} owner head per label
 * @param {number} heads
 */
export function labelsPerHead(owner, heads) {
  const count = new Int32Array(heads);
  for (const head of owner) if (head !== NOBODY) count[head]++;
  return count;
}
