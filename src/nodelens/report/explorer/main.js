// The explorer: looks at a network node by node, and follows the threshold.

import { controls } from "./page/controls.js";
import { drawing } from "./page/drawing.js";
import { knowersCard } from "./page/knowers.js";
import { Later } from "./page/later.js";
import { layersCard } from "./page/layers.js";
import { networks } from "./page/network.js";
import { sidePanel } from "./page/side.js";
import { address, opened } from "./page/state.js";
import { followTheme } from "./page/theme.js";

/** @typedef {import("./page/state.js").State} State */
/** @typedef {import("./page/state.js").Side} Side */

/**
 * @param {HTMLElement} root
 * @param {import("./page/network.js").PageData} page
 */
function explore(root, page) {
  const known = networks(page), later = new Later();
  if (!known.size) return () => {};
  let state = opened(location.hash.slice(1), known), waiting = 0, moved = false;

  /** @param {Partial<State>} change */
  const change = (change) => {
    state = { ...state, ...change };
    moved = true;
    waiting ||= requestAnimationFrame(render);
  };
  /** @param {number} index @param {Side | null} side */
  const setSide = (index, side) => change({
    sides: side ? state.sides.map((own, i) => (i === index ? side : own)) : state.sides.slice(0, 1),
  });

  const head = controls(known, change), layers = layersCard(known);
  const map = drawing(known, (network, site, beside) => {
    const sites = known.get(network)?.sites;
    const name = site || (sites?.get(state.sides[0].site)?.explored ? state.sides[0].site : [...(sites?.values() ?? [])].filter((one) => one.explored)[0]?.data.name ?? "");
    const chosen = { network, site: name, node: null };
    change({ sides: beside ? [state.sides[0], chosen] : [chosen, ...state.sides.slice(1)] });
  }, (boxes) => change({ boxes }));
  const knowers = knowersCard(known, (site, node) => setSide(0, { ...state.sides[0], site, node }));
  const sides = [0, 1].map((index) => sidePanel(index, known, (side) => setSide(index, side), (sort) => change({ sort })));
  const beside = document.createElement("button");
  beside.type = "button";
  beside.className = "beside";
  beside.textContent = "Put a second site beside it";
  beside.addEventListener("click", () => change({ sides: [state.sides[0], { ...state.sides[0], node: null }] }));
  const pair = document.createElement("div");
  pair.className = "pair";
  pair.append(...sides.map((side) => side.element));
  root.append(head.element, map.element, knowers.element, pair, beside, layers.element);

  function render() {
    waiting = 0;
    head.render(state);
    map.render(state);
    for (const side of sides) side.render(state);
    beside.hidden = state.sides.length > 1;
    pair.dataset.count = String(state.sides.length);
    root.dataset.settled = "false";
    later.run((function* () {
      yield* layers.render(state);
      yield* map.values(state);
      yield* knowers.render(state);
      for (const side of sides) yield* side.later(state);
      // Once the slider rests: browsers refuse to change the address too often.
      if (moved) history.replaceState(null, "", `#${address(state)}`);
      root.dataset.settled = "true";
    })());
  }

  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // an anchor of the page
    state = opened(location.hash.slice(1), known);
    render();
  });
  knowers.element.hidden = !state.label;
  render();
  return render;
}

const root = document.getElementById("explorer"), data = document.getElementById("explorer-data");
const redraw = root && data ? explore(root, JSON.parse(data.textContent ?? "")) : () => {};
const theme = document.getElementById("theme");
if (theme instanceof HTMLButtonElement) followTheme(theme, redraw);
