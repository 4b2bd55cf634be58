// How fast the explorer's modules re-cluster a site: `node benchmarks/explorer.mjs`.
//
// A site of 256 nodes and 100 labels, factors correlated like a probe's; median of 50 thresholds, after a warm-up.
// Expect some 5 ms on one core; the page needs less than 50 ms to follow a slider.
import { filters, formed } from "../src/nodelens/report/explorer/measures/filters.js";
import { dilution } from "../src/nodelens/report/explorer/measures/masks.js";
import { outerProducts } from "../src/nodelens/report/explorer/measures/outer.js";
import { siteClusters, siteStatistics } from "../src/nodelens/report/explorer/measures/statistics.js";

let state = 1;
const uniform = () => (state = (state * 48271) % 2147483647) / 2147483647;
const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

function site(nodes, labels) {
  const means = Float32Array.from({ length: nodes * labels }, normal);
  return outerProducts({ nodes, labels, means, weight: means.map((mean) => mean + normal()) });
}

function convolution(nodes, labels, positions) {
  const means = Float32Array.from({ length: nodes * labels * positions }, normal);
  const begin = performance.now();
  const fields = formed(labels, nodes, means, means.map((mean) => mean + normal()));
  console.log(`${nodes} filters of ${positions} positions, ${labels} labels, formed once: ${(performance.now() - begin).toFixed(1)} ms`);
  return filters(labels, nodes, fields);
}

function report(what, matrices) {
  for (const rule of ["greedy", "maximum"]) {
    const time = median((threshold) => siteStatistics(siteClusters(matrices, threshold, rule)));
    console.log(`${what}, ${rule}: ${time} ms`);
  }
}

function median(work) {
  const times = [];
  for (let turn = 0; turn < 60; turn++) {
    const begin = performance.now();
    work(0.1 + turn / 100);
    if (turn >= 10) times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b)[times.length >> 1].toFixed(1);
}

for (const [nodes, labels] of [[256, 10], [256, 100], [768, 100], [256, 1000]]) {
  report(`${nodes} nodes, ${labels} labels`, site(nodes, labels));
}
report("256 filters, 100 labels", convolution(256, 100, 4));
const [source, target] = [site(256, 100), site(768, 100)].map((factors) => siteClusters(factors, 0.35, "greedy"));
console.log(`dilution of 256 x 768 weights: ${median(() => dilution(source, target))} ms`);
