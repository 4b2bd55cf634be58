// What the page shows, and its address: every view has a fragment that reopens it.

import { RULES } from "../measures/clusters.js";
import { siteLike } from "./network.js";

/** @typedef {import("../measures/clusters.js").Rule} Rule */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./network.js").Networks} Networks */

export const SORTS = /** @type {const} */ (["number", "diagonal", "noise", "snr", "label", "head"]);
export const BOXES = /** @type {const} */ (["snr", "diagonal", "noise", "accuracy"]);

/**
 * One of the two sites side by side.
 *
 * @typedef {object} Side
 * @property {string} network
 * @property {string} split images on which it was measured
 * @property {number} seed of its probes
 * @property {string} site
 * @property {number | null} node the one that is open
 */

/**
 * @typedef {object} State
 * @property {Side[]} sides one or two
 * @property {number} threshold
 * @property {Rule} rule
 * @property {number} ratio how often a head must hold a label in comparison to any other head
 * @property {string} label the one that is searched; empty for none
 * @property {typeof SORTS[number]} sort
 * @property {typeof BOXES[number]} boxes statistic in the drawing's boxes
 */

/**
 * @param {Networks} networks
 * @returns {State} the last site of the first network, and of one beside it; at the paper's threshold and ratio
 */
export function initial(networks) {
  const [first, ...others] = networks.opening;
  const side = first ? sideOf(first) : { network: "", split: "", seed: 0, site: "", node: null };
  const sides = [side, ...others.map((other) => sideOf(other, side.site))];
  return { sides, threshold: 0.3, rule: "greedy", ratio: 2, label: "", sort: "number", boxes: "snr" };
}

/**
 * A view of a network, at a site of this name where it has one.
 *
 * @param {Network} network
 * @param {string} [site]
 * @returns {Side}
 */
export function sideOf(network, site) {
  const { name, split, seed } = network;
  return { network: name, split, seed, site: siteLike(network, site), node: null };
}

/**
 * @param {State} state
 * @returns {string} fragment, without the #
 */
export function address(state) {
  const words = new URLSearchParams();
  state.sides.forEach((side, i) => {
    words.set(`network${i + 1}`, side.network);
    words.set(`split${i + 1}`, side.split);
    words.set(`seed${i + 1}`, String(side.seed));
    words.set(`site${i + 1}`, side.site);
    if (side.node !== null) words.set(`node${i + 1}`, String(side.node));
  });
  words.set("threshold", String(state.threshold));
  words.set("clusters", state.rule);
  words.set("ratio", String(state.ratio));
  words.set("sort", state.sort);
  words.set("boxes", state.boxes);
  if (state.label) words.set("label", state.label);
  return words.toString();
}

/**
 * The view that an address stands for; what it does not say, or says wrongly, is as at the beginning.
 *
 * @param {string} fragment
 * @param {Networks} networks
 * @returns {State}
 */
export function opened(fragment, networks) {
  const words = new URLSearchParams(fragment), start = initial(networks);
  const first = side(words, 1, networks, start.sides[0]) ?? start.sides[0], second = side(words, 2, networks, null);
  const label = words.get("label") ?? "";
  return {
    sides: !fragment.includes("=") ? start.sides : second ? [first, second] : [first],
    threshold: within(words.get("threshold"), 0.01, 0.99, start.threshold),
    rule: oneOf(words.get("clusters"), RULES, start.rule),
    ratio: within(words.get("ratio"), 1, 100, start.ratio),
    label: networks.labels.includes(label) ? label : "",
    sort: oneOf(words.get("sort"), SORTS, start.sort),
    boxes: oneOf(words.get("boxes"), BOXES, start.boxes),
  };
}

/**
 * @param {URLSearchParams} words
 * @param {number} number
 * @param {Networks} networks
 * @param {Side | null} otherwise where the address names no network or no site
 * @returns {Side | null} none where it names what the page does not have
 */
function side(words, number, networks, otherwise) {
  const seed = words.get(`seed${number}`);
  const network = networks.nearest({
    network: words.get(`network${number}`) ?? otherwise?.network ?? "",
    split: words.get(`split${number}`) ?? otherwise?.split ?? networks.first?.split ?? "",
    seed: seed === null ? (otherwise?.seed ?? networks.first?.seed ?? 0) : Number(seed),
  });
  const site = network?.sites.get(words.get(`site${number}`) ?? otherwise?.site ?? "");
  if (!network || !site?.explored) return null;
  const node = words.get(`node${number}`) ?? "";
  const exists = /^\d+$/.test(node) && Number(node) < site.data.nodes;
  return { ...sideOf(network, site.data.name), node: exists ? Number(node) : null };
}

/**
 * @param {string | null} text
 * @param {number} low
 * @param {number} high
 * @param {number} otherwise
 */
export function within(text, low, high, otherwise) {
  const value = text === null || text.trim() === "" ? NaN : Number(text);
  return value >= low && value <= high ? value : otherwise;
}

/**
 * @template {string} T
 * @param {string | null} text
 * @param {readonly T[]} known
 * @param {T} otherwise
 * @returns {T}
 */
function oneOf(text, known, otherwise) {
  return known.find((one) => one === text) ?? otherwise;
}
