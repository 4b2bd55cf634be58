// The explorer: looks at a network node by node, and follows the threshold.

import { announcer } from "./page/announcer.js";
import { controls } from "./page/controls.js";
import { drawing } from "./page/drawing.js";
import { element } from "./page/element.js";
import { knowersCard } from "./page/knowers.js";
import { Later } from "./page/later.js";
import { layersCard } from "./page/layers.js";
import { Networks } from "./page/network.js";
import { sidePanel } from "./page/side.js";
import { address, opened, sideOf } from "./page/state.js";
import { followTheme } from "./page/theme.js";

/** @typedef {import("./page/network.js").PageData} PageData */
/** @typedef {import("./page/state.js").State} State */
/** @typedef {import("./page/state.js").Side} Side */

class Explorer {
  #later = new Later();
  #waiting = 0;
  #moved = false;

  /**
   * @param {HTMLElement} root
   * @param {Networks} networks at least one
   */
  constructor(root, networks) {
    this.root = root;
    this.networks = networks;
    this.state = opened(location.hash.slice(1), networks);
    /** @param {Partial<State>} change */
    const change = (change) => this.#change(change);
    this.head = controls(networks, change);
    this.map = drawing(networks, (side, beside) => this.#choose(side, beside), (boxes) => change({ boxes }));
    this.knowers = knowersCard(networks, (site, node) => {
      this.#setSide(0, { ...this.state.sides[0], site, node });
      // After the frame in which it is drawn; the list lies above, so the node may be out of sight.
      requestAnimationFrame(() => this.sides[0].showNode());
    });
    this.sides = [0, 1].map((index) =>
      sidePanel(index, networks, (side) => this.#setSide(index, side), (sort) => change({ sort })));
    this.beside = element("button", { type: "button", class: "beside", click: () => this.#putBeside() }, "Put a second site beside it");
    this.layers = layersCard(networks);
    this.announcer = announcer(networks);
    this.pair = element("div", { class: "pair" }, ...this.sides.map((side) => side.element));
    root.append(this.head.element, this.announcer.element, this.map.element, this.knowers.element, this.pair,
      this.beside, this.layers.element);
    addEventListener("hashchange", () => this.#followAddress());
    this.render();
  }

  render() {
    const { state } = this;
    this.#waiting = 0;
    this.head.render(state);
    this.map.render(state);
    for (const side of this.sides) side.render(state);
    this.knowers.element.hidden = !state.label;
    this.beside.hidden = state.sides.length > 1;
    this.pair.dataset.count = String(state.sides.length);
    this.root.dataset.settled = "false";
    this.#later.run(this.#renderLater(state));
  }

  /**
   * What takes longer than a frame.
   *
   * @param {State} state
   */
  *#renderLater(state) {
    yield* this.layers.render(state);
    yield* this.map.values(state);
    yield* this.knowers.render(state);
    for (const side of this.sides) yield* side.later(state);
    // Once the slider rests: browsers refuse to change the address too often, and readers to be told too often.
    if (this.#moved) history.replaceState(null, "", `#${address(state)}`);
    this.announcer.render(state);
    this.root.dataset.settled = "true";
  }

  /** @param {Partial<State>} change */
  #change(change) {
    this.state = { ...this.state, ...change };
    this.#moved = true;
    this.#waiting ||= requestAnimationFrame(() => this.render());
  }

  /** @param {number} index @param {Side | null} side null closes it */
  #setSide(index, side) {
    const { sides } = this.state;
    this.#change({ sides: side ? sides.map((own, i) => (i === index ? side : own)) : sides.slice(0, 1) });
  }

  /** @param {Side} side @param {boolean} beside the first, or in its place */
  #choose(side, beside) {
    const [first, ...others] = this.state.sides;
    this.#change({ sides: beside ? [first, side] : [side, ...others] });
  }

  #putBeside() {
    const [first] = this.state.sides;
    this.#change({ sides: [first, sideOf(this.networks.of(first), first.site)] });
  }

  #followAddress() {
    if (!location.hash.includes("=")) return; // an anchor of the page
    this.state = opened(location.hash.slice(1), this.networks);
    this.render();
  }
}

/**
 * @param {HTMLElement | null} root
 * @param {HTMLElement | null} data
 * @returns {() => void} draws everything anew
 */
function begin(root, data) {
  if (!root || !data) return () => {};
  const networks = new Networks(JSON.parse(data.textContent ?? ""));
  if (!networks.first) return () => {};
  const explorer = new Explorer(root, networks);
  return () => explorer.render();
}

const redraw = begin(document.getElementById("explorer"), document.getElementById("explorer-data"));
const theme = document.getElementById("theme");
if (theme instanceof HTMLButtonElement) followTheme(theme, redraw);
