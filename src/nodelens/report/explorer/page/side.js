// One site: its statistics beside Python's and beside chance, its nodes, how evenly it knows the labels, its heads.

import { headAppearances, headOfLabel, labelsPerHead } from "../measures/heads.js";
import { labelField } from "../measures/statistics.js";
import { barChart } from "./charts.js";
import { curveChart } from "./curves.js";
import { counted, element, select, shown } from "./element.js";
import { glyphs } from "./glyphs.js";
import { SWEEP } from "./network.js";
import { nodeView } from "./node.js";
import { SORTS } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Side} Side */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./network.js").Site} Site */
/** @typedef {import("./network.js").StoredStatistics} StoredStatistics */

/** @type {[keyof import("./network.js").SiteStatistics, string, string][]} */
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
 * @param {Map<string, Network>} networks
 * @param {(side: Side | null) => void} set null closes it
 * @param {(sort: typeof SORTS[number]) => void} sortBy
 */
export function sidePanel(index, networks, set, sortBy) {
  /** @type {Side} */
  let current = { network: "", site: "", node: null };
  const network = select("Network", [...networks.keys()].map((name) => [name, name]), (name) => {
    const sites = /** @type {Network} */ (networks.get(name)).sites;
    const same = sites.get(current.site)?.explored ? current.site : [...sites.values()].filter((one) => one.explored)[0].data.name;
    set({ network: name, site: same, node: null });
  });
  const site = select("Site", [], (name) => set({ ...current, site: name, node: null }));
  const sort = select("Sort the nodes by", SORTS.map((name) => [name, SORT_NAMES[name]]), (value) =>
    sortBy(SORTS.find((name) => name === value) ?? "number"));
  const statistics = element("div", { class: "scroll" });
  const facts = element("p", { class: "hint" });
  const grid = glyphs((node) => set({ ...current, node }));
  const node = nodeView((to) => set({ ...current, node: to }));
  const even = barChart("Nodes per label that hold it (Fig. 4a)"), field = barChart("Total field per label (Fig. 4b)");
  const heads = headsCard(), curves = curvesCard();
  const close = element("button", { type: "button", "aria-label": "Close this site", click: () => set(null) }, "×");
  close.hidden = index === 0;
  const made = element("section", { class: "card side", "aria-label": index ? "Second site" : "First site" },
    element("div", { class: "card-head" }, element("h2", {}, index ? "Beside it" : "Site"),
      ...(networks.size > 1 ? [network] : []), site, close),
    facts,
    element("div", { class: "side-body" },
      element("div", { class: "nodes" },
        element("div", { class: "card-head" }, element("h3", {}, "Nodes"), element("label", {}, element("span", {}, "sorted by"), sort)),
        grid.element,
        element("p", { class: "legend" }, "A mark per label of the diagonal, coloured by cluster, the largest blue; the bar below: noise.")),
      element("div", { class: "numbers" }, statistics, even.element, field.element, heads.element, curves.element)),
    node.element);

  /** @param {State} state @param {Network} of @param {Site} chosen */
  function fill(state, of, chosen) {
    const label = of.labels.indexOf(state.label), appearances = chosen.appearances(state.threshold, state.rule);
    facts.textContent = `${counted(chosen.data.nodes, "node")}, ${counted(of.labels.length, "label")}, probe accuracy ${shown(chosen.data.accuracy)}`
      + (label >= 0 ? ` · ${appearances[label]} of its nodes know “${state.label}”` : "");
    statistics.replaceChildren(statisticsTable(chosen, state));
    grid.render(chosen, state, of.labels, current.node);
    even.render(of.labels, [appearances], label, rangeOf(appearances));
    const total = labelField(chosen.factors(), chosen.clusters(state.threshold, state.rule));
    field.render(of.labels, [total], label, rangeOf(total));
    heads.render(chosen, of.labels, state);
  }

  return {
    element: made,
    /** @param {State} state */
    render(state) {
      const side = state.sides[index];
      made.hidden = !side;
      if (!side) return;
      const opened = side.node !== null && (current.node === null || current.site !== side.site);
      const of = /** @type {Network} */ (networks.get(side.network)), chosen = /** @type {Site} */ (of.sites.get(side.site));
      if (current.network !== side.network) site.replaceChildren(...options(of));
      current = side;
      network.value = side.network;
      site.value = side.site;
      sort.value = state.sort;
      fill(state, of, chosen);
      node.render(state, side, of);
      if (opened) node.element.scrollIntoView({ block: "nearest" });
    },
    /**
     * What takes longer than a frame: the statistics at all thresholds.
     *
     * @param {State} state
     */
    *later(state) {
      const side = state.sides[index], site = side && networks.get(side.network)?.sites.get(side.site);
      if (site) curves.render(yield* site.sweep(state.rule), site, state);
    },
  };
}

/** @param {Network} network */
function options(network) {
  return [...network.sites.values()].map((one) =>
    element("option", { value: one.data.name, disabled: !one.explored }, one.data.name));
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
  const heads = [["", ""], ["this page", `at ${state.threshold}`], ["Python", at(python)], ...beside.map(([name, row]) => [name, at(row)])];
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
     * @param {import("./network.js").SiteStatistics[]} sweep at the thresholds of `SWEEP`
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
