// What ANDC pruning would remove from the layers of the chosen site's block.

import { removed } from "./drawing.js";
import { element } from "./element.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./network.js").Networks} Networks */

/** @param {Networks} networks */
export function layersCard(networks) {
  const body = element("tbody"), title = element("h2");
  const made = element("section", { class: "card layers", "aria-label": "Pruning" },
    element("div", { class: "card-head" }, title),
    element("p", { class: "hint" }, "A weight is kept only where the diagonals of its two nodes share a label (ANDC), both sites at this threshold."),
    element("div", { class: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...["layer", "weights", "removed"].map((name, i) =>
        element("th", { scope: "col", class: i ? "number" : "" }, name)))), body)));
  return {
    element: made,
    /** @param {State} state */
    *render(state) {
      const network = networks.of(state.sides[0]), block = network.sites.get(state.sides[0].site)?.data.block;
      const own = network.layers.filter((layer) => network.sites.get(layer.source)?.data.block === block);
      made.hidden = !own.length;
      title.textContent = `Pruning ${block ? `block ${block} ` : ""}at threshold ${state.threshold}`;
      const rows = [];
      for (const layer of own) {
        const inputs = network.sites.get(layer.source)?.data.of ?? "?";
        const outputs = layer.target === null ? network.labels.length : network.sites.get(layer.target)?.data.of ?? "?";
        const share = removed(network, layer, state);
        rows.push(element("tr", { "data-layer": layer.name },
          element("th", { scope: "row" }, layer.name, element("small", {}, `${layer.source} → ${layer.target ?? "labels"}`)),
          element("td", { class: "number" }, `${inputs} × ${outputs}`),
          element("td", { class: "number" }, share ?? "not measured")));
        yield;
      }
      body.replaceChildren(...rows);
    },
  };
}
