// The drawing of a network: a row per block, the last on top; within a row data flows from left to right. Of a network
// whose blocks are unknown, a row for each module that contains others.

import { dilution, outputDilution } from "../measures/masks.js";
import { counted, element, percent, select, setAttributes, shown } from "./element.js";
import { BOXES, sideOf } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Side} Side */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./network.js").Networks} Networks */
/** @typedef {import("./site.js").Site} Site */
/** @typedef {import("./network.js").Layer} Layer */

const NAMES = { snr: "SNR", diagonal: "labels per diagonal", noise: "noise per node", accuracy: "accuracy of the probe" };
const NO_SKIP = ".no_skip";
/** The site that the layer to the labels itself reads. */
/** The site whose probe is the network's own layer to the labels. */
export const OWN_HEAD = "own_head";

/**
 * @typedef {object} Box
 * @property {Site} site
 * @property {HTMLButtonElement} button
 * @property {HTMLElement} value
 */

/** @typedef {(side: Side, beside: boolean) => void} Choose */
/** @typedef {{network: Network, rows: HTMLElement[], boxes: Box[], links: Map<Layer, HTMLElement>}} Drawn */

/**
 * @param {Networks} networks
 * @param {Choose} choose
 * @param {(boxes: typeof BOXES[number]) => void} showIn
 */
export function drawing(networks, choose, showIn) {
  const body = element("div", { class: "network" });
  const boxes = select("Value in the boxes", BOXES.map((name) => [name, NAMES[name]]), (value) =>
    showIn(BOXES.find((name) => name === value) ?? "snr"));
  const which = select("Network", networks.names.map((name) => [name, name]), (name) => {
    if (drawn) choose(sideOf(networks.of({ ...drawn.network, network: name })), false);
  });
  const caption = element("p", { class: "hint" });
  /** @type {Drawn | null} */
  let drawn = null;

  return {
    element: element("section", { class: "card drawing", "aria-label": "The network" },
      element("div", { class: "card-head" }, element("h2", {}, "The network"),
        ...(networks.names.length > 1 ? [which] : []),
        element("label", {}, element("span", {}, "in the boxes"), boxes)),
      body, caption),

    /** @param {State} state */
    render(state) {
      const network = networks.of(state.sides[0]);
      if (drawn?.network !== network) {
        drawn = drawNetwork(network, choose);
        body.replaceChildren(...drawn.rows);
      }
      which.value = network.name;
      boxes.value = state.boxes;
      caption.textContent = explanation(network, state);
      for (const box of drawn.boxes) mark(box, state, network);
    },

    /**
     * What takes longer than a frame: the numbers of all sites.
     *
     * @param {State} state
     */
    *values(state) {
      if (drawn) yield* fillIn(drawn, state);
    },
  };
}

/**
 * @param {Network} network
 * @param {State} state
 */
function explanation({ labels, layers }, state) {
  const beside = "Shift-click a site to put it beside the first.";
  if (labels.includes(state.label)) return `Number of nodes whose diagonal holds “${state.label}”. ${beside}`;
  const percentages = layers.length ? "Percentages: weights of the layer that ANDC would remove. " : "";
  return `Data flows from the bottom up, and in a block from left to right. ${percentages}${beside}`;
}

/**
 * The numbers of the boxes and of the layers between them, those of the chosen site's block first.
 *
 * @param {Drawn} drawn
 * @param {State} state
 */
function* fillIn({ network, boxes, links }, state) {
  const block = network.sites.get(state.sides[0].site)?.data.block;
  const near = [...boxes].sort((a, b) => Number(b.site.data.block === block) - Number(a.site.data.block === block));
  const values = new Map();
  for (const { site } of near) {
    values.set(site, boxValue(site, state, network.labels.indexOf(state.label)));
    yield;
  }
  fill(boxes, values, network.labels.includes(state.label) ? "nodes that know it" : NAMES[state.boxes]);
  for (const [layer, text] of links) {
    text.textContent = removed(network, layer, state) ?? "";
    yield;
  }
}

/**
 * Share of a layer's weights that ANDC removes; null where the page does not have all nodes of its sites.
 *
 * @param {Network} network
 * @param {Layer} layer
 * @param {State} state
 */
export function removed(network, layer, { threshold, rule }) {
  const source = network.sites.get(layer.source), target = network.sites.get(layer.target ?? "");
  if (!source?.whole || (layer.target !== null && !target?.whole)) return null;
  const from = source.clusters(threshold, rule);
  return percent(target ? dilution(from, target.clusters(threshold, rule)) : outputDilution(from));
}

/**
 * @param {Network} network
 * @param {Choose} choose
 * @returns {Drawn}
 */
function drawNetwork(network, choose) {
  /** @type {Drawn} */
  const drawn = { network, rows: [], boxes: [], links: new Map() };
  const rows = byRow(network), longest = Math.max(...rows.map(([name]) => name.length));
  drawn.rows = rows.map(([name, sites]) => drawRow(drawn, name, sites, choose));
  for (const row of drawn.rows) row.style.setProperty("--longest", `${longest}ch`);
  return drawn;
}

/**
 * @param {Drawn} drawn its boxes and links are added to
 * @param {string} name
 * @param {Site[]} sites
 * @param {Choose} choose
 */
function drawRow({ network, boxes, links }, name, sites, choose) {
  const row = element("div", { class: "block", role: "group", "aria-label": name },
    element("span", { class: "block-name" }, name));
  const main = sites.filter((one) => !one.data.name.endsWith(NO_SKIP));
  main.forEach((site, i) => {
    if (i && site.data.block) row.append(arrow(network.layers.find((one) => joins(one, main[i - 1], site)), links));
    const bare = sites.find((one) => one.data.name === site.data.name + NO_SKIP);
    const own = [site, ...(bare ? [bare] : [])].map((one) => makeBox(network, one, choose));
    boxes.push(...own);
    row.append(element("span", { class: "place-of-site" }, ...own.map((box) => box.button)));
  });
  const output = network.layers.find((one) => one.target === null && one.source === main[main.length - 1]?.data.name);
  if (output) row.append(arrow(output, links), element("span", { class: "labels-box" }, counted(network.labels.length, "label")));
  return row;
}

/** @param {Layer} layer @param {Site} source @param {Site} target */
function joins(layer, source, target) {
  return layer.source === source.data.name && layer.target === target.data.name;
}

/**
 * @param {Network} network
 * @returns {[string, Site[]][]} the last first
 */
function byRow(network) {
  /** @type {Map<string, Site[]>} */
  const found = new Map();
  for (const site of network.sites.values()) {
    const { block, name } = site.data;
    const row = name === OWN_HEAD ? "own head" : block ? `block ${block}` : name.split(".").slice(0, -1).join(".");
    found.set(row, [...(found.get(row) ?? []), site]);
  }
  return [...found].reverse();
}

/**
 * @param {Layer | undefined} layer
 * @param {Map<Layer, HTMLElement>} links
 */
function arrow(layer, links) {
  const text = element("span", { class: "dilution" });
  if (layer) links.set(layer, text);
  return element("span", { class: layer ? "link layer" : "link", title: layer ? `${layer.name}: weights that ANDC would remove` : "" }, text);
}

/**
 * @param {Network} network
 * @param {Site} site
 * @param {Choose} choose
 * @returns {Box}
 */
function makeBox(network, site, choose) {
  const bare = site.data.name.endsWith(NO_SKIP);
  const parts = site.data.name.split(".");
  const place = parts.slice(site.data.block ? 2 : -1).join(".") || site.data.name;
  const short = bare ? "no skip" : site.data.name === OWN_HEAD ? "nodes" : place;
  const value = element("span", { class: "value" });
  const button = element("button", {
    type: "button", class: bare ? "box bare" : "box", disabled: !site.explored,
    click: (/** @type {MouseEvent} */ event) => choose(sideOf(network, site.data.name), event.shiftKey),
  }, element("span", { class: "site-name" }, short), value);
  return { site, button, value };
}

/**
 * @param {Box} box
 * @param {State} state
 * @param {Network} network
 */
function mark({ site, button, value }, { sides }, { name, split, seed }) {
  const at = sides.findIndex((side) =>
    side.network === name && side.split === split && side.seed === seed && side.site === site.data.name);
  button.dataset.side = at < 0 ? "" : String(at + 1);
  setAttributes(button, {
    "aria-pressed": String(at >= 0),
    "aria-label": `${site.data.name}, ${site.data.nodes} nodes, ${value.textContent || "not yet computed"}`,
    title: `${site.data.name}: ${site.data.nodes} nodes, ${site.data.name === OWN_HEAD ? "" : "probe "}accuracy ${shown(site.data.accuracy)}`,
  });
}

/**
 * @param {Box[]} boxes
 * @param {Map<Site, number | null>} values
 * @param {string} what they are
 */
function fill(boxes, values, what) {
  const finite = [...values.values()].filter((value) => value !== null && Number.isFinite(value)).map(Number);
  const low = Math.min(...finite), high = Math.max(...finite);
  for (const { button, value, site } of boxes) {
    const number = values.get(site) ?? null;
    value.textContent = number === null ? "" : shown(number, 3);
    const share = number === null || high === low ? 0 : (Math.min(number, high) - low) / (high - low);
    button.style.setProperty("--share", share.toFixed(3));
    button.setAttribute("aria-label", `${site.data.name}, ${site.data.nodes} nodes, ${what} ${value.textContent}`);
  }
}

/**
 * @param {Site} site
 * @param {State} state
 * @param {number} label
 * @returns {number | null}
 */
function boxValue(site, { threshold, rule, boxes }, label) {
  if (!site.explored) return null;
  if (label >= 0) return site.appearances(threshold, rule)[label];
  return boxes === "accuracy" ? site.data.accuracy : site.statistics(threshold, rule)[boxes];
}
