// The drawing of a network: a row per block, the last on top; within a row data flows from left to right.

import { dilution, outputDilution } from "../measures/masks.js";
import { counted, element, percent, select, setAttributes, shown } from "./element.js";
import { BOXES } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./network.js").Site} Site */
/** @typedef {import("./network.js").Layer} Layer */

const NAMES = { snr: "SNR", diagonal: "labels per diagonal", noise: "noise per node", accuracy: "accuracy of the probe" };
const NO_SKIP = ".no_skip";

/**
 * @typedef {object} Box
 * @property {Site} site
 * @property {HTMLButtonElement} button
 * @property {HTMLElement} value
 */

/**
 * @param {Map<string, Network>} networks
 * @param {(network: string, site: string, beside: boolean) => void} choose
 * @param {(boxes: typeof BOXES[number]) => void} showIn
 */
export function drawing(networks, choose, showIn) {
  const body = element("div", { class: "network" });
  const boxes = select("Value in the boxes", BOXES.map((name) => [name, NAMES[name]]), (value) =>
    showIn(BOXES.find((name) => name === value) ?? "snr"));
  const which = select("Network", [...networks.keys()].map((name) => [name, name]), (name) => drawn?.pick(name));
  const caption = element("p", { class: "hint" });
  /** @type {ReturnType<typeof drawNetwork> & {name: string, pick: (name: string) => void} | null} */
  let drawn = null;

  /** @param {string} name */
  function draw(name) {
    if (drawn?.name === name) return;
    const network = /** @type {Network} */ (networks.get(name));
    drawn = { ...drawNetwork(network, choose), name, pick: (other) => choose(other, "", false) };
    body.replaceChildren(...drawn.rows);
  }

  return {
    element: element("section", { class: "card drawing", "aria-label": "The network" },
      element("div", { class: "card-head" }, element("h2", {}, "The network"),
        ...(networks.size > 1 ? [which] : []),
        element("label", {}, element("span", {}, "in the boxes"), boxes)),
      body, caption),

    /** @param {State} state */
    render(state) {
      const name = state.sides[0].network;
      draw(name);
      which.value = name;
      boxes.value = state.boxes;
      const label = networks.get(name)?.labels.indexOf(state.label) ?? -1;
      caption.textContent = label >= 0
        ? `Number of nodes whose diagonal holds “${state.label}”. Shift-click a site to put it beside the first.`
        : "Data flows from the bottom up, and in a block from left to right. Percentages: weights of the layer that "
          + "ANDC would remove. Shift-click a site to put it beside the first.";
      for (const box of drawn?.boxes ?? []) mark(box, state, name);
    },

    /**
     * What takes longer than a frame: the numbers of all sites.
     *
     * @param {State} state
     */
    *values(state) {
      if (!drawn) return;
      const label = networks.get(drawn.name)?.labels.indexOf(state.label) ?? -1;
      const block = networks.get(drawn.name)?.sites.get(state.sides[0].site)?.data.block;
      const near = [...drawn.boxes].sort((a, b) => Number(b.site.data.block === block) - Number(a.site.data.block === block));
      for (const box of near) {
        if (box.site.explored) box.site.clusters(state.threshold, state.rule);
        yield;
      }
      fill(drawn.boxes, state, label);
      for (const [layer, text] of drawn.links) {
        text.textContent = removed(/** @type {Network} */ (networks.get(drawn.name)), layer, state) ?? "";
        yield;
      }
    },
  };
}

/**
 * Share of a layer's weights that ANDC removes; null where one of its sites is not in the page.
 *
 * @param {Network} network
 * @param {Layer} layer
 * @param {State} state
 */
export function removed(network, layer, { threshold, rule }) {
  const source = network.sites.get(layer.source), target = network.sites.get(layer.target ?? "");
  if (!source?.explored || (layer.target !== null && !target?.explored)) return null;
  const from = source.clusters(threshold, rule);
  return percent(target ? dilution(from, target.clusters(threshold, rule)) : outputDilution(from));
}

/**
 * @param {Network} network
 * @param {(network: string, site: string, beside: boolean) => void} choose
 */
function drawNetwork(network, choose) {
  /** @type {Box[]} */
  const boxes = [];
  /** @type {Map<Layer, HTMLElement>} */
  const links = new Map();
  const rows = byBlock(network).map(([block, sites]) => {
    const row = element("div", { class: "block", role: "group", "aria-label": `block ${block}` },
      element("span", { class: "block-name" }, block ? `block ${block}` : ""));
    /** @type {Site | null} */
    let before = null;
    for (const site of sites.filter((one) => !one.data.name.endsWith(NO_SKIP))) {
      const last = before?.data.name;
      const layer = network.layers.find((one) => one.source === last && one.target === site.data.name);
      if (before) row.append(arrow(layer, links));
      const bare = sites.find((one) => one.data.name === site.data.name + NO_SKIP);
      const own = [site, ...(bare ? [bare] : [])].map((one) => makeBox(network, one, choose));
      boxes.push(...own);
      row.append(element("span", { class: "place-of-site" }, ...own.map((box) => box.button)));
      before = site;
    }
    const output = network.layers.find((one) => one.target === null && one.source === before?.data.name);
    if (output) row.append(arrow(output, links), element("span", { class: "labels-box" }, counted(network.labels.length, "label")));
    return row;
  });
  return { rows, boxes, links };
}

/**
 * @param {Network} network
 * @returns {[number, Site[]][]} the last block first
 */
function byBlock(network) {
  /** @type {Map<number, Site[]>} */
  const found = new Map();
  for (const site of network.sites.values()) {
    found.set(site.data.block, [...(found.get(site.data.block) ?? []), site]);
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
 * @param {(network: string, site: string, beside: boolean) => void} choose
 * @returns {Box}
 */
function makeBox(network, site, choose) {
  const bare = site.data.name.endsWith(NO_SKIP);
  const short = bare ? "no skip" : site.data.name.split(".").slice(site.data.block ? 2 : 0).join(".") || site.data.name;
  const value = element("span", { class: "value" });
  const button = element("button", {
    type: "button", class: bare ? "box bare" : "box", disabled: !site.explored,
    click: (/** @type {MouseEvent} */ event) => choose(network.name, site.data.name, event.shiftKey),
  }, element("span", { class: "site-name" }, short), value);
  return { site, button, value };
}

/**
 * @param {Box} box
 * @param {State} state
 * @param {string} network
 */
function mark({ site, button, value }, state, network) {
  const at = state.sides.findIndex((side) => side.network === network && side.site === site.data.name);
  button.dataset.side = at < 0 ? "" : String(at + 1);
  setAttributes(button, {
    "aria-pressed": String(at >= 0),
    "aria-label": `${site.data.name}, ${site.data.nodes} nodes, ${value.textContent || "not yet computed"}`,
    title: `${site.data.name}: ${site.data.nodes} nodes, probe accuracy ${shown(site.data.accuracy)}`,
  });
}

/**
 * @param {Box[]} boxes
 * @param {State} state
 * @param {number} label -1 for none
 */
function fill(boxes, state, label) {
  const values = boxes.map(({ site }) => boxValue(site, state, label));
  const finite = values.filter((value) => value !== null && Number.isFinite(value)).map(Number);
  const low = Math.min(...finite), high = Math.max(...finite);
  boxes.forEach(({ button, value, site }, i) => {
    const number = values[i];
    value.textContent = number === null ? "" : shown(number, 3);
    const share = number === null || high === low ? 0 : (Math.min(number, high) - low) / (high - low);
    button.style.setProperty("--share", share.toFixed(3));
    button.setAttribute("aria-label", `${site.data.name}, ${site.data.nodes} nodes, ${label < 0 ? NAMES[state.boxes] : "nodes that know it"} ${value.textContent}`);
  });
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
