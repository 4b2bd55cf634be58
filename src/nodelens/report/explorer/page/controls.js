// The controls above the explorer: threshold, cluster rule, ratio of the heads, search for a label.

import { RULES } from "../measures/clusters.js";
import { element, select } from "./element.js";
import { within } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./network.js").Networks} Networks */
/** @typedef {(change: Partial<State>) => void} Change */

/**
 * @param {Networks} networks
 * @param {Change} change
 */
export function controls(networks, change) {
  const slider = element("input", {
    type: "range", min: 0.01, max: 0.99, step: 0.01, "aria-label": "Threshold",
    input: () => change({ threshold: Number(slider.value) }),
  });
  const exact = numberField({ min: 0.01, max: 0.99, step: "any", "aria-label": "Threshold, as a number" }, 0.99,
    (threshold) => change({ threshold }));
  const rule = select("Cluster rule", RULES.map((name) => [name, name]), (value) =>
    change({ rule: value === "maximum" ? "maximum" : "greedy" }));
  const ratio = numberField({ min: 1, max: 10, step: 0.1, "aria-label": "Ratio of the heads" }, 100,
    (ratio) => change({ ratio }));
  const search = labelSearch(networks.labels, change);
  const made = element("div", { class: "controls", role: "group", "aria-label": "Controls" },
    element("label", { class: "threshold" }, element("span", {}, "threshold"), slider, exact.element),
    element("label", {}, element("span", {}, "clusters"), rule),
    ...(networks.hasHeads ? [element("label", { title: "a head specialises in a label that it holds so many times as often as any other head" },
      element("span", {}, "head ratio"), ratio.element)] : []),
    search.element,
  );
  return {
    element: made,
    /** @param {State} state */
    render(state) {
      slider.value = String(state.threshold);
      exact.render(state.threshold);
      rule.value = state.rule;
      ratio.render(state.ratio);
      search.render(state);
    },
  };
}

/**
 * A number to type; one that there cannot be leaves what was.
 *
 * @param {{min: number, max: number, step: number | string, "aria-label": string}} attributes
 * @param {number} most may be typed, where that is more than the arrows reach
 * @param {(value: number) => void} set
 */
function numberField(attributes, most, set) {
  let shown = NaN;
  const field = element("input", {
    type: "number", ...attributes,
    change: () => {
      const wanted = within(field.value, attributes.min, most, shown);
      field.value = String(wanted);
      set(wanted);
    },
  });
  return {
    element: field,
    /** @param {number} value */
    render(value) {
      shown = value;
      if (document.activeElement !== field) field.value = String(value);
    },
  };
}

/**
 * @param {string[]} names
 * @param {Change} change
 */
function labelSearch(names, change) {
  let searched = "";
  const list = element("datalist", { id: "label-names" }, ...names.map((name) => element("option", { value: name })));
  const field = element("input", {
    type: "search", list: "label-names", placeholder: "a label …", "aria-label": "Search a label", autocomplete: "off",
    input: () => {
      field.setCustomValidity("");
      if (names.includes(field.value) || !field.value) change({ label: field.value });
    },
    change: () => {
      const label = closest(field.value, names);
      if (!label && field.value.trim()) {
        field.setCustomValidity(`No label contains “${field.value.trim()}”.`);
        field.reportValidity();
        return; // what was searched before stays
      }
      // Also sent when a click takes the focus: drawn anew, what is clicked would be another element when it ends.
      if (label === searched) field.value = label;
      else change({ label });
    },
  });
  const clear = element("button", { type: "button", "aria-label": "Clear the search", click: () => change({ label: "" }) }, "×");
  return {
    element: element("label", { class: "search" }, element("span", {}, "who knows"), field, clear, list),
    /** @param {State} state */
    render(state) {
      searched = state.label;
      if (document.activeElement !== field || names.includes(state.label)) {
        field.value = state.label;
        field.setCustomValidity("");
      }
      clear.hidden = !state.label;
    },
  };
}

/**
 * The label that begins with, or else contains, what was typed; empty if none does.
 *
 * @param {string} typed
 * @param {string[]} names
 */
function closest(typed, names) {
  const wanted = typed.trim().toLowerCase();
  if (!wanted) return "";
  const lower = names.map((name) => name.toLowerCase());
  const at = [lower.indexOf(wanted), lower.findIndex((name) => name.startsWith(wanted)),
    lower.findIndex((name) => name.includes(wanted))].find((found) => found >= 0);
  return at === undefined ? "" : names[at];
}
