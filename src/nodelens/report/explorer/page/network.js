// The networks that the page holds, decoded when they are first looked at.

import { appearances, siteClusters, siteStatistics } from "../measures/statistics.js";

/** @typedef {import("../measures/outer.js").Factors} Factors */
/** @typedef {import("../measures/clusters.js").Rule} Rule */
/** @typedef {import("../measures/statistics.js").SiteClusters} SiteClusters */
/** @typedef {import("../measures/statistics.js").SiteStatistics} SiteStatistics */
/** @typedef {{threshold: number} & {[name: string]: number | null}} StoredStatistics null is infinite */

/**
 * @typedef {object} SiteData
 * @property {string} name
 * @property {number} block
 * @property {number} nodes
 * @property {number} heads 0 where there are none
 * @property {number} accuracy of its probe
 * @property {number | null} factors number of the element that holds them
 * @property {StoredStatistics[]} python what Python computed, at some thresholds
 * @property {Record<string, StoredStatistics[]>} nulls by null: permuted, untrained
 * @property {Excitation} [excitation] where the network and the images were at hand
 */

/**
 * Which images excite each node most and least: numbers of thumbnails, `each` per node, as uint16 in base64.
 *
 * @typedef {{each: number, most: string, least: string}} Excitation
 */

/** @typedef {{name: string, source: string, target: string | null}} Layer */
/** @typedef {{picture: string, side: number, columns: number, rows: number}} Thumbnails */
/** @typedef {Thumbnails & {labels: number[]}} Pictures with the label of each image */

/**
 * @typedef {object} PageData
 * @property {string} split
 * @property {{name: string, labels: string[], layers: Layer[], sites: SiteData[], pictures?: Pictures}[]} networks
 * @property {Thumbnails | null} thumbnails one per label of the first network
 */

/** Thresholds of Fig. 5. */
export const SWEEP = Array.from({ length: 19 }, (_, i) => Math.round(5 * (i + 1)) / 100);

/** A site of a network: its nodes, and what they know at the threshold that was asked for last. */
export class Site {
  /** @type {Factors | null} */
  #factors = null;
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
   */
  constructor(data, labels) {
    this.data = data;
    this.labels = labels;
  }

  get explored() {
    return this.data.factors !== null;
  }

  /** @returns {Factors} */
  factors() {
    this.#factors ??= decoded(`factors-${this.data.factors}`, this.data.nodes, this.labels);
    return this.#factors;
  }

  /**
   * The images that excite a node most and least, as numbers of thumbnails; null where they are not in the page.
   *
   * @param {number} node
   */
  excitation(node) {
    const known = this.data.excitation;
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
    this.#clusters ??= siteClusters(this.factors(), threshold, rule);
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
      found.push(siteStatistics(siteClusters(this.factors(), threshold, rule)));
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

/**
 * A network of the page.
 *
 * @typedef {object} Network
 * @property {string} name
 * @property {string[]} labels
 * @property {Layer[]} layers
 * @property {Map<string, Site>} sites in the order of the data's way
 * @property {Pictures | null} pictures images that excite its nodes
 * @property {Thumbnails | null} thumbnails one per label
 */

/**
 * @param {PageData} page
 * @returns {Map<string, Network>} the networks that have at least one site to explore
 */
export function networks(page) {
  const found = new Map(), pictured = page.networks[0]?.labels.join("\n");
  for (const { name, labels, layers, sites, pictures = null } of page.networks) {
    const made = new Map(sites.map((site) => [site.name, new Site(site, labels.length)]));
    const thumbnails = labels.join("\n") === pictured ? page.thumbnails : null;
    if (sites.some((site) => site.factors !== null)) found.set(name, { name, labels, layers, sites: made, pictures, thumbnails });
  }
  return found;
}

/**
 * @param {string} id
 * @param {number} nodes
 * @param {number} labels
 * @returns {Factors}
 */
function decoded(id, nodes, labels) {
  const holder = document.getElementById(id);
  const both = new Float32Array(bytesOf((holder?.textContent ?? "").trim()).buffer);
  holder?.remove(); // the text is no longer needed
  return { labels, nodes, means: both.subarray(0, nodes * labels), weight: both.subarray(nodes * labels) };
}

/** @param {string} text base64 */
function bytesOf(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}
