// The networks that the page holds: each as it was measured on a split of its data, with the probes of a seed.

import { Site } from "./site.js";

/** @typedef {import("./site.js").SiteData} SiteData */
/** @typedef {import("./site.js").Excitation} Excitation */

/** @typedef {{name: string, source: string, target: string | null}} Layer */
/** @typedef {{picture: string, side: number, columns: number, rows: number}} Thumbnails */
/** @typedef {{texts: string[]}} Texts */
/** @typedef {(Thumbnails | Texts) & {labels: number[], split: string}} Pictures images or texts, and their labels */
/** @typedef {{network: string, split: string, seed: number}} Choice which network, and which view of it */

/**
 * @typedef {object} NetworkData
 * @property {string} name
 * @property {string[]} labels
 * @property {Layer[]} layers
 * @property {{split: string, seed: number, sites: SiteData[]}[]} views
 * @property {Pictures} [pictures]
 * @property {Record<string, Record<string, Excitation>>} [excitation] by seed and site
 */

/**
 * @typedef {object} PageData
 * @property {NetworkData[]} networks
 * @property {string[]} opens networks that the page opens with, side by side
 * @property {Thumbnails | null} thumbnails one per label of the first network
 */

/**
 * A network of the page, at one split and seed.
 *
 * @typedef {object} Network
 * @property {string} name
 * @property {string} split
 * @property {number} seed
 * @property {string[]} labels
 * @property {Layer[]} layers
 * @property {Map<string, Site>} sites in the order of the data's way
 * @property {Pictures | null} pictures images or texts that excite its nodes
 * @property {Thumbnails | null} thumbnails one per label
 */

/** All networks of the page, and their views. */
export class Networks {
  /** @type {Network[]} */
  #views;
  #opens;

  /** @param {PageData} page */
  constructor(page) {
    this.#opens = page.opens;
    const first = page.networks[0]?.labels.join("\n");
    this.#views = page.networks.flatMap((data) =>
      viewsOf(data, data.labels.join("\n") === first ? page.thumbnails : null));
  }

  /** @returns {string[]} */
  get names() {
    return [...new Set(this.#views.map((view) => view.name))];
  }

  /** @returns {string[]} the labels of all networks, each once */
  get labels() {
    return [...new Set(this.#views.flatMap((view) => view.labels))];
  }

  get hasHeads() {
    return this.#views.some((view) => [...view.sites.values()].some((site) => site.data.heads));
  }

  /** @returns {Network | undefined} what the page opens with */
  get first() {
    return this.#views[0];
  }

  /** @returns {Network[]} what the page opens with, and what it puts beside that */
  get opening() {
    const found = this.#opens.map((name) => this.views(name)[0]);
    return found.length ? found : this.#views.slice(0, 1);
  }

  /** @param {string} name @returns {Network[]} */
  views(name) {
    return this.#views.filter((view) => view.name === name);
  }

  /**
   * The network that is chosen, or the view of it that is most like the one that is.
   *
   * @param {Choice} choice
   * @returns {Network | undefined} none where the page has no network of that name
   */
  nearest({ network, split, seed }) {
    const views = this.views(network);
    return views.find((view) => view.split === split && view.seed === seed)
      ?? views.find((view) => view.split === split) ?? views.find((view) => view.seed === seed) ?? views[0];
  }

  /**
   * @param {Choice} choice one that the page has
   * @returns {Network}
   */
  of(choice) {
    const found = this.nearest(choice);
    if (!found) throw new Error(`no network ${choice.network}`);
    return found;
  }
}

/**
 * @param {NetworkData} data
 * @param {Thumbnails | null} thumbnails
 * @returns {Network[]}
 */
function viewsOf({ name, labels, layers, views, pictures = undefined, excitation = {} }, thumbnails) {
  return views.map(({ split, seed, sites }) => {
    const made = sites.map((site) => new Site(site, labels.length, excitation[seed]?.[site.name] ?? null));
    const bySite = new Map(made.map((site) => [site.data.name, site]));
    return { name, split, seed, labels, layers, sites: bySite, pictures: pictures ?? null, thumbnails };
  });
}

/**
 * The site of this name, or the last, where the page has nodes of it.
 *
 * @param {Network} network
 * @param {string} [name]
 * @returns {string}
 */
export function siteLike(network, name = "") {
  if (network.sites.get(name)?.explored) return name;
  return [...network.sites.values()].filter((site) => site.explored).pop()?.data.name ?? "";
}
