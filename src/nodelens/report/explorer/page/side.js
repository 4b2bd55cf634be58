// One site: its statistics beside Python's and beside chance, its nodes, how evenly it knows the labels, its heads.

import { headAppearances, headOfLabel, labelsPerHead } from "../measures/heads.js";
import { labelField } from "../measures/statistics.js";
import { barChart } from "./charts.js";
import { curveChart } from "./curves.js";
import { OWN_HEAD } from "./drawing.js";
import { counted, element, select, shown } from "./element.js";
import { glyphs } from "./glyphs.js";
import { SWEEP } from "./site.js";
import { nodeView } from "./node.js";
import { SORTS, sideOf } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Side} Side */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./network.js").Networks} Networks */
/** @typedef {import("./site.js").Site} Site */
/** @typedef {import("./site.js").StoredStatistics} StoredStatistics */

/** @type {[keyof import("./site.js").SiteStatistics, string, string][]} */
const ROWS = [
  ["n_clusters", "N_c", "clusters per node"],
  ["cluster_size", "C_s", "labels per cluster"],
  ["diagonal", "diag", "labels per diagonal"],
  ["noise", "n", "noise elements per node"],
  ["signal", "signal", "nodes per label that hold it"],
  ["noise_internal", "noise_I", "within the clusters"],
  ["noise_external", "noise_E", "outside the clusters"],
  ["snr", "SNR", "signal over noise"],
  ["snr_min", "SNR_min", "of the label that appears least"],
];

const SORT_NAMES = { number: "number", diagonal: "labels in the diagonal", noise: "noise", snr: "SNR", label: "label", head: "head" };

/**
 * @param {number} index 0 or 1
 * @param {Networks} networks
 * @param {(side: Side | null) => void} set null closes it
 * @param {(sort: typeof SORTS[number]) => void} sortBy
 */
export function sidePanel(index, networks, set, sortBy) {
  /** @type {Side} */
  let current = { network: "", split: "", seed: 0, site: "", node: null };
  const head = sideHead(index, networks, set), facts = element("p", { class: "hint" });
  const nodes = nodesCard((node) => set({ ...current, node }), sortBy), numbers = numbersCard();
  const node = nodeView((to) => set({ ...current, node: to }));
  const showNode = () => node.element.scrollIntoView({ block: "nearest" });
  const made = element("section", { class: "card side", "aria-label": index ? "Second site" : "First site" },
    head.element, facts, element("div", { class: "side-body" }, nodes.element, numbers.element), node.element);
  return {
    element: made,
    /** @param {State} state */
    render(state) {
      const side = state.sides[index];
      made.hidden = !side;
      if (!side) return;
      const opened = side.node !== null && (current.node === null || current.site !== side.site);
      const network = networks.of(side), site = /** @type {Site} */ (network.sites.get(side.site));
      current = side;
      head.render(side, network);
      facts.textContent = factsOf(site, network, state);
      nodes.render(site, network, state, side);
      numbers.render(site, network, state);
      node.render(state, side, network);
      if (opened) showNode();
    },
    showNode,
    /**
     * What takes longer than a frame: the statistics at all thresholds.
     *
     * @param {State} state
     */
    *later(state) {
      const side = state.sides[index], site = side && networks.of(side).sites.get(side.site);
      if (site) yield* numbers.later(site, state);
    },
  };
}

/**
 * Which network, measured how, and which of its sites.
 *
 * @param {number} index
 * @param {Networks} networks
 * @param {(side: Side | null) => void} set
 */
function sideHead(index, networks, set) {
  /** @type {Side} */
  let current = { network: "", split: "", seed: 0, site: "", node: null };
  /** @type {Network | null} */
  let offered = null;
  /** @param {Partial<import("./network.js").Choice>} choice */
  const look = (choice) => set(sideOf(networks.of({ ...current, ...choice }), current.site));
  const network = select("Network", networks.names.map((name) => [name, name]), (name) => look({ network: name }));
  const split = select("Split", [], (name) => look({ split: name }));
  const seed = select("Probe seed", [], (number) => look({ seed: Number(number) }));
  const site = select("Site", [], (name) => set({ ...current, site: name, node: null }));
  const close = element("button", { type: "button", "aria-label": "Close this site", click: () => set(null) }, "×");
  close.hidden = index === 0;
  network.hidden = networks.names.length < 2;
  return {
    element: element("div", { class: "card-head" }, element("h2", {}, index ? "Beside it" : "Site"),
      network, split, seed, site, close),
    /** @param {Side} side @param {Network} of */
    render(side, of) {
      current = side;
      if (offered !== of) {
        const views = networks.views(of.name), seeds = views.filter((view) => view.split === of.split);
        offer(split, views.map((view) => [view.split, `${view.split} split`]));
        offer(seed, seeds.map((view) => [String(view.seed), `probe seed ${view.seed}`]));
        site.replaceChildren(...[...of.sites.values()].map((one) =>
          element("option", { value: one.data.name, disabled: !one.explored }, one.data.name)));
      }
      offered = of;
      network.value = side.network;
      split.value = side.split;
      seed.value = String(side.seed);
      site.value = side.site;
    },
  };
}

/**
 * Offer these choices; none where there is but one.
 *
 * @param {HTMLSelectElement} field
 * @param {[value: string, text: string][]} options
 */
function offer(field, options) {
  const each = new Map(options);
  field.replaceChildren(...[...each].map(([value, text]) => element("option", { value }, text)));
  field.hidden = each.size < 2;
}

/**
 * @param {Site} site
 * @param {Network} network
 * @param {State} state
 */
function factsOf(site, { labels, split, seed }, { threshold, rule, label: searched }) {
  const { nodes, of, accuracy } = site.data, label = labels.indexOf(searched);
  const what = counted(of, site.filters ? "filter" : "node");
  const asked = site.data.name === OWN_HEAD
    ? `by the network's own layer to the labels, without a probe, accuracy ${shown(accuracy)}`
    : `with probe seed ${seed}, probe accuracy ${shown(accuracy)}`;
  return [
    nodes === of ? what : `the first ${nodes} of ${what}: the others have no room in the page`,
    `${counted(labels.length, "label")}, measured on the ${split} split ${asked}`,
  ].join(", ") + (label < 0 ? "" : ` · ${site.appearances(threshold, rule)[label]} of its nodes know “${searched}”`);
}

/**
 * All nodes of the site.
 *
 * @param {(node: number) => void} open
 * @param {(sort: typeof SORTS[number]) => void} sortBy
 */
function nodesCard(open, sortBy) {
  const grid = glyphs(open);
  const sort = select("Sort the nodes by", SORTS.map((name) => [name, SORT_NAMES[name]]), (value) =>
    sortBy(SORTS.find((name) => name === value) ?? "number"));
  return {
    element: element("div", { class: "nodes" },
      element("div", { class: "card-head" }, element("h3", {}, "Nodes"),
        element("label", {}, element("span", {}, "sorted by"), sort)),
      grid.element,
      element("p", { class: "legend" }, "A mark per label of the diagonal, coloured by cluster, the largest blue; the bar below: noise.")),
    /** @param {Site} site @param {Network} network @param {State} state @param {Side} side */
    render(site, network, state, side) {
      sort.value = state.sort;
      grid.render(site, state, network.labels, side.node);
    },
  };
}

/** The numbers of the site: statistics, how evenly the labels are known, the heads, the threshold. */
function numbersCard() {
  const statistics = element("div", { class: "scroll" });
  const even = barChart("Nodes per label that hold it (Fig. 4a)"), field = barChart("Total field per label (Fig. 4b)");
  const heads = headsCard(), curves = curvesCard();
  return {
    element: element("div", { class: "numbers" }, statistics, even.element, field.element, heads.element, curves.element),
    /** @param {Site} site @param {Network} network @param {State} state */
    render(site, { labels }, state) {
      const label = labels.indexOf(state.label), appearances = site.appearances(state.threshold, state.rule);
      const total = labelField(site.matrices(), site.clusters(state.threshold, state.rule));
      statistics.replaceChildren(statisticsTable(site, state));
      even.render(labels, [appearances], label, rangeOf(appearances));
      field.render(labels, [total], label, rangeOf(total));
      heads.render(site, labels, state);
    },
    /** @param {Site} site @param {State} state */
    *later(site, state) {
      curves.render(yield* site.sweep(state.rule), site, state);
    },
  };
}

/** @param {ArrayLike<number>} values */
function rangeOf(values) {
  const all = Array.from(values);
  return `From ${shown(Math.min(...all))} to ${shown(Math.max(...all))}.`;
}

/**
 * @param {Site} site
 * @param {State} state
 */
function statisticsTable(site, state) {
  const own = site.statistics(state.threshold, state.rule);
  const python = nearest(state.rule === "greedy" ? site.data.python : [], state.threshold);
  const nulls = state.rule === "greedy" ? Object.entries(site.data.nulls) : [];
  const beside = nulls.map(([name, rows]) => /** @type {const} */ ([name, nearest(rows, state.threshold)]));
  const at = (/** @type {StoredStatistics | undefined} */ row) => row ? `at ${row.threshold}` : "";
  const heads = [["statistic", ""], ["this page", `at ${state.threshold}`], ["in the tables", at(python)], ...beside.map(([name, row]) => [name, at(row)])];
  const body = ROWS.map(([key, symbol, meaning]) => element("tr", {},
    element("th", { scope: "row", title: meaning }, symbol, element("small", {}, meaning)),
    element("td", { class: "number own", "data-statistic": key, "data-value": own[key] }, shown(own[key])),
    ...[python, ...beside.map(([, row]) => row)].map((row) =>
      element("td", { class: row?.threshold === state.threshold ? "number" : "number other" }, row ? shown(row[key]) : ""))));
  return element("table", { class: "statistics" },
    element("thead", {}, element("tr", {}, ...heads.map(([name, note]) => element("th", { scope: "col" }, name, element("small", {}, note))))),
    element("tbody", {}, ...body));
}

/**
 * @param {StoredStatistics[]} rows
 * @param {number} threshold
 * @returns {StoredStatistics | undefined}
 */
function nearest(rows, threshold) {
  return [...rows].sort((a, b) => Math.abs(a.threshold - threshold) - Math.abs(b.threshold - threshold))[0];
}

/** SNR and SNR_min against the threshold (Fig. 5). */
function curvesCard() {
  const charts = [curveChart("SNR against the threshold (Fig. 5a)"), curveChart("SNR_min against the threshold (Fig. 5b)")];
  const legend = element("p", { class: "legend" });
  return {
    element: element("div", {}, ...charts.map((chart) => chart.element), legend),
    /**
     * @param {import("./site.js").SiteStatistics[]} sweep at the thresholds of `SWEEP`
     * @param {Site} site
     * @param {State} state
     */
    render(sweep, site, state) {
      const nulls = state.rule === "greedy" ? Object.entries(site.data.nulls) : [];
      /** @type {("snr" | "snr_min")[]} */ (["snr", "snr_min"]).forEach((key, i) => charts[i].render([
        { points: sweep.map((own, k) => [SWEEP[k], own[key]]), series: 0, dashes: [] },
        ...nulls.map(([name, rows]) => nullCurve(name, rows, key)),
      ], state.threshold));
      legend.textContent = nulls.length ? "line: this site; dashed grey: untrained; dotted: labels permuted" : "";
    },
  };
}

/**
 * @param {string} name
 * @param {StoredStatistics[]} rows
 * @param {string} key
 * @returns {import("./curves.js").Curve}
 */
function nullCurve(name, rows, key) {
  const untrained = name === "untrained";
  return { points: rows.map((row) => [row.threshold, row[key] ?? Infinity]), series: untrained ? -1 : 1, dashes: untrained ? [6, 4] : [2, 3] };
}

/** The heads' share of the labels (Fig. 7, Table 4). */
function headsCard() {
  const chart = barChart("Nodes per label and head (Fig. 7)"), list = element("ol", { class: "heads" });
  const made = element("div", { class: "heads-card" }, element("h3", {}, "Heads"), chart.element, list);
  return {
    element: made,
    /**
     * @param {Site} site
     * @param {string[]} names
     * @param {State} state
     */
    render(site, names, state) {
      const heads = site.data.heads;
      made.hidden = !heads;
      if (!heads) return;
      const count = headAppearances(site.clusters(state.threshold, state.rule), heads);
      const owner = headOfLabel(count, heads, state.ratio), per = labelsPerHead(owner, heads);
      const series = Array.from({ length: heads }, (_, head) => count.subarray(head * names.length, (head + 1) * names.length));
      chart.render(names, series, names.indexOf(state.label), `${[...per].map((labels, head) => `head ${head + 1} has ${labels} labels`).join(", ")}.`);
      list.replaceChildren(...series.map((own, head) => headLine(head, own, owner, names, state)));
    },
  };
}

/**
 * @param {number} head
 * @param {Int32Array} count of its nodes, per label
 * @param {Int32Array} owner head of each label
 * @param {string[]} names
 * @param {State} state
 */
function headLine(head, count, owner, names, state) {
  const labels = names.filter((_, label) => owner[label] === head), searched = names.indexOf(state.label);
  const known = searched >= 0 ? `; ${count[searched]} of its nodes know “${state.label}”` : "";
  return element("li", { "data-head": head, "data-labels": labels.length },
    element("span", { class: `swatch series-${head % 6}` }),
    element("strong", {}, `head ${head + 1}: ${counted(labels.length, "label")}`), `${known} `,
    element("span", { class: "names" }, labels.join(", ")));
}
