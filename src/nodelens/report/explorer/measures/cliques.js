// The largest sets of mutual neighbours, found as nodelens.measures.filters finds them.
//
// Of equally large ones the one whose members come first is taken: branch and bound over ascending members.

/** @typedef {(a: number, b: number) => boolean} Joined */

/**
 * Take the largest clique, remove its members, repeat.
 *
 * @param {number[]} members ascending
 * @param {Joined} joined
 * @returns {number[][]} in the order in which they are taken
 */
export function cliques(members, joined) {
  const found = [];
  let left = members;
  while (left.length) {
    const largest = new Set(largestClique(left, joined));
    found.push(left.filter((one) => largest.has(one)));
    left = left.filter((one) => !largest.has(one));
  }
  return found;
}

/**
 * @param {number[]} members ascending
 * @param {Joined} joined
 * @returns {number[]}
 */
function largestClique(members, joined) {
  let best = firstClique(members, joined);
  /** @param {number[]} clique @param {number[]} allowed */
  const extend = (clique, allowed) => {
    if (clique.length > best.length) best = clique;
    const colours = coloursFrom(allowed, joined);
    for (let i = 0; i < allowed.length; i++) {
      // A clique needs a colour per member: what follows cannot be larger than the best so far.
      if (clique.length + colours[i] <= best.length) return;
      const chosen = allowed[i];
      extend([...clique, chosen], allowed.slice(i + 1).filter((one) => joined(chosen, one)));
    }
  };
  extend([], members);
  return best;
}

/**
 * Each member, ascending, that is joined with all taken before.
 *
 * @param {number[]} members
 * @param {Joined} joined
 */
function firstClique(members, joined) {
  /** @type {number[]} */
  const taken = [];
  for (const one of members) if (taken.every((other) => joined(other, one))) taken.push(one);
  return taken;
}

/**
 * How many colours each member and those after it take, when neighbours have different colours.
 *
 * @param {number[]} members ascending
 * @param {Joined} joined
 */
function coloursFrom(members, joined) {
  /** @type {number[][]} */
  const coloured = [];
  const found = new Int32Array(members.length);
  for (let i = members.length - 1; i >= 0; i--) {
    const same = coloured.find((colour) => !colour.some((other) => joined(other, members[i])));
    if (same) same.push(members[i]);
    else coloured.push([members[i]]);
    found[i] = coloured.length;
  }
  return found;
}
