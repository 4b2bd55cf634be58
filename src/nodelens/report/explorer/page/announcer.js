// Tells those who do not see the page what has changed, once it rests.

import { counted, element, shown } from "./element.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./network.js").Networks} Networks */

/** @param {Networks} networks */
export function announcer(networks) {
  const made = element("p", { class: "unseen", role: "status", "aria-live": "polite" });
  let told = "";
  return {
    element: made,
    /** @param {State} state */
    render(state) {
      const text = summary(networks, state);
      if (told && told !== text) made.textContent = text; // a page that opens is read anyway
      told = text;
    },
  };
}

/**
 * @param {Networks} networks
 * @param {State} state
 */
function summary(networks, state) {
  const [side] = state.sides, network = networks.of(side), site = network.sites.get(side.site);
  if (!site) return "";
  const own = site.statistics(state.threshold, state.rule), label = network.labels.indexOf(state.label);
  return [
    `${side.site}, ${side.split} split, probe seed ${side.seed}, threshold ${state.threshold}:`,
    `SNR ${shown(own.snr, 3)}, ${shown(own.diagonal, 3)} labels per diagonal, noise ${shown(own.noise, 3)}.`,
    label < 0 ? "" : `${counted(site.appearances(state.threshold, state.rule)[label], "node")} know ${state.label}.`,
    ...state.sides.map((one) => (one.node === null ? "" : `Node ${one.node} of ${one.site} is open.`)),
  ].filter(Boolean).join(" ");
}
