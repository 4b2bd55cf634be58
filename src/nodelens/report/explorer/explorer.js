// Made from the modules beside this file by build.mjs; edit those.
"use strict";
(() => {
  // page/element.js
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    setAttributes(made, attributes);
    made.append(...children);
    return made;
  }
  function setAttributes(target, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") target.addEventListener(name, value);
      else if (value === null || value === false) target.removeAttribute(name);
      else target.setAttribute(name, value === true ? "" : String(value));
    }
  }
  function select(name, options, chosen) {
    const made = element("select", { "aria-label": name, change: () => chosen(made.value) });
    made.append(...options.map(([value, text]) => element("option", { value }, text)));
    return made;
  }
  function shown(value, digits = 4) {
    if (value === void 0) return "";
    if (value === null || !Number.isFinite(value)) return "\u221E";
    if (value === 0) return "0";
    return Math.abs(value) >= 10 ** (digits - 1) ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
  }
  function percent(share) {
    return `${(100 * share).toFixed(1)}%`;
  }
  function counted(number, what) {
    return `${number} ${what}${number === 1 ? "" : "s"}`;
  }

  // page/announcer.js
  function announcer(networks) {
    const made = element("p", { class: "unseen", role: "status", "aria-live": "polite" });
    let told = "";
    return {
      element: made,
      /** @param {State} state */
      render(state) {
        const text = summary(networks, state);
        if (told && told !== text) made.textContent = text;
        told = text;
      }
    };
  }
  function summary(networks, state) {
    const [side2] = state.sides, network = networks.of(side2), site = network.sites.get(side2.site);
    if (!site) return "";
    const own = site.statistics(state.threshold, state.rule), label = network.labels.indexOf(state.label);
    return [
      `${side2.site}, ${side2.split} split, probe seed ${side2.seed}, threshold ${state.threshold}:`,
      `SNR ${shown(own.snr, 3)}, ${shown(own.diagonal, 3)} labels per diagonal, noise ${shown(own.noise, 3)}.`,
      label < 0 ? "" : `${counted(site.appearances(state.threshold, state.rule)[label], "node")} know ${state.label}.`,
      ...state.sides.map((one) => one.node === null ? "" : `Node ${one.node} of ${one.site} is open.`)
    ].filter(Boolean).join(" ");
  }

  // measures/clusters.js
  var RULES = ["greedy", "maximum"];
  function clusterNode(factors, node, limit, rule, cluster) {
    cluster.fill(-1);
    if (limit === Infinity) return [];
    return rule === "greedy" ? firstFit(factors, node, limit, cluster) : largestFirst(factors, node, limit, cluster);
  }
  function firstFit({ labels, means, weight }, node, limit, cluster) {
    const sizes = numbers(), signs = numbers(), lowestMean = numbers(), lowestWeight = numbers();
    for (let label = 0, at = node * labels; label < labels; label++, at++) {
      if (!(means[at] * weight[at] > limit)) continue;
      const sign = means[at] > 0 ? 1 : -1;
      const mean = Math.abs(means[at]), partner = Math.abs(weight[at]);
      let k = 0;
      while (k < sizes.length) {
        const fits = Math.min(lowestMean[k], mean) * Math.min(lowestWeight[k], partner) > limit;
        if (signs[k] === sign && fits) break;
        k++;
      }
      if (k === sizes.length) {
        sizes.push(0);
        signs.push(sign);
        lowestMean.push(Infinity);
        lowestWeight.push(Infinity);
      }
      lowestMean[k] = Math.min(lowestMean[k], mean);
      lowestWeight[k] = Math.min(lowestWeight[k], partner);
      sizes[k]++;
      cluster[label] = k;
    }
    return sizes;
  }
  function largestFirst(factors, node, limit, cluster) {
    const found = [...peel(factors, node, limit, 1), ...peel(factors, node, limit, -1)];
    found.sort((a, b) => b.length - a.length);
    found.forEach((members, k) => members.forEach((label) => cluster[label] = k));
    return found.map((members) => members.length);
  }
  function peel({ labels, means, weight }, node, limit, sign) {
    const begin2 = node * labels;
    let left = numbers();
    for (let label = 0; label < labels; label++) {
      const at = begin2 + label;
      if (means[at] * weight[at] > limit && sign * means[at] > 0) left.push(label);
    }
    left.sort((a, b) => sign * (means[begin2 + b] - means[begin2 + a]));
    let leaves = left.map((label) => partners(left, means, begin2, weight[begin2 + label], limit));
    const taken = [];
    while (left.length) {
      const cut = bestCut(leaves);
      const inside = leaves.map((end, i) => i <= cut && end > cut);
      taken.push(left.filter((_, i) => inside[i]));
      const survivors = [0];
      for (const gone of inside) survivors.push(survivors[survivors.length - 1] + (gone ? 0 : 1));
      leaves = leaves.filter((_, i) => !inside[i]).map((end) => survivors[end]);
      left = left.filter((_, i) => !inside[i]);
    }
    return taken;
  }
  function partners(left, means, begin2, partner, limit) {
    let low = 0, high = left.length;
    while (low < high) {
      const middle = low + high >> 1;
      if (partner * means[begin2 + left[middle]] > limit) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  function bestCut(leaves) {
    const leaving = new Int32Array(leaves.length + 1);
    for (const end of leaves) leaving[end]++;
    let gone = 0, most = -1, best = 0;
    for (let cut = 0; cut < leaves.length; cut++) {
      gone += leaving[cut];
      if (cut + 1 - gone > most) {
        most = cut + 1 - gone;
        best = cut;
      }
    }
    return best;
  }
  function numbers() {
    return [];
  }

  // measures/cliques.js
  function cliques(members, joined) {
    const found = [];
    let left = members;
    while (left.length) {
      const largest = new Set(largestClique(left, joined));
      found.push(left.filter((one) => largest.has(one)));
      left = left.filter((one) => !largest.has(one));
    }
    return found;
  }
  function largestClique(members, joined) {
    let best = firstClique(members, joined);
    const extend = (clique, allowed) => {
      if (clique.length > best.length) best = clique;
      const colours2 = coloursFrom(allowed, joined);
      for (let i = 0; i < allowed.length; i++) {
        if (clique.length + colours2[i] <= best.length) return;
        const chosen = allowed[i];
        extend([...clique, chosen], allowed.slice(i + 1).filter((one) => joined(chosen, one)));
      }
    };
    extend([], members);
    return best;
  }
  function firstClique(members, joined) {
    const taken = [];
    for (const one of members) if (taken.every((other) => joined(other, one))) taken.push(one);
    return taken;
  }
  function coloursFrom(members, joined) {
    const coloured = [];
    const found = new Int32Array(members.length);
    for (let i = members.length - 1; i >= 0; i--) {
      const same = coloured.find((colour) => !colour.some((other) => joined(other, members[i])));
      if (same) same.push(members[i]);
      else coloured.push([members[i]]);
      found[i] = coloured.length;
    }
    return found;
  }

  // measures/filters.js
  function formed(labels, nodes, means, weight) {
    const fields = new Float64Array(nodes * labels * labels), positions = means.length / (nodes * labels);
    for (let node = 0, at = 0; node < nodes; node++) {
      const begin2 = node * labels, end = begin2 + labels;
      for (let input = begin2; input < end; input++) {
        for (let output = begin2; output < end; output++, at++) {
          let sum2 = 0;
          for (let p = 0; p < positions; p++) sum2 += means[input * positions + p] * weight[output * positions + p];
          fields[at] = sum2;
        }
      }
    }
    return fields;
  }
  function filters(labels, nodes, fields) {
    const size = labels ** 2;
    const own = (node) => fields.subarray(node * size, (node + 1) * size);
    const maxima = Float64Array.from({ length: nodes }, (_, node) => maximum(own(node)));
    return {
      labels,
      nodes,
      field: (node, input, output) => fields[node * size + input * labels + output],
      maximum: (node) => maxima[node],
      countAbove: (node, limit) => countAbove(own(node), limit),
      clusterNode: (node, limit, rule, cluster) => clusterFilter(own(node), limit, rule, cluster),
      addLabelField: (node, cluster, maximum3, total) => addLabelField(own(node), cluster, maximum3, total)
    };
  }
  function maximum(field) {
    let highest = -Infinity;
    for (let at = 0; at < field.length; at++) if (field[at] > highest) highest = field[at];
    return highest;
  }
  function countAbove(field, limit) {
    let count = 0;
    for (let at = 0; at < field.length; at++) if (field[at] > limit) count++;
    return count;
  }
  function clusterFilter(field, limit, rule, cluster) {
    cluster.fill(-1);
    if (limit === Infinity) return [];
    const labels = cluster.length;
    const joined = (a, b) => field[a * labels + b] > limit && field[b * labels + a] > limit;
    const held = Array.from(cluster.keys()).filter((label) => joined(label, label));
    const found = rule === "greedy" ? firstFit2(held, joined) : cliques(held, joined);
    found.forEach((members, k) => members.forEach((label) => cluster[label] = k));
    return found.map((members) => members.length);
  }
  function firstFit2(held, joined) {
    const found = [];
    let left = held;
    while (left.length) {
      const members = [];
      const others = [];
      for (const label of left) (members.every((own) => joined(own, label)) ? members : others).push(label);
      found.push(members);
      left = others;
    }
    return found;
  }
  function addLabelField(field, cluster, maximum3, total) {
    const labels = cluster.length;
    for (let output = 0; output < labels; output++) {
      if (cluster[output] < 0) continue;
      let sum2 = 0;
      for (let input = 0; input < labels; input++) {
        if (cluster[input] === cluster[output]) sum2 += field[input * labels + output];
      }
      total[output] += sum2 / maximum3;
    }
  }

  // measures/outer.js
  function outerProducts(factors) {
    const { labels, nodes, means, weight } = factors;
    return {
      labels,
      nodes,
      field: (node, input, output) => means[node * labels + input] * weight[node * labels + output],
      maximum: (node) => maximum2(factors, node),
      countAbove: (node, limit) => countAbove2(factors, node, limit),
      clusterNode: (node, limit, rule, cluster) => clusterNode(factors, node, limit, rule, cluster),
      addLabelField: (node, cluster, maximum3, total) => addLabelField2(factors, node, cluster, maximum3, total)
    };
  }
  function maximum2({ labels, means, weight }, node) {
    const begin2 = node * labels;
    let lowMean = Infinity, highMean = -Infinity, lowWeight = Infinity, highWeight = -Infinity;
    for (let at = begin2; at < begin2 + labels; at++) {
      if (means[at] < lowMean) lowMean = means[at];
      if (means[at] > highMean) highMean = means[at];
      if (weight[at] < lowWeight) lowWeight = weight[at];
      if (weight[at] > highWeight) highWeight = weight[at];
    }
    return Math.max(lowMean * lowWeight, lowMean * highWeight, highMean * lowWeight, highMean * highWeight);
  }
  function countAbove2(factors, node, limit) {
    return limit === Infinity ? 0 : countSign(factors, node, limit, 1) + countSign(factors, node, limit, -1);
  }
  var meansOfSign = new Float64Array(128);
  var weightsOfSign = new Float64Array(128);
  function countSign({ labels, means, weight }, node, limit, sign) {
    if (meansOfSign.length < labels) {
      meansOfSign = new Float64Array(labels);
      weightsOfSign = new Float64Array(labels);
    }
    const begin2 = node * labels;
    let highMean = 0, highWeight = 0;
    for (let at = begin2; at < begin2 + labels; at++) {
      highMean = Math.max(highMean, sign * means[at]);
      highWeight = Math.max(highWeight, sign * weight[at]);
    }
    let meanCount = 0, weightCount = 0;
    for (let at = begin2; at < begin2 + labels; at++) {
      const mean = sign * means[at], partner = sign * weight[at];
      if (mean > 0 && mean * highWeight > limit) meansOfSign[meanCount++] = mean;
      if (partner > 0 && partner * highMean > limit) weightsOfSign[weightCount++] = partner;
    }
    const ascending = meansOfSign.subarray(0, meanCount).sort();
    const partners2 = weightsOfSign.subarray(0, weightCount).sort();
    let count = 0, first = weightCount;
    for (const mean of ascending) {
      while (first > 0 && mean * partners2[first - 1] > limit) first--;
      count += weightCount - first;
    }
    return count;
  }
  function addLabelField2({ labels, means, weight }, node, cluster, maximum3, total) {
    const begin2 = node * labels, meanOfCluster = new Float64Array(labels);
    for (let label = 0; label < labels; label++) {
      if (cluster[label] >= 0) meanOfCluster[cluster[label]] += means[begin2 + label];
    }
    for (let label = 0; label < labels; label++) {
      if (cluster[label] >= 0) total[label] += weight[begin2 + label] * (meanOfCluster[cluster[label]] / maximum3);
    }
  }

  // measures/matrices.js
  function bound(maximum3, threshold) {
    return maximum3 > 0 ? threshold * maximum3 : Infinity;
  }

  // measures/statistics.js
  function siteClusters(matrices, threshold, rule) {
    const { labels, nodes } = matrices;
    const cluster = new Int32Array(nodes * labels);
    const clusters = new Int32Array(nodes), diagonal = new Int32Array(nodes);
    const noise = new Float64Array(nodes), maxima = new Float64Array(nodes);
    for (let node = 0; node < nodes; node++) {
      maxima[node] = matrices.maximum(node);
      const limit = bound(maxima[node], threshold);
      const own = cluster.subarray(node * labels, (node + 1) * labels);
      const sizes = matrices.clusterNode(node, limit, rule, own);
      let inside = 0;
      for (const size of sizes) {
        diagonal[node] += size;
        inside += size * size;
      }
      clusters[node] = sizes.length;
      noise[node] = matrices.countAbove(node, limit) - inside;
    }
    return { labels, nodes, cluster, clusters, diagonal, noise, maxima };
  }
  function appearances({ labels, cluster }) {
    const count = new Int32Array(labels);
    for (let at = 0; at < cluster.length; at++) if (cluster[at] >= 0) count[at % labels]++;
    return count;
  }
  function siteStatistics(found) {
    const clusters = sum(found.clusters), diagonal = sum(found.diagonal);
    const { nodes, labels } = found;
    const averages = {
      n_clusters: clusters / nodes,
      cluster_size: clusters ? diagonal / clusters : 0,
      diagonal: diagonal / nodes,
      noise: sum(found.noise) / nodes
    };
    return withRatios(averages, appearances(found).reduce((a, b) => Math.min(a, b)), nodes, labels);
  }
  function nodeStatistics(found, node) {
    const clusters = found.clusters[node], diagonal = found.diagonal[node];
    const averages = {
      n_clusters: clusters,
      cluster_size: clusters ? diagonal / clusters : 0,
      diagonal,
      noise: found.noise[node]
    };
    return withRatios(averages, diagonal === found.labels ? 1 : 0, 1, found.labels);
  }
  function labelField(matrices, { labels, nodes, cluster, maxima }) {
    const total = new Float64Array(labels);
    for (let node = 0; node < nodes; node++) {
      const own = cluster.subarray(node * labels, (node + 1) * labels);
      if (maxima[node] > 0) matrices.addLabelField(node, own, maxima[node], total);
    }
    return total;
  }
  function withRatios(averages, fewest, nodes, labels) {
    const { n_clusters, cluster_size, diagonal, noise } = averages;
    const signal = diagonal * nodes / labels;
    const noise_internal = internalNoise(cluster_size, signal, labels);
    const noise_external = noise * nodes / labels ** 2;
    const snr = ratio(signal, noise_internal + noise_external);
    const snr_min = ratio(fewest, internalNoise(cluster_size, fewest, labels) + noise_external);
    const snr_approximation = ratio(cluster_size * n_clusters * labels, noise);
    return { ...averages, signal, noise_internal, noise_external, snr, snr_min, snr_approximation };
  }
  function internalNoise(size, signal, labels) {
    return Math.max(size - 1, 0) * signal / Math.max(labels - 1, 1);
  }
  function ratio(signal, noise) {
    if (noise > 0) return signal / noise;
    return signal > 0 ? Infinity : 0;
  }
  function sum(numbers2) {
    let total = 0;
    for (const number of numbers2) total += number;
    return total;
  }

  // page/site.js
  var SWEEP = Array.from({ length: 18 }, (_, i) => Math.round(5 * (i + 1)) / 100);
  var FORMED = 3;
  var Site = class {
    /** @type {NodalMatrices | null} */
    #matrices = null;
    #asked = "";
    /** @type {SiteClusters | null} */
    #clusters = null;
    /** @type {SiteStatistics | null} */
    #statistics = null;
    /** @type {Int32Array | null} */
    #appearances = null;
    /** @type {Map<Rule, SiteStatistics[]>} */
    #sweeps = /* @__PURE__ */ new Map();
    /**
     * @param {SiteData} data
     * @param {number} labels
     * @param {Excitation | null} excitation
     */
    constructor(data, labels, excitation) {
      this.data = data;
      this.labels = labels;
      this.excitingImages = excitation;
    }
    get explored() {
      return this.data.factors !== null;
    }
    /** Whether the page has all its nodes. */
    get whole() {
      return this.explored && this.data.nodes === this.data.of;
    }
    /** Whether its nodes are filters. */
    get filters() {
      return (this.data.factors?.positions ?? 1) > 1;
    }
    /** @returns {NodalMatrices} */
    matrices() {
      if (this.filters) return keptFormed(this, () => filterMatrices(this));
      this.#matrices ??= unitMatrices(this);
      return this.#matrices;
    }
    /**
     * The images that excite a node most and least, as numbers of thumbnails; null where they are not in the page.
     *
     * @param {number} node
     */
    excitation(node) {
      const known = this.excitingImages;
      if (!known) return null;
      const [most, least] = [known.most, known.least].map((text) => [...new Uint16Array(bytesOf(text).buffer, 2 * node * known.each, known.each)]);
      return { most, least };
    }
    /**
     * @param {number} threshold
     * @param {Rule} rule
     * @returns {SiteClusters}
     */
    clusters(threshold, rule) {
      this.#ask(threshold, rule);
      this.#clusters ??= siteClusters(this.matrices(), threshold, rule);
      return this.#clusters;
    }
    /**
     * @param {number} threshold
     * @param {Rule} rule
     */
    statistics(threshold, rule) {
      const found = this.clusters(threshold, rule);
      this.#statistics ??= siteStatistics(found);
      return this.#statistics;
    }
    /**
     * @param {number} threshold
     * @param {Rule} rule
     */
    appearances(threshold, rule) {
      const found = this.clusters(threshold, rule);
      this.#appearances ??= appearances(found);
      return this.#appearances;
    }
    /**
     * The statistics at every threshold of `SWEEP`, computed once, a threshold per step.
     *
     * @param {Rule} rule
     * @returns {Generator<void, SiteStatistics[], void>}
     */
    *sweep(rule) {
      const known = this.#sweeps.get(rule);
      if (known) return known;
      const found = [];
      for (const threshold of SWEEP) {
        found.push(siteStatistics(siteClusters(this.matrices(), threshold, rule)));
        yield;
      }
      this.#sweeps.set(rule, found);
      return found;
    }
    /**
     * @param {number} threshold
     * @param {Rule} rule
     */
    #ask(threshold, rule) {
      if (this.#asked === `${threshold} ${rule}`) return;
      this.#asked = `${threshold} ${rule}`;
      this.#clusters = this.#statistics = this.#appearances = null;
    }
  };
  function unitMatrices({ data, labels }) {
    const held = data.factors;
    if (!held || !("means" in held)) throw new Error(`${data.name} has no factors`);
    return outerProducts({ labels, nodes: data.nodes, means: floats(held.means), weight: floats(held.weight) });
  }
  function filterMatrices({ data, labels }) {
    const held = data.factors;
    if (!held) throw new Error(`${data.name} has no factors`);
    const fields = "means" in held ? formed(labels, data.nodes, floats(held.means), floats(held.weight)) : new Float64Array(bytes(held.fields).buffer);
    return filters(labels, data.nodes, fields);
  }
  var kept = /* @__PURE__ */ new Map();
  function keptFormed(site, form) {
    const found = kept.get(site) ?? form();
    kept.delete(site);
    kept.set(site, found);
    for (const oldest of [...kept.keys()].slice(0, -FORMED)) kept.delete(oldest);
    return found;
  }
  var decoded = /* @__PURE__ */ new Map();
  function bytes(text) {
    const holder = document.getElementById(`factors-${text}`);
    const found = decoded.get(text) ?? bytesOf((holder?.textContent ?? "").trim());
    decoded.set(text, found);
    holder?.remove();
    return found;
  }
  function floats(text) {
    return new Float32Array(bytes(text).buffer);
  }
  function bytesOf(text) {
    const letters = atob(text), found = new Uint8Array(letters.length);
    for (let at = 0; at < letters.length; at++) found[at] = letters.charCodeAt(at);
    return found;
  }

  // page/network.js
  var Networks = class {
    /** @type {Network[]} */
    #views;
    #opens;
    /** @param {PageData} page */
    constructor(page) {
      this.#opens = page.opens;
      const first = page.networks[0]?.labels.join("\n");
      this.#views = page.networks.flatMap((data) => viewsOf(data, data.labels.join("\n") === first ? page.thumbnails : null));
    }
    /** @returns {string[]} */
    get names() {
      return [...new Set(this.#views.map((view) => view.name))];
    }
    /** @returns {string[]} the labels of all networks, each once */
    get labels() {
      return [...new Set(this.#views.flatMap((view) => view.labels))];
    }
    get hasHeads() {
      return this.#views.some((view) => [...view.sites.values()].some((site) => site.data.heads));
    }
    /** @returns {Network | undefined} what the page opens with */
    get first() {
      return this.#views[0];
    }
    /** @returns {Network[]} what the page opens with, and what it puts beside that */
    get opening() {
      const found = this.#opens.map((name) => this.views(name)[0]);
      return found.length ? found : this.#views.slice(0, 1);
    }
    /** @param {string} name @returns {Network[]} */
    views(name) {
      return this.#views.filter((view) => view.name === name);
    }
    /**
     * The network that is chosen, or the view of it that is most like the one that is.
     *
     * @param {Choice} choice
     * @returns {Network | undefined} none where the page has no network of that name
     */
    nearest({ network, split, seed }) {
      const views = this.views(network);
      return views.find((view) => view.split === split && view.seed === seed) ?? views.find((view) => view.split === split) ?? views.find((view) => view.seed === seed) ?? views[0];
    }
    /**
     * @param {Choice} choice one that the page has
     * @returns {Network}
     */
    of(choice) {
      const found = this.nearest(choice);
      if (!found) throw new Error(`no network ${choice.network}`);
      return found;
    }
  };
  function viewsOf({ name, labels, layers, views, pictures = void 0, excitation = {} }, thumbnails) {
    return views.map(({ split, seed, sites }) => {
      const made = sites.map((site) => new Site(site, labels.length, excitation[seed]?.[site.name] ?? null));
      const bySite = new Map(made.map((site) => [site.data.name, site]));
      return { name, split, seed, labels, layers, sites: bySite, pictures: pictures ?? null, thumbnails };
    });
  }
  function siteLike(network, name = "") {
    if (network.sites.get(name)?.explored) return name;
    return [...network.sites.values()].filter((site) => site.explored).pop()?.data.name ?? "";
  }

  // page/state.js
  var SORTS = (
    /** @type {const} */
    ["number", "diagonal", "noise", "snr", "label", "head"]
  );
  var BOXES = (
    /** @type {const} */
    ["snr", "diagonal", "noise", "accuracy"]
  );
  function initial(networks) {
    const [first, ...others] = networks.opening;
    const side2 = first ? sideOf(first) : { network: "", split: "", seed: 0, site: "", node: null };
    const sides = [side2, ...others.map((other) => sideOf(other, side2.site))];
    return { sides, threshold: 0.3, rule: "greedy", ratio: 2, label: "", sort: "number", boxes: "snr" };
  }
  function sideOf(network, site) {
    const { name, split, seed } = network;
    return { network: name, split, seed, site: siteLike(network, site), node: null };
  }
  function address(state) {
    const words = new URLSearchParams();
    state.sides.forEach((side2, i) => {
      words.set(`network${i + 1}`, side2.network);
      words.set(`split${i + 1}`, side2.split);
      words.set(`seed${i + 1}`, String(side2.seed));
      words.set(`site${i + 1}`, side2.site);
      if (side2.node !== null) words.set(`node${i + 1}`, String(side2.node));
    });
    words.set("threshold", String(state.threshold));
    words.set("clusters", state.rule);
    words.set("ratio", String(state.ratio));
    words.set("sort", state.sort);
    words.set("boxes", state.boxes);
    if (state.label) words.set("label", state.label);
    return words.toString();
  }
  function opened(fragment, networks) {
    const words = new URLSearchParams(fragment), start = initial(networks);
    const first = side(words, 1, networks, start.sides[0]) ?? start.sides[0], second = side(words, 2, networks, null);
    const label = words.get("label") ?? "";
    return {
      sides: !fragment.includes("=") ? start.sides : second ? [first, second] : [first],
      threshold: within(words.get("threshold"), 0.01, 0.99, start.threshold),
      rule: oneOf(words.get("clusters"), RULES, start.rule),
      ratio: within(words.get("ratio"), 1, 100, start.ratio),
      label: networks.labels.includes(label) ? label : "",
      sort: oneOf(words.get("sort"), SORTS, start.sort),
      boxes: oneOf(words.get("boxes"), BOXES, start.boxes)
    };
  }
  function side(words, number, networks, otherwise) {
    const seed = words.get(`seed${number}`);
    const network = networks.nearest({
      network: words.get(`network${number}`) ?? otherwise?.network ?? "",
      split: words.get(`split${number}`) ?? otherwise?.split ?? networks.first?.split ?? "",
      seed: seed === null ? otherwise?.seed ?? networks.first?.seed ?? 0 : Number(seed)
    });
    const site = network?.sites.get(words.get(`site${number}`) ?? otherwise?.site ?? "");
    if (!network || !site?.explored) return null;
    const node = words.get(`node${number}`) ?? "";
    const exists = /^\d+$/.test(node) && Number(node) < site.data.nodes;
    return { ...sideOf(network, site.data.name), node: exists ? Number(node) : null };
  }
  function within(text, low, high, otherwise) {
    const value = text === null || text.trim() === "" ? NaN : Number(text);
    return value >= low && value <= high ? value : otherwise;
  }
  function oneOf(text, known, otherwise) {
    return known.find((one) => one === text) ?? otherwise;
  }

  // page/controls.js
  function controls(networks, change) {
    const slider = element("input", {
      type: "range",
      min: 0.01,
      max: 0.99,
      step: 0.01,
      "aria-label": "Threshold",
      input: () => change({ threshold: Number(slider.value) })
    });
    const exact = numberField(
      { min: 0.01, max: 0.99, step: "any", "aria-label": "Threshold, as a number" },
      0.99,
      (threshold) => change({ threshold })
    );
    const rule = select("Cluster rule", RULES.map((name) => [name, name]), (value) => change({ rule: value === "maximum" ? "maximum" : "greedy" }));
    const ratio2 = numberField(
      { min: 1, max: 10, step: 0.1, "aria-label": "Ratio of the heads" },
      100,
      (ratio3) => change({ ratio: ratio3 })
    );
    const search = labelSearch(networks.labels, change);
    const made = element(
      "div",
      { class: "controls", role: "group", "aria-label": "Controls" },
      element("label", { class: "threshold" }, element("span", {}, "threshold"), slider, exact.element),
      element("label", {}, element("span", {}, "clusters"), rule),
      ...networks.hasHeads ? [element(
        "label",
        { title: "a head specialises in a label that it holds so many times as often as any other head" },
        element("span", {}, "head ratio"),
        ratio2.element
      )] : [],
      search.element
    );
    return {
      element: made,
      /** @param {State} state */
      render(state) {
        slider.value = String(state.threshold);
        exact.render(state.threshold);
        rule.value = state.rule;
        ratio2.render(state.ratio);
        search.render(state);
      }
    };
  }
  function numberField(attributes, most, set) {
    let shown2 = NaN;
    const field = element("input", {
      type: "number",
      ...attributes,
      change: () => {
        const wanted = within(field.value, attributes.min, most, shown2);
        field.value = String(wanted);
        set(wanted);
      }
    });
    return {
      element: field,
      /** @param {number} value */
      render(value) {
        shown2 = value;
        if (document.activeElement !== field) field.value = String(value);
      }
    };
  }
  function labelSearch(names, change) {
    let searched = "";
    const list = element("datalist", { id: "label-names" }, ...names.map((name) => element("option", { value: name })));
    const field = element("input", {
      type: "search",
      list: "label-names",
      placeholder: "a label \u2026",
      "aria-label": "Search a label",
      autocomplete: "off",
      input: () => {
        field.setCustomValidity("");
        if (names.includes(field.value) || !field.value) change({ label: field.value });
      },
      change: () => {
        const label = closest(field.value, names);
        if (!label && field.value.trim()) {
          field.setCustomValidity(`No label contains \u201C${field.value.trim()}\u201D.`);
          field.reportValidity();
          return;
        }
        if (label === searched) field.value = label;
        else change({ label });
      }
    });
    const clear = element("button", { type: "button", "aria-label": "Clear the search", click: () => change({ label: "" }) }, "\xD7");
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
      }
    };
  }
  function closest(typed, names) {
    const wanted = typed.trim().toLowerCase();
    if (!wanted) return "";
    const lower = names.map((name) => name.toLowerCase());
    const at = [
      lower.indexOf(wanted),
      lower.findIndex((name) => name.startsWith(wanted)),
      lower.findIndex((name) => name.includes(wanted))
    ].find((found) => found >= 0);
    return at === void 0 ? "" : names[at];
  }

  // measures/masks.js
  function dilution(source, target) {
    const words = Math.ceil(source.labels / 32);
    const inputs = labelBits(source, words), outputs = labelBits(target, words);
    let kept2 = 0;
    for (let out = 0; out < outputs.length; out += words) {
      for (let into = 0; into < inputs.length; into += words) {
        for (let word = 0; word < words; word++) {
          if (outputs[out + word] & inputs[into + word]) {
            kept2++;
            break;
          }
        }
      }
    }
    return 1 - kept2 / (source.nodes * target.nodes);
  }
  function outputDilution(source) {
    let kept2 = 0;
    for (const own of source.diagonal) kept2 += own;
    return 1 - kept2 / (source.nodes * source.labels);
  }
  function labelBits({ nodes, labels, cluster }, words) {
    const bits = new Int32Array(nodes * words);
    for (let node = 0; node < nodes; node++) {
      for (let label = 0; label < labels; label++) {
        if (cluster[node * labels + label] >= 0) bits[node * words + (label >> 5)] |= 1 << (label & 31);
      }
    }
    return bits;
  }

  // page/drawing.js
  var NAMES = { snr: "SNR", diagonal: "labels per diagonal", noise: "noise per node", accuracy: "accuracy of the probe" };
  var NO_SKIP = ".no_skip";
  var OWN_HEAD = "own_head";
  function drawing(networks, choose, showIn) {
    const body = element("div", { class: "network" });
    const boxes = select("Value in the boxes", BOXES.map((name) => [name, NAMES[name]]), (value) => showIn(BOXES.find((name) => name === value) ?? "snr"));
    const which = select("Network", networks.names.map((name) => [name, name]), (name) => {
      if (drawn) choose(sideOf(networks.of({ ...drawn.network, network: name })), false);
    });
    const caption = element("p", { class: "hint" });
    let drawn = null;
    return {
      element: element(
        "section",
        { class: "card drawing", "aria-label": "The network" },
        element(
          "div",
          { class: "card-head" },
          element("h2", {}, "The network"),
          ...networks.names.length > 1 ? [which] : [],
          element("label", {}, element("span", {}, "in the boxes"), boxes)
        ),
        body,
        caption
      ),
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
      }
    };
  }
  function explanation({ labels, layers }, state) {
    const beside = "Shift-click a site to put it beside the first.";
    if (labels.includes(state.label)) return `Number of nodes whose diagonal holds \u201C${state.label}\u201D. ${beside}`;
    const percentages = layers.length ? "Percentages: weights of the layer that ANDC would remove. " : "";
    return `Data flows from the bottom up, and in a block from left to right. ${percentages}${beside}`;
  }
  function* fillIn({ network, boxes, links }, state) {
    const block = network.sites.get(state.sides[0].site)?.data.block;
    const near = [...boxes].sort((a, b) => Number(b.site.data.block === block) - Number(a.site.data.block === block));
    const values = /* @__PURE__ */ new Map();
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
  function removed(network, layer, { threshold, rule }) {
    const source = network.sites.get(layer.source), target = network.sites.get(layer.target ?? "");
    if (!source?.whole || layer.target !== null && !target?.whole) return null;
    const from = source.clusters(threshold, rule);
    return percent(target ? dilution(from, target.clusters(threshold, rule)) : outputDilution(from));
  }
  function drawNetwork(network, choose) {
    const drawn = { network, rows: [], boxes: [], links: /* @__PURE__ */ new Map() };
    const rows = byRow(network), longest = Math.max(...rows.map(([name]) => name.length));
    drawn.rows = rows.map(([name, sites]) => drawRow(drawn, name, sites, choose));
    for (const row of drawn.rows) row.style.setProperty("--longest", `${longest}ch`);
    return drawn;
  }
  function drawRow({ network, boxes, links }, name, sites, choose) {
    const row = element(
      "div",
      { class: "block", role: "group", "aria-label": name },
      element("span", { class: "block-name" }, name)
    );
    const main = sites.filter((one) => !one.data.name.endsWith(NO_SKIP));
    main.forEach((site, i) => {
      if (i && site.data.block) row.append(arrow(network.layers.find((one) => joins(one, main[i - 1], site)), links));
      const bare = sites.find((one) => one.data.name === site.data.name + NO_SKIP);
      const own = [site, ...bare ? [bare] : []].map((one) => makeBox(network, one, choose));
      boxes.push(...own);
      row.append(element("span", { class: "place-of-site" }, ...own.map((box) => box.button)));
    });
    const output = network.layers.find((one) => one.target === null && one.source === main[main.length - 1]?.data.name);
    if (output) row.append(arrow(output, links), element("span", { class: "labels-box" }, counted(network.labels.length, "label")));
    return row;
  }
  function joins(layer, source, target) {
    return layer.source === source.data.name && layer.target === target.data.name;
  }
  function byRow(network) {
    const found = /* @__PURE__ */ new Map();
    for (const site of network.sites.values()) {
      const { block, name } = site.data;
      const row = name === OWN_HEAD ? "own head" : block ? `block ${block}` : name.split(".").slice(0, -1).join(".");
      found.set(row, [...found.get(row) ?? [], site]);
    }
    return [...found].reverse();
  }
  function arrow(layer, links) {
    const text = element("span", { class: "dilution" });
    if (layer) links.set(layer, text);
    return element("span", { class: layer ? "link layer" : "link", title: layer ? `${layer.name}: weights that ANDC would remove` : "" }, text);
  }
  function makeBox(network, site, choose) {
    const bare = site.data.name.endsWith(NO_SKIP);
    const parts2 = site.data.name.split(".");
    const place = parts2.slice(site.data.block ? 2 : -1).join(".") || site.data.name;
    const short = bare ? "no skip" : site.data.name === OWN_HEAD ? "nodes" : place;
    const value = element("span", { class: "value" });
    const button = element("button", {
      type: "button",
      class: bare ? "box bare" : "box",
      disabled: !site.explored,
      click: (event) => choose(sideOf(network, site.data.name), event.shiftKey)
    }, element("span", { class: "site-name" }, short), value);
    return { site, button, value };
  }
  function mark({ site, button, value }, { sides }, { name, split, seed }) {
    const at = sides.findIndex((side2) => side2.network === name && side2.split === split && side2.seed === seed && side2.site === site.data.name);
    button.dataset.side = at < 0 ? "" : String(at + 1);
    setAttributes(button, {
      "aria-pressed": String(at >= 0),
      "aria-label": `${site.data.name}, ${site.data.nodes} nodes, ${value.textContent || "not yet computed"}`,
      title: `${site.data.name}: ${site.data.nodes} nodes, ${site.data.name === OWN_HEAD ? "" : "probe "}accuracy ${shown(site.data.accuracy)}`
    });
  }
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
  function boxValue(site, { threshold, rule, boxes }, label) {
    if (!site.explored) return null;
    if (label >= 0) return site.appearances(threshold, rule)[label];
    return boxes === "accuracy" ? site.data.accuracy : site.statistics(threshold, rule)[boxes];
  }

  // measures/heads.js
  var NOBODY = -1;
  function headAppearances({ labels, nodes, cluster }, heads) {
    const count = new Int32Array(heads * labels), width = nodes / heads;
    for (let node = 0; node < nodes; node++) {
      const row = Math.floor(node / width) * labels;
      for (let label = 0; label < labels; label++) if (cluster[node * labels + label] >= 0) count[row + label]++;
    }
    return count;
  }
  function headOfLabel(count, heads, ratio2) {
    const labels = count.length / heads, owner = new Int32Array(labels);
    for (let label = 0; label < labels; label++) {
      let most = -1, others = 0, leading = NOBODY;
      for (let head = 0; head < heads; head++) {
        const own = count[head * labels + label];
        if (own > most) {
          others = Math.max(others, most);
          most = own;
          leading = head;
        } else {
          others = Math.max(others, own);
        }
      }
      owner[label] = most > others && most >= ratio2 * others * (1 - 1e-12) ? leading : NOBODY;
    }
    return owner;
  }
  function labelsPerHead(owner, heads) {
    const count = new Int32Array(heads);
    for (const head of owner) if (head !== NOBODY) count[head]++;
    return count;
  }

  // page/knowers.js
  var STRONGEST = 12;
  function knowersCard(networks, open) {
    const title = element("h2"), nodes = element("div", { class: "knowers" }), heads = element("ul", { class: "heads" });
    const made = element(
      "section",
      { class: "card", "aria-label": "Who knows the label" },
      element("div", { class: "card-head" }, title),
      element("p", { class: "hint" }, "The nodes with the strongest diagonal element, as a share of the largest in the node's matrix; of equally strong ones those that hold the fewest labels, the last site first:"),
      nodes,
      heads
    );
    return {
      element: made,
      /** @param {State} state */
      *render(state) {
        const network = networks.of(state.sides[0]);
        const label = network.labels.indexOf(state.label), sites = [...network.sites.values()].filter((site) => site.explored);
        made.hidden = label < 0;
        if (label < 0) return;
        let strongest = [];
        for (const site of [...sites].reverse()) {
          strongest = [...strongest, ...knowers(site, label, state)].sort((a, b) => b.share - a.share || a.held - b.held).slice(0, STRONGEST);
          yield;
        }
        title.textContent = `Who knows \u201C${state.label}\u201D`;
        nodes.replaceChildren(...strongest.map(({ site, node, share, held }) => element(
          "button",
          { type: "button", click: () => open(site, node) },
          `${site} node ${node} `,
          element("strong", {}, shown(share, 3)),
          ` \xB7 ${held === 1 ? "this label alone" : `${held} labels`}`
        )));
        heads.replaceChildren(...sites.filter((site) => site.data.heads).map((site) => headsLine(site, label, state)));
      }
    };
  }
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
  function headsLine(site, label, { threshold, rule, ratio: ratio2 }) {
    const heads = site.data.heads, count = headAppearances(site.clusters(threshold, rule), heads);
    const owner = headOfLabel(count, heads, ratio2)[label];
    const of = Array.from({ length: heads }, (_, head) => `${count[head * site.labels + label]} of head ${head + 1}`);
    return element(
      "li",
      {},
      `${site.data.name}: ${of.join(", ")}`,
      owner === NOBODY ? "" : element("strong", {}, ` \xB7 head ${owner + 1} specialises in it`)
    );
  }

  // page/later.js
  var SLICE = 12;
  var Later = class {
    #turn = 0;
    /**
     * @param {Iterable<unknown>} work each step is one small piece
     */
    run(work) {
      const turn = ++this.#turn, steps = work[Symbol.iterator]();
      const slice = () => {
        const begin2 = performance.now();
        while (turn === this.#turn && performance.now() - begin2 < SLICE) if (steps.next().done) return;
        if (turn === this.#turn) setTimeout(slice);
      };
      setTimeout(slice);
    }
  };

  // page/layers.js
  function layersCard(networks) {
    const body = element("tbody"), title = element("h2");
    const made = element(
      "section",
      { class: "card layers", "aria-label": "Pruning" },
      element("div", { class: "card-head" }, title),
      element("p", { class: "hint" }, "A weight is kept only where the diagonals of its two nodes share a label (ANDC), both sites at this threshold."),
      element("div", { class: "scroll" }, element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...["layer", "weights", "removed"].map((name, i) => element("th", { scope: "col", class: i ? "number" : "" }, name)))),
        body
      ))
    );
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
          rows.push(element(
            "tr",
            { "data-layer": layer.name },
            element("th", { scope: "row" }, layer.name, element("small", {}, `${layer.source} \u2192 ${layer.target ?? "labels"}`)),
            element("td", { class: "number" }, `${inputs} \xD7 ${outputs}`),
            element("td", { class: "number" }, share ?? "not measured")
          ));
          yield;
        }
        body.replaceChildren(...rows);
      }
    };
  }

  // page/colours.js
  var SERIES = ["--blue", "--vermilion", "--green", "--purple", "--sky", "--orange"];
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    return {
      ink: read("--ink"),
      faint: read("--faint"),
      line: read("--line"),
      surface: read("--surface"),
      noise: read("--noise"),
      series: SERIES.map(read),
      field: [parts(read("--negative")), parts(read("--field-zero")), parts(read("--positive"))]
    };
  }
  function parts(colour) {
    const number = parseInt(colour.slice(1), 16);
    return [number >> 16, number >> 8 & 255, number & 255];
  }
  function sharp(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = (
      /** @type {CanvasRenderingContext2D} */
      canvas.getContext("2d")
    );
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return pen;
  }

  // page/charts.js
  var HEIGHT = 120;
  var LEFT = 34;
  var BOTTOM = 4;
  var NAMED = 16;
  function barChart(title) {
    const canvas = element("canvas", { role: "img" });
    const status = element("figcaption", {}, title);
    const made = element("figure", { class: "chart" }, status, canvas);
    let names = [];
    let series = [];
    let mark2 = -1;
    canvas.addEventListener("pointermove", (event) => {
      const at = Math.floor((event.offsetX - LEFT) / (canvas.clientWidth - LEFT) * names.length);
      if (at >= 0 && at < names.length) status.textContent = `${title} \xB7 ${names[at]}: ${series.map((one) => shown(one[at])).join(", ")}`;
    });
    canvas.addEventListener("pointerleave", () => status.textContent = title);
    const redraw2 = () => drawBars(canvas, made.clientWidth, series, mark2, names);
    new ResizeObserver(redraw2).observe(made);
    return {
      element: made,
      /**
       * @param {string[]} labels
       * @param {ArrayLike<number>[]} values one series, or one per head
       * @param {number} marked the label to point out, -1 for none
       * @param {string} summary for those who do not see it
       */
      render(labels, values, marked, summary3) {
        names = labels;
        series = values;
        mark2 = marked;
        canvas.setAttribute("aria-label", `${title}. ${summary3}`);
        redraw2();
      }
    };
  }
  function drawBars(canvas, width, series, mark2, names) {
    if (!width || !series.length) return;
    const pen = sharp(canvas, width, HEIGHT), paint = colours(), labels = series[0].length;
    const totals = Array.from({ length: labels }, (_, label) => series.reduce((sum2, one) => sum2 + one[label], 0));
    const step = (width - LEFT) / labels;
    pen.font = "11px system-ui, sans-serif";
    const named = names.every((name) => pen.measureText(name).width < step - 2), floor = HEIGHT - (named ? NAMED : BOTTOM);
    const highest = Math.max(...totals, 1e-9), high = floor - 10;
    totals.forEach((_, label) => {
      let top = floor;
      series.forEach((one, k) => {
        const height = one[label] / highest * high;
        pen.fillStyle = series.length > 1 || label !== mark2 ? paint.series[k % paint.series.length] : paint.series[1];
        pen.fillRect(LEFT + label * step, top -= height, Math.max(1, step - (step > 3 ? 1 : 0)), height);
      });
      if (label === mark2) {
        pen.fillStyle = paint.ink;
        pen.fillText("\u25BC", LEFT + (label + 0.5) * step - 4, Math.max(9, top - 2));
      }
    });
    const mean = totals.reduce((a, b) => a + b, 0) / labels, level = floor - mean / highest * high;
    pen.strokeStyle = paint.ink;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(LEFT, level);
    pen.lineTo(width, level);
    pen.stroke();
    pen.fillStyle = paint.ink;
    pen.textAlign = "center";
    if (named) names.forEach((name, label) => pen.fillText(name, LEFT + (label + 0.5) * step, HEIGHT - 4));
    pen.textAlign = "right";
    pen.fillText(shown(highest, 3), LEFT - 4, 16);
    pen.fillText(shown(mean, 3), LEFT - 4, Math.max(30, level + 4));
  }

  // page/curves.js
  var HEIGHT2 = 130;
  var LEFT2 = 34;
  var BOTTOM2 = 20;
  var TOP = 8;
  function curveChart(title) {
    const canvas = element("canvas", { role: "img" });
    const made = element("figure", { class: "chart curve" }, element("figcaption", {}, title), canvas);
    let curves = [];
    let threshold = 0.3;
    const redraw2 = () => draw(canvas, made.clientWidth, curves, threshold);
    new ResizeObserver(redraw2).observe(made);
    return {
      element: made,
      /**
       * @param {Curve[]} next
       * @param {number} at the threshold to mark
       */
      render(next, at) {
        curves = next.map((curve) => ({ ...curve, points: curve.points.filter(([, value]) => Number.isFinite(value)) }));
        threshold = at;
        canvas.setAttribute("aria-label", `${title}. ${summary2(curves[0])}`);
        redraw2();
      }
    };
  }
  function summary2(curve) {
    if (!curve?.points.length) return "No finite value.";
    const [at, most] = curve.points.reduce((best, point) => point[1] > best[1] ? point : best);
    return `Largest at threshold ${at}: ${shown(most)}.`;
  }
  function draw(canvas, width, curves, threshold) {
    if (!width) return;
    const pen = sharp(canvas, width, HEIGHT2), paint = colours();
    const highest = Math.max(1e-9, ...curves.flatMap((curve) => curve.points.map(([, value]) => value)));
    const x = (at) => LEFT2 + at * (width - LEFT2 - 4);
    const y = (value) => HEIGHT2 - BOTTOM2 - value / highest * (HEIGHT2 - BOTTOM2 - TOP);
    axes(pen, paint, x, y, highest);
    pen.strokeStyle = paint.ink;
    pen.setLineDash([2, 3]);
    stroke(pen, [[x(threshold), TOP], [x(threshold), HEIGHT2 - BOTTOM2]]);
    for (const curve of [...curves].reverse()) {
      pen.strokeStyle = curve.series < 0 ? paint.faint : paint.series[curve.series];
      pen.lineWidth = 1.8;
      pen.setLineDash(curve.dashes);
      stroke(pen, curve.points.map(([at, value]) => [x(at), y(value)]));
    }
  }
  function axes(pen, paint, x, y, highest) {
    pen.strokeStyle = paint.line;
    stroke(pen, [[x(0), TOP], [x(0), y(0)], [x(1), y(0)]]);
    pen.fillStyle = paint.ink;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    for (const at of [0.2, 0.4, 0.6, 0.8]) pen.fillText(String(at), x(at), HEIGHT2 - 6);
    pen.textAlign = "right";
    pen.fillText("threshold", x(1), HEIGHT2 - 6);
    pen.fillText(shown(highest, 3), LEFT2 - 4, TOP + 8);
    pen.fillText("0", LEFT2 - 4, y(0));
  }
  function stroke(pen, points) {
    pen.beginPath();
    points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.stroke();
  }

  // page/glyphs.js
  var GAP = 8;
  var NOISE_HEIGHT = 4;
  var HEAD_WIDTH = 3;
  function shapeFor(labels) {
    const columns = Math.ceil(Math.sqrt(labels));
    const mark2 = columns <= 20 ? Math.min(10, Math.floor(40 / columns)) : columns <= 40 ? 2 : 1;
    const side2 = columns * mark2;
    return { columns, mark: mark2, side: side2, width: side2 + HEAD_WIDTH + GAP, height: side2 + NOISE_HEIGHT + GAP };
  }
  function glyphs(open) {
    const canvas = element("canvas", { "aria-hidden": "true" });
    const cells = element("div", { class: "cells", role: "group" });
    const status = element("p", { class: "status" });
    const made = element("div", { class: "glyphs" }, element("div", { class: "glyph-field" }, canvas, cells), status);
    let buttons = [];
    let order = [];
    let describe = () => "";
    let redraw2 = () => {
    };
    const idle = "Point at a node, or walk with the arrow keys; Enter opens it.";
    status.textContent = idle;
    listen(cells, () => buttons, (at) => status.textContent = at < 0 ? idle : describe(order[at]), (at) => open(order[at]));
    new ResizeObserver(() => redraw2()).observe(cells);
    return {
      element: made,
      /**
       * @param {Site} site
       * @param {State} state
       * @param {string[]} names
       * @param {number | null} chosen
       */
      render(site, state, names, chosen) {
        const found = site.clusters(state.threshold, state.rule), label = names.indexOf(state.label);
        const shape = shapeFor(site.labels);
        order = sorted(site, found, state, label);
        describe = (node) => description(found, node, names, site.data.heads);
        cells.style.setProperty("--width", `${shape.width}px`);
        cells.style.setProperty("--height", `${shape.height}px`);
        cells.setAttribute("aria-label", `${found.nodes} nodes of ${site.data.name}`);
        while (buttons.length < found.nodes) buttons.push(element("button", { type: "button", tabindex: -1 }));
        buttons.length = found.nodes;
        if (cells.childElementCount !== found.nodes) cells.replaceChildren(...buttons);
        if (!buttons.some((button) => button.tabIndex === 0)) buttons[0].tabIndex = 0;
        buttons.forEach((button, i) => {
          button.setAttribute("aria-label", describe(order[i]));
          button.setAttribute("aria-pressed", String(order[i] === chosen));
          button.dataset.node = String(order[i]);
        });
        redraw2 = () => draw2(canvas, cells, found, order, { shape, label, chosen, heads: site.data.heads });
        redraw2();
      }
    };
  }
  function listen(cells, all, tell, press) {
    const positionOf = (event) => all().indexOf(
      /** @type {HTMLButtonElement} */
      event.target
    );
    cells.addEventListener("pointerover", (event) => tell(positionOf(event)));
    cells.addEventListener("pointerleave", () => tell(-1));
    cells.addEventListener("focusin", (event) => {
      const at = positionOf(event);
      tell(at);
      all().forEach((button, i) => button.tabIndex = i === at ? 0 : -1);
    });
    cells.addEventListener("click", (event) => {
      if (positionOf(event) >= 0) press(positionOf(event));
    });
    cells.addEventListener("keydown", (event) => {
      const buttons = all(), at = positionOf(event), perRow = rowLength(buttons), last = buttons.length - 1;
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - perRow, ArrowDown: at + perRow, Home: 0, End: last }[event.key];
      if (at < 0 || to === void 0) return;
      event.preventDefault();
      buttons[Math.max(0, Math.min(last, to))].focus();
    });
  }
  function rowLength(buttons) {
    const top = buttons[0]?.offsetTop;
    const next = buttons.findIndex((button) => button.offsetTop !== top);
    return next < 0 ? buttons.length : next;
  }
  function sorted(site, found, { sort }, label) {
    const nodes = Array.from({ length: found.nodes }, (_, node) => node);
    const perHead = site.data.heads ? found.nodes / site.data.heads : found.nodes;
    const keys = {
      number: () => 0,
      diagonal: (node) => -found.diagonal[node],
      noise: (node) => -found.noise[node],
      snr: (node) => -nodeStatistics(found, node).snr,
      label: (node) => labelKey(site, found, node, label),
      head: (node) => Math.floor(node / perHead) * (found.labels + 1) - found.diagonal[node]
    };
    const values = nodes.map(keys[sort]);
    return nodes.sort((a, b) => values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : a - b);
  }
  function labelKey(site, found, node, label) {
    const { labels } = found, begin2 = node * labels, matrices = site.matrices();
    const share = (one) => found.cluster[begin2 + one] < 0 ? 0 : matrices.field(node, one, one) / found.maxima[node];
    if (label >= 0) return -share(label);
    let strongest = labels;
    for (let one = 0; one < labels; one++) {
      if (share(one) > (strongest === labels ? 0 : share(strongest))) strongest = one;
    }
    return strongest;
  }
  function description(found, node, names, heads) {
    const held = names.filter((_, label) => found.cluster[node * found.labels + label] >= 0);
    const knows = held.length ? `knows ${held.slice(0, 12).join(", ")}${held.length > 12 ? ` and ${held.length - 12} more` : ""}` : "knows no label";
    const head = heads ? `, head ${Math.floor(node * heads / found.nodes) + 1}` : "";
    return `node ${node}${head}: ${knows}; ${counted(found.clusters[node], "cluster")}, noise ${found.noise[node]}, SNR ${shown(nodeStatistics(found, node).snr)}`;
  }
  function draw2(canvas, cells, found, order, how) {
    const { shape } = how, width = cells.clientWidth, perRow = Math.max(1, Math.floor(width / shape.width));
    if (!width) return;
    const pen = sharp(canvas, width, Math.ceil(found.nodes / perRow) * shape.height);
    const paint = colours();
    const noisiest = found.noise.reduce((a, b) => Math.max(a, b), 1);
    order.forEach((node, i) => {
      pen.save();
      pen.translate(i % perRow * shape.width + 1, Math.floor(i / perRow) * shape.height + 2);
      const knows = how.label < 0 || found.cluster[node * found.labels + how.label] >= 0;
      pen.globalAlpha = knows ? 1 : 0.22;
      glyph(pen, paint, found, node, how);
      pen.fillStyle = paint.noise;
      pen.fillRect(HEAD_WIDTH, shape.side + 2, shape.side * found.noise[node] / noisiest, NOISE_HEIGHT - 1);
      pen.restore();
    });
  }
  function glyph(pen, paint, found, node, { shape, label, chosen, heads }) {
    const { mark: mark2, columns, side: side2 } = shape, begin2 = node * found.labels;
    pen.fillStyle = paint.surface;
    pen.fillRect(HEAD_WIDTH, 0, side2, side2);
    pen.strokeStyle = node === chosen ? paint.ink : paint.line;
    pen.lineWidth = node === chosen ? 2 : 1;
    pen.strokeRect(HEAD_WIDTH - 0.5, -0.5 + (node === chosen ? 1 : 0.5), side2 + 1, side2 + 0.5);
    if (heads) {
      pen.fillStyle = paint.series[Math.floor(node * heads / found.nodes) % paint.series.length];
      pen.fillRect(0, 0, HEAD_WIDTH - 1, side2);
    }
    const rank = ranks(found.cluster.subarray(begin2, begin2 + found.labels), found.clusters[node]);
    const inset = mark2 > 3 ? 1 : 0;
    for (let at = 0; at < found.labels; at++) {
      const cluster = found.cluster[begin2 + at];
      if (cluster < 0) continue;
      pen.fillStyle = clusterColour(paint, rank[cluster]);
      pen.fillRect(HEAD_WIDTH + at % columns * mark2, Math.floor(at / columns) * mark2, mark2 - inset, mark2 - inset);
    }
    if (label >= 0 && found.cluster[begin2 + label] >= 0) {
      pen.strokeStyle = paint.ink;
      pen.lineWidth = 1.5;
      pen.strokeRect(HEAD_WIDTH + label % columns * mark2 - 1.5, Math.floor(label / columns) * mark2 - 1.5, mark2 + 2, mark2 + 2);
    }
  }
  function ranks(cluster, clusters) {
    const size = new Array(clusters).fill(0);
    for (const own of cluster) if (own >= 0) size[own]++;
    const order = size.map((_, k) => k).sort((a, b) => size[b] - size[a] || a - b);
    const rank = new Array(clusters).fill(0);
    order.forEach((k, place) => rank[k] = place);
    return rank;
  }
  function clusterColour(paint, rank) {
    return paint.series[rank] ?? paint.faint;
  }

  // page/matrix.js
  var FONT = "11px system-ui, sans-serif";
  var LEAST_NAMED = 11;
  var WIDEST = 96;
  function matrixView(title) {
    const canvas = element("canvas", { role: "img", tabindex: 0 });
    const status = element("p", { class: "status", "aria-live": "polite" });
    const made = element("figure", { class: "matrix" }, element("figcaption", {}, title), canvas, status);
    let picture = null;
    let cursor = null;
    let frame = { left: 0, cell: 1 };
    const redraw2 = () => {
      if (picture && made.clientWidth) frame = draw3(canvas, made.clientWidth, picture, cursor);
    };
    const point = (to) => {
      if (!picture) return;
      const last = picture.order.length - 1;
      cursor = to && to.every((at) => at >= 0 && at <= last) ? to : null;
      status.textContent = cursor ? picture.describe(picture.order[cursor[0]], picture.order[cursor[1]]) : "";
      redraw2();
    };
    for (
      const kind of
      /** @type {const} */
      ["pointermove", "pointerdown"]
    ) {
      canvas.addEventListener(kind, (event) => point([Math.floor(event.offsetY / frame.cell), Math.floor((event.offsetX - frame.left) / frame.cell)]));
    }
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("keydown", (event) => {
      const [row, column] = cursor ?? [0, 0];
      const moves = { ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1] };
      const to = moves[event.key];
      if (!to || !picture) return;
      event.preventDefault();
      const last = picture.order.length - 1;
      point([Math.max(0, Math.min(last, to[0])), Math.max(0, Math.min(last, to[1]))]);
    });
    new ResizeObserver(redraw2).observe(made);
    return {
      element: made,
      /** @param {Picture} next */
      render(next) {
        picture = next;
        if (cursor && Math.max(...cursor) >= next.order.length) cursor = null;
        canvas.setAttribute("aria-label", `${title}. ${next.summary}`);
        redraw2();
      }
    };
  }
  function draw3(canvas, width, picture, cursor) {
    const { order, names } = picture, paint = colours(), size = order.length;
    const pen = sharp(canvas, 1, 1);
    pen.font = FONT;
    const room = Math.min(WIDEST, Math.max(...order.map((label) => pen.measureText(names[label]).width)) + 6);
    const named = (width - room) / size >= LEAST_NAMED;
    const left = named ? room : 0, cell = (width - left) / size;
    const ready = sharp(canvas, width, width - left + (named ? room : 0));
    ready.imageSmoothingEnabled = false;
    ready.drawImage(pixels(picture, paint), left, 0, width - left, width - left);
    ready.strokeStyle = paint.line;
    ready.strokeRect(left + 0.5, 0.5, width - left - 1, width - left - 1);
    if (named) nameAxes(ready, picture, left, cell, paint);
    if (cursor) {
      ready.strokeStyle = paint.ink;
      ready.lineWidth = 1.5;
      ready.strokeRect(left + cursor[1] * cell, cursor[0] * cell, Math.max(cell, 3), Math.max(cell, 3));
    }
    return { left, cell };
  }
  function pixels({ order, colour }, paint) {
    const small = document.createElement("canvas");
    small.width = small.height = order.length;
    const pen = (
      /** @type {CanvasRenderingContext2D} */
      small.getContext("2d")
    );
    const image = pen.createImageData(order.length, order.length);
    let at = 0;
    for (const input of order) {
      for (const output of order) {
        const [red, green, blue] = colour(input, output, paint);
        image.data.set([red, green, blue, 255], at);
        at += 4;
      }
    }
    pen.putImageData(image, 0, 0);
    return small;
  }
  function nameAxes(pen, { order, names }, left, cell, paint) {
    pen.font = FONT;
    pen.fillStyle = paint.ink;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const bottom = cell * order.length;
    order.forEach((label, i) => {
      const name = fitting(pen, names[label], left - 6);
      pen.fillText(name, left - 4, (i + 0.5) * cell);
      pen.save();
      pen.translate(left + (i + 0.5) * cell, bottom + 4);
      pen.rotate(-Math.PI / 2);
      pen.fillText(name, 0, 0);
      pen.restore();
    });
  }
  function fitting(pen, name, room) {
    if (pen.measureText(name).width <= room) return name;
    let short = name;
    while (short && pen.measureText(`${short}\u2026`).width > room) short = short.slice(0, -1);
    return `${short}\u2026`;
  }

  // page/thumbnails.js
  var SHOWN = 32;
  function thumbnail({ picture, columns, rows }, number) {
    const made = element("span", { class: "thumbnail", "aria-hidden": "true" });
    made.style.backgroundImage = `url("${picture}")`;
    made.style.backgroundSize = `${columns * SHOWN}px ${rows * SHOWN}px`;
    made.style.backgroundPosition = `${-(number % columns) * SHOWN}px ${-Math.floor(number / columns) * SHOWN}px`;
    return made;
  }

  // page/node.js
  var PERMUTED = 28;
  function nodeView(open) {
    const heading = element("h3");
    const text = element("p", { class: "node-text" });
    const views = ["average field", "above threshold", "clusters"].map(matrixView);
    const clusters = element("ul", { class: "clusters" });
    const images = element("div", { class: "images" });
    let node = 0, last = 0;
    const made = element(
      "section",
      { class: "node", "aria-label": "Node" },
      element(
        "div",
        { class: "card-head" },
        heading,
        element("button", { type: "button", "aria-label": "Previous node", click: () => open(node ? node - 1 : last) }, "\u2039"),
        element("button", { type: "button", "aria-label": "Next node", click: () => open(node < last ? node + 1 : 0) }, "\u203A"),
        element("button", { type: "button", "aria-label": "Close the node", click: () => open(null) }, "\xD7")
      ),
      text,
      element("div", { class: "matrices" }, ...views.map((view) => view.element)),
      element(
        "p",
        { class: "legend" },
        "average field, from minus to plus its largest element ",
        element("span", { class: "swatch field" }),
        element("span", { class: "swatch noise" }),
        "noise outside the clusters; rows: label of the input, columns: output"
      ),
      element("div", { class: "pictured" }, clusters, images)
    );
    return {
      element: made,
      /**
       * @param {State} state
       * @param {Side} side
       * @param {Network} network
       */
      render(state, side2, network) {
        made.hidden = side2.node === null;
        const site = network.sites.get(side2.site);
        if (side2.node === null || !site) return;
        node = side2.node;
        last = site.data.nodes - 1;
        const found = site.clusters(state.threshold, state.rule);
        heading.textContent = `Node ${node} of ${side2.site}`;
        const own = nodeStatistics(found, node);
        text.textContent = `${description(found, node, network.labels, site.data.heads)}; mean cluster size ${shown(own.cluster_size)}; largest field ${shown(found.maxima[node])}.`;
        const matrix = matrixOf(site.matrices(), found, node, state.threshold);
        pictured(matrix, network.labels).forEach((picture, i) => views[i].render(picture));
        clusters.replaceChildren(...listed(matrix, network));
        images.replaceChildren(...exciting(site, node, network));
      }
    };
  }
  function matrixOf({ labels, field }, found, node, threshold) {
    const begin2 = node * labels, highest = found.maxima[node], limit = bound(highest, threshold);
    const cluster = found.cluster.subarray(begin2, begin2 + labels);
    return {
      labels,
      share: (input, output) => field(node, input, output) / (highest > 0 ? highest : 1),
      above: (input, output) => field(node, input, output) > limit,
      cluster,
      rank: ranks(cluster, found.clusters[node])
    };
  }
  function pictured(matrix, names) {
    const all = names.map((_, label) => label), order = permuted(matrix);
    const inside = (i, j) => matrix.cluster[i] >= 0 && matrix.cluster[i] === matrix.cluster[j];
    const describe = (i, j) => `input ${names[i]} \u2192 output ${names[j]}: ${shown(matrix.share(i, j))} of the maximum, ` + (matrix.above(i, j) ? inside(i, j) ? "in a cluster" : "noise" : "below the threshold");
    const base = { names, describe };
    const found = [
      { ...base, order: all, summary: "Every input label against every output.", colour: (i, j, paint) => diverging(matrix.share(i, j), paint) },
      { ...base, order: all, summary: "Elements above the threshold.", colour: (i, j, paint) => parts(matrix.above(i, j) ? paint.series[0] : paint.surface) },
      {
        ...base,
        order,
        summary: `Clusters: ${memberships(matrix, names).map((group) => group.join(", ")).join("; ") || "none"}.`,
        colour: (i, j, paint) => parts(!matrix.above(i, j) ? paint.surface : inside(i, j) ? clusterColour(paint, matrix.rank[matrix.cluster[i]]) : paint.noise)
      }
    ];
    return found;
  }
  function permuted({ labels, cluster, rank, above }) {
    const all = Array.from({ length: labels }, (_, label) => label);
    const held = all.filter((label) => cluster[label] >= 0).sort((a, b) => rank[cluster[a]] - rank[cluster[b]] || a - b);
    const shownLabels = Math.max(PERMUTED, held.length);
    const noise = all.map((label) => {
      let count = 0;
      if (cluster[label] < 0) for (let other = 0; other < labels; other++) count += Number(above(label, other)) + Number(above(other, label));
      return count;
    });
    const others = all.filter((label) => cluster[label] < 0).sort((a, b) => noise[b] - noise[a] || a - b);
    return [...held, ...others].slice(0, shownLabels);
  }
  function memberships({ cluster, rank }, names) {
    const groups = rank.map(() => []);
    cluster.forEach((own, label) => own >= 0 && groups[rank[own]].push(names[label]));
    return groups;
  }
  function listed(matrix, { labels: names, thumbnails }) {
    const paint = colours();
    return memberships(matrix, names).map((group, rank) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.background = clusterColour(paint, rank);
      const labels = group.map((name) => element(
        "span",
        { class: "label" },
        ...thumbnails ? [thumbnail(thumbnails, names.indexOf(name))] : [],
        name
      ));
      return element("li", {}, swatch, ...labels);
    });
  }
  function exciting(site, node, { pictures, labels }) {
    const found = site.excitation(node);
    if (!found || !pictures) return [];
    const row = (title, images) => element(
      "div",
      { class: "excites" },
      element("span", { class: "hint" }, title),
      ...images.map((image) => element(
        "figure",
        { class: "texts" in pictures ? "text" : "image" },
        "texts" in pictures ? element("q", {}, pictures.texts[image] ?? "") : thumbnail(pictures, image),
        element("figcaption", {}, labels[pictures.labels[image]] ?? "")
      ))
    );
    return [row("excites it most", found.most), row("least", found.least), element(
      "p",
      { class: "hint" },
      "A node can also know a label by being silenced: where activation and weight are both negative."
    )];
  }
  function diverging(value, paint) {
    const share = Math.min(1, Math.abs(value)), end = paint.field[value < 0 ? 0 : 2], zero = paint.field[1];
    const mixed = zero.map((part, i) => Math.round(part + share * (end[i] - part)));
    return [mixed[0], mixed[1], mixed[2]];
  }

  // page/side.js
  var ROWS = [
    ["n_clusters", "N_c", "clusters per node"],
    ["cluster_size", "C_s", "labels per cluster"],
    ["diagonal", "diag", "labels per diagonal"],
    ["noise", "n", "noise elements per node"],
    ["signal", "signal", "nodes per label that hold it"],
    ["noise_internal", "noise_I", "within the clusters"],
    ["noise_external", "noise_E", "outside the clusters"],
    ["snr", "SNR", "signal over noise"],
    ["snr_min", "SNR_min", "of the label that appears least"]
  ];
  var SORT_NAMES = { number: "number", diagonal: "labels in the diagonal", noise: "noise", snr: "SNR", label: "label", head: "head" };
  function sidePanel(index, networks, set, sortBy) {
    let current = { network: "", split: "", seed: 0, site: "", node: null };
    const head = sideHead(index, networks, set), facts = element("p", { class: "hint" });
    const nodes = nodesCard((node2) => set({ ...current, node: node2 }), sortBy), numbers2 = numbersCard();
    const node = nodeView((to) => set({ ...current, node: to }));
    const showNode = () => node.element.scrollIntoView({ block: "nearest" });
    const made = element(
      "section",
      { class: "card side", "aria-label": index ? "Second site" : "First site" },
      head.element,
      facts,
      element("div", { class: "side-body" }, nodes.element, numbers2.element),
      node.element
    );
    return {
      element: made,
      /** @param {State} state */
      render(state) {
        const side2 = state.sides[index];
        made.hidden = !side2;
        if (!side2) return;
        const opened2 = side2.node !== null && (current.node === null || current.site !== side2.site);
        const network = networks.of(side2), site = (
          /** @type {Site} */
          network.sites.get(side2.site)
        );
        current = side2;
        head.render(side2, network);
        facts.textContent = factsOf(site, network, state);
        nodes.render(site, network, state, side2);
        numbers2.render(site, network, state);
        node.render(state, side2, network);
        if (opened2) showNode();
      },
      showNode,
      /**
       * What takes longer than a frame: the statistics at all thresholds.
       *
       * @param {State} state
       */
      *later(state) {
        const side2 = state.sides[index], site = side2 && networks.of(side2).sites.get(side2.site);
        if (site) yield* numbers2.later(site, state);
      }
    };
  }
  function sideHead(index, networks, set) {
    let current = { network: "", split: "", seed: 0, site: "", node: null };
    let offered = null;
    const look = (choice) => set(sideOf(networks.of({ ...current, ...choice }), current.site));
    const network = select("Network", networks.names.map((name) => [name, name]), (name) => look({ network: name }));
    const split = select("Split", [], (name) => look({ split: name }));
    const seed = select("Probe seed", [], (number) => look({ seed: Number(number) }));
    const site = select("Site", [], (name) => set({ ...current, site: name, node: null }));
    const close = element("button", { type: "button", "aria-label": "Close this site", click: () => set(null) }, "\xD7");
    close.hidden = index === 0;
    network.hidden = networks.names.length < 2;
    return {
      element: element(
        "div",
        { class: "card-head" },
        element("h2", {}, index ? "Beside it" : "Site"),
        network,
        split,
        seed,
        site,
        close
      ),
      /** @param {Side} side @param {Network} of */
      render(side2, of) {
        current = side2;
        if (offered !== of) {
          const views = networks.views(of.name), seeds = views.filter((view) => view.split === of.split);
          offer(split, views.map((view) => [view.split, `${view.split} split`]));
          offer(seed, seeds.map((view) => [String(view.seed), `probe seed ${view.seed}`]));
          site.replaceChildren(...[...of.sites.values()].map((one) => element("option", { value: one.data.name, disabled: !one.explored }, one.data.name)));
        }
        offered = of;
        network.value = side2.network;
        split.value = side2.split;
        seed.value = String(side2.seed);
        site.value = side2.site;
      }
    };
  }
  function offer(field, options) {
    const each = new Map(options);
    field.replaceChildren(...[...each].map(([value, text]) => element("option", { value }, text)));
    field.hidden = each.size < 2;
  }
  function factsOf(site, { labels, split, seed }, { threshold, rule, label: searched }) {
    const { nodes, of, accuracy } = site.data, label = labels.indexOf(searched);
    const what = counted(of, site.filters ? "filter" : "node");
    const asked = site.data.name === OWN_HEAD ? `by the network's own layer to the labels, without a probe, accuracy ${shown(accuracy)}` : `with probe seed ${seed}, probe accuracy ${shown(accuracy)}`;
    return [
      nodes === of ? what : `the first ${nodes} of ${what}: the others have no room in the page`,
      `${counted(labels.length, "label")}, measured on the ${split} split ${asked}`
    ].join(", ") + (label < 0 ? "" : ` \xB7 ${site.appearances(threshold, rule)[label]} of its nodes know \u201C${searched}\u201D`);
  }
  function nodesCard(open, sortBy) {
    const grid = glyphs(open);
    const sort = select("Sort the nodes by", SORTS.map((name) => [name, SORT_NAMES[name]]), (value) => sortBy(SORTS.find((name) => name === value) ?? "number"));
    return {
      element: element(
        "div",
        { class: "nodes" },
        element(
          "div",
          { class: "card-head" },
          element("h3", {}, "Nodes"),
          element("label", {}, element("span", {}, "sorted by"), sort)
        ),
        grid.element,
        element("p", { class: "legend" }, "A mark per label of the diagonal, coloured by cluster, the largest blue; the bar below: noise.")
      ),
      /** @param {Site} site @param {Network} network @param {State} state @param {Side} side */
      render(site, network, state, side2) {
        sort.value = state.sort;
        grid.render(site, state, network.labels, side2.node);
      }
    };
  }
  function numbersCard() {
    const statistics = element("div", { class: "scroll" });
    const even = barChart("Nodes per label that hold it (Fig. 4a)"), field = barChart("Total field per label (Fig. 4b)");
    const heads = headsCard(), curves = curvesCard();
    return {
      element: element("div", { class: "numbers" }, statistics, even.element, field.element, heads.element, curves.element),
      /** @param {Site} site @param {Network} network @param {State} state */
      render(site, { labels }, state) {
        const label = labels.indexOf(state.label), appearances2 = site.appearances(state.threshold, state.rule);
        const total = labelField(site.matrices(), site.clusters(state.threshold, state.rule));
        statistics.replaceChildren(statisticsTable(site, state));
        even.render(labels, [appearances2], label, rangeOf(appearances2));
        field.render(labels, [total], label, rangeOf(total));
        heads.render(site, labels, state);
      },
      /** @param {Site} site @param {State} state */
      *later(site, state) {
        curves.render(yield* site.sweep(state.rule), site, state);
      }
    };
  }
  function rangeOf(values) {
    const all = Array.from(values);
    return `From ${shown(Math.min(...all))} to ${shown(Math.max(...all))}.`;
  }
  function statisticsTable(site, state) {
    const own = site.statistics(state.threshold, state.rule);
    const python = nearest(state.rule === "greedy" ? site.data.python : [], state.threshold);
    const nulls = state.rule === "greedy" ? Object.entries(site.data.nulls) : [];
    const beside = nulls.map(([name, rows]) => (
      /** @type {const} */
      [name, nearest(rows, state.threshold)]
    ));
    const at = (row) => row ? `at ${row.threshold}` : "";
    const heads = [["statistic", ""], ["this page", `at ${state.threshold}`], ["in the tables", at(python)], ...beside.map(([name, row]) => [name, at(row)])];
    const body = ROWS.map(([key, symbol, meaning]) => element(
      "tr",
      {},
      element("th", { scope: "row", title: meaning }, symbol, element("small", {}, meaning)),
      element("td", { class: "number own", "data-statistic": key, "data-value": own[key] }, shown(own[key])),
      ...[python, ...beside.map(([, row]) => row)].map((row) => element("td", { class: row?.threshold === state.threshold ? "number" : "number other" }, row ? shown(row[key]) : ""))
    ));
    return element(
      "table",
      { class: "statistics" },
      element("thead", {}, element("tr", {}, ...heads.map(([name, note]) => element("th", { scope: "col" }, name, element("small", {}, note))))),
      element("tbody", {}, ...body)
    );
  }
  function nearest(rows, threshold) {
    return [...rows].sort((a, b) => Math.abs(a.threshold - threshold) - Math.abs(b.threshold - threshold))[0];
  }
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
        ["snr", "snr_min"].forEach((key, i) => charts[i].render([
          { points: sweep.map((own, k) => [SWEEP[k], own[key]]), series: 0, dashes: [] },
          ...nulls.map(([name, rows]) => nullCurve(name, rows, key))
        ], state.threshold));
        legend.textContent = nulls.length ? "line: this site; dashed grey: untrained; dotted: labels permuted" : "";
      }
    };
  }
  function nullCurve(name, rows, key) {
    const untrained = name === "untrained";
    return { points: rows.map((row) => [row.threshold, row[key] ?? Infinity]), series: untrained ? -1 : 1, dashes: untrained ? [6, 4] : [2, 3] };
  }
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
      }
    };
  }
  function headLine(head, count, owner, names, state) {
    const labels = names.filter((_, label) => owner[label] === head), searched = names.indexOf(state.label);
    const known = searched >= 0 ? `; ${count[searched]} of its nodes know \u201C${state.label}\u201D` : "";
    return element(
      "li",
      { "data-head": head, "data-labels": labels.length },
      element("span", { class: `swatch series-${head % 6}` }),
      element("strong", {}, `head ${head + 1}: ${counted(labels.length, "label")}`),
      `${known} `,
      element("span", { class: "names" }, labels.join(", "))
    );
  }

  // page/theme.js
  var THEMES = (
    /** @type {const} */
    ["as the system", "light", "dark"]
  );
  function followTheme(button, changed) {
    let at = 0;
    button.hidden = false;
    button.addEventListener("click", () => {
      at = (at + 1) % THEMES.length;
      button.textContent = `Theme: ${THEMES[at]}`;
      if (at) document.documentElement.dataset.theme = THEMES[at];
      else delete document.documentElement.dataset.theme;
      changed();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  }

  // main.js
  var Explorer = class {
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
      const change = (change2) => this.#change(change2);
      this.head = controls(networks, change);
      this.map = drawing(networks, (side2, beside) => this.#choose(side2, beside), (boxes) => change({ boxes }));
      this.knowers = knowersCard(networks, (site, node) => {
        this.#setSide(0, { ...this.state.sides[0], site, node });
        requestAnimationFrame(() => this.sides[0].showNode());
      });
      this.sides = [0, 1].map((index) => sidePanel(index, networks, (side2) => this.#setSide(index, side2), (sort) => change({ sort })));
      this.beside = element("button", { type: "button", class: "beside", click: () => this.#putBeside() }, "Put a second site beside it");
      this.layers = layersCard(networks);
      this.announcer = announcer(networks);
      this.pair = element("div", { class: "pair" }, ...this.sides.map((side2) => side2.element));
      root.append(
        this.head.element,
        this.announcer.element,
        this.map.element,
        this.knowers.element,
        this.pair,
        this.beside,
        this.layers.element
      );
      addEventListener("hashchange", () => this.#followAddress());
      this.render();
    }
    render() {
      const { state } = this;
      this.#waiting = 0;
      this.head.render(state);
      this.map.render(state);
      for (const side2 of this.sides) side2.render(state);
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
      for (const side2 of this.sides) yield* side2.later(state);
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
    #setSide(index, side2) {
      const { sides } = this.state;
      this.#change({ sides: side2 ? sides.map((own, i) => i === index ? side2 : own) : sides.slice(0, 1) });
    }
    /** @param {Side} side @param {boolean} beside the first, or in its place */
    #choose(side2, beside) {
      const [first, ...others] = this.state.sides;
      this.#change({ sides: beside ? [first, side2] : [side2, ...others] });
    }
    #putBeside() {
      const [first] = this.state.sides;
      this.#change({ sides: [first, sideOf(this.networks.of(first), first.site)] });
    }
    #followAddress() {
      if (!location.hash.includes("=")) return;
      this.state = opened(location.hash.slice(1), this.networks);
      this.render();
    }
  };
  function begin(root, data) {
    if (!root || !data) return () => {
    };
    const networks = new Networks(JSON.parse(data.textContent ?? ""));
    if (!networks.first) return () => {
    };
    const explorer = new Explorer(root, networks);
    return () => explorer.render();
  }
  var redraw = begin(document.getElementById("explorer"), document.getElementById("explorer-data"));
  var theme = document.getElementById("theme");
  if (theme instanceof HTMLButtonElement) followTheme(theme, redraw);
})();
