// A site of a network: its nodes, decoded when they are first looked at, and what they know at a threshold.

import { filters, formed } from "../measures/filters.js";
import { outerProducts } from "../measures/outer.js";
import { appearances, siteClusters, siteStatistics } from "../measures/statistics.js";

/** @typedef {import("../measures/matrices.js").NodalMatrices} NodalMatrices */
/** @typedef {import("../measures/clusters.js").Rule} Rule */
/** @typedef {import("../measures/statistics.js").SiteClusters} SiteClusters */
/** @typedef {import("../measures/statistics.js").SiteStatistics} SiteStatistics */
/** @typedef {{threshold: number} & {[name: string]: number | null}} StoredStatistics null is infinite */

/**
 * Which of the page's texts hold a site's numbers: class means and weights, or else the matrices themselves.
 *
 * @typedef {{positions: number, means: number, weight: number} | {positions: number, fields: number}} Held
 */

/**
 * @typedef {object} SiteData
 * @property {string} name
 * @property {number} block
 * @property {number} nodes in the page
 * @property {number} of nodes that the site has
 * @property {number} heads 0 where there are none
 * @property {number} accuracy of its probe
 * @property {Held | null} factors null where the site had no room
 * @property {StoredStatistics[]} python what Python computed, at some thresholds
 * @property {Record<string, StoredStatistics[]>} nulls by null: permuted, untrained
 */

/**
 * Which images excite each node most and least: numbers of thumbnails, `each` per node, as uint16 in base64.
 *
 * @typedef {{each: number, most: string, least: string}} Excitation
 */

/** Thresholds of Fig. 5, 0.05 to 0.90: those at which the nulls were drawn. */
export const SWEEP = Array.from({ length: 18 }, (_, i) => Math.round(5 * (i + 1)) / 100);

/** Sites of filters whose matrices stay formed; each may take 64 MB. */
const FORMED = 3;

export class Site {
  /** @type {NodalMatrices | null} */
  #matrices = null;
  #asked = "";
  /** @type {SiteClusters | null} */
  #clusters = null;
  /** @type {SiteStatistics | null} */
  #statistics = null;
  /** @type {Int32Array | null} */
  #appearances = null;
  /** @type {Map<Rule, SiteStatistics[]>} */
  #sweeps = new Map();

  /**
   * @param {SiteData} data
   * @param {number} labels
   * @param {Excitation | null} excitation
   */
  constructor(data, labels, excitation) {
    this.data = data;
    this.labels = labels;
    this.excitingImages = excitation;
  }

  get explored() {
    return this.data.factors !== null;
  }

  /** Whether the page has all its nodes. */
  get whole() {
    return this.explored && this.data.nodes === this.data.of;
  }

  /** Whether its nodes are filters. */
  get filters() {
    return (this.data.factors?.positions ?? 1) > 1;
  }

  /** @returns {NodalMatrices} */
  matrices() {
    if (this.filters) return keptFormed(this, () => filterMatrices(this));
    this.#matrices ??= unitMatrices(this);
    return this.#matrices;
  }

  /**
   * The images that excite a node most and least, as numbers of thumbnails; null where they are not in the page.
   *
   * @param {number} node
   */
  excitation(node) {
    const known = this.excitingImages;
    if (!known) return null;
    const [most, least] = [known.most, known.least].map((text) =>
      [...new Uint16Array(bytesOf(text).buffer, 2 * node * known.each, known.each)]);
    return { most, least };
  }

  /**
   * @param {number} threshold
   * @param {Rule} rule
   * @returns {SiteClusters}
   */
  clusters(threshold, rule) {
    this.#ask(threshold, rule);
    this.#clusters ??= siteClusters(this.matrices(), threshold, rule);
    return this.#clusters;
  }

  /**
   * @param {number} threshold
   * @param {Rule} rule
   */
  statistics(threshold, rule) {
    const found = this.clusters(threshold, rule);
    this.#statistics ??= siteStatistics(found);
    return this.#statistics;
  }

  /**
   * @param {number} threshold
   * @param {Rule} rule
   */
  appearances(threshold, rule) {
    const found = this.clusters(threshold, rule);
    this.#appearances ??= appearances(found);
    return this.#appearances;
  }

  /**
   * The statistics at every threshold of `SWEEP`, computed once, a threshold per step.
   *
   * @param {Rule} rule
   * @returns {Generator<void, SiteStatistics[], void>}
   */
  *sweep(rule) {
    const known = this.#sweeps.get(rule);
    if (known) return known;
    const found = [];
    for (const threshold of SWEEP) {
      found.push(siteStatistics(siteClusters(this.matrices(), threshold, rule)));
      yield;
    }
    this.#sweeps.set(rule, found);
    return found;
  }

  /**
   * @param {number} threshold
   * @param {Rule} rule
   */
  #ask(threshold, rule) {
    if (this.#asked === `${threshold} ${rule}`) return;
    this.#asked = `${threshold} ${rule}`;
    this.#clusters = this.#statistics = this.#appearances = null;
  }
}

/** @param {Site} site one with nodes in the page */
function unitMatrices({ data, labels }) {
  const held = data.factors;
  if (!held || !("means" in held)) throw new Error(`${data.name} has no factors`);
  return outerProducts({ labels, nodes: data.nodes, means: floats(held.means), weight: floats(held.weight) });
}

/** @param {Site} site one of filters with nodes in the page */
function filterMatrices({ data, labels }) {
  const held = data.factors;
  if (!held) throw new Error(`${data.name} has no factors`);
  const fields = "means" in held
    ? formed(labels, data.nodes, floats(held.means), floats(held.weight))
    : new Float64Array(bytes(held.fields).buffer);
  return filters(labels, data.nodes, fields);
}

/** @type {Map<Site, NodalMatrices>} the one that was used last is the last */
const kept = new Map();

/**
 * Matrices of filters are large: those of the sites that were looked at last are kept.
 *
 * @param {Site} site
 * @param {() => NodalMatrices} form
 */
function keptFormed(site, form) {
  const found = kept.get(site) ?? form();
  kept.delete(site);
  kept.set(site, found);
  for (const oldest of [...kept.keys()].slice(0, -FORMED)) kept.delete(oldest);
  return found;
}

/** @type {Map<number, Uint8Array<ArrayBuffer>>} numbers of the page's texts that were decoded */
const decoded = new Map();

/** @param {number} text */
function bytes(text) {
  const holder = document.getElementById(`factors-${text}`);
  const found = decoded.get(text) ?? bytesOf((holder?.textContent ?? "").trim());
  decoded.set(text, found);
  holder?.remove(); // the text is no longer needed
  return found;
}

/** @param {number} text */
function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

/** @param {string} text base64 */
function bytesOf(text) {
  const letters = atob(text), found = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) found[at] = letters.charCodeAt(at);
  return found;
}
