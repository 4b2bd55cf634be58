// Who knows the searched label: its strongest nodes of all sites, and how many nodes of each head.

import { headAppearances, headOfLabel, NOBODY } from "../measures/heads.js";
import { element, shown } from "./element.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./network.js").Networks} Networks */
/** @typedef {import("./site.js").Site} Site */

const STRONGEST = 12;

/**
 * @param {Networks} networks
 * @param {(site: string, node: number) => void} open
 */
export function knowersCard(networks, open) {
  const title = element("h2"), nodes = element("div", { class: "knowers" }), heads = element("ul", { class: "heads" });
  const made = element("section", { class: "card", "aria-label": "Who knows the label" },
    element("div", { class: "card-head" }, title),
    element("p", { class: "hint" }, "The nodes with the strongest diagonal element, as a share of the largest in the node's matrix; of equally strong ones those that hold the fewest labels, the last site first:"),
    nodes, heads);
  return {
    element: made,
    /** @param {State} state */
    *render(state) {
      const network = networks.of(state.sides[0]);
      const label = network.labels.indexOf(state.label), sites = [...network.sites.values()].filter((site) => site.explored);
      made.hidden = label < 0;
      if (label < 0) return;
      /** @type {Knower[]} */
      let strongest = [];
      for (const site of [...sites].reverse()) {
        strongest = [...strongest, ...knowers(site, label, state)]
          .sort((a, b) => b.share - a.share || a.held - b.held).slice(0, STRONGEST);
        yield;
      }
      title.textContent = `Who knows “${state.label}”`;
      nodes.replaceChildren(...strongest.map(({ site, node, share, held }) =>
        element("button", { type: "button", click: () => open(site, node) },
          `${site} node ${node} `, element("strong", {}, shown(share, 3)), ` · ${held === 1 ? "this label alone" : `${held} labels`}`)));
      heads.replaceChildren(...sites.filter((site) => site.data.heads).map((site) => headsLine(site, label, state)));
    },
  };
}

/** @typedef {{site: string, node: number, share: number, held: number}} Knower `held`: labels in its diagonal */

/**
 * The nodes of a site whose diagonal holds the label.
 *
 * @param {Site} site
 * @param {number} label
 * @param {State} state
 * @returns {Knower[]}
 */
function knowers(site, label, { threshold, rule }) {
  const { cluster, maxima, nodes, labels } = site.clusters(threshold, rule), matrices = site.matrices();
  const found = [];
  for (let node = 0; node < nodes; node++) {
    if (cluster[node * labels + label] < 0) continue;
    const held = cluster.subarray(node * labels, (node + 1) * labels).reduce((count, one) => count + Number(one >= 0), 0);
    found.push({ site: site.data.name, node, share: matrices.field(node, label, label) / maxima[node], held });
  }
  return found;
}

/**
 * @param {Site} site
 * @param {number} label
 * @param {State} state
 */
function headsLine(site, label, { threshold, rule, ratio }) {
  const heads = site.data.heads, count = headAppearances(site.clusters(threshold, rule), heads);
  const owner = headOfLabel(count, heads, ratio)[label];
  const of = Array.from({ length: heads }, (_, head) => `${count[head * site.labels + label]} of head ${head + 1}`);
  return element("li", {}, `${site.data.name}: ${of.join(", ")}`,
    owner === NOBODY ? "" : element("strong", {}, ` · head ${owner + 1} specialises in it`));
}
