// Reads sites from a JSON file and prints what the explorer's modules compute for them.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , explorer, file] = process.argv;
const load = (name) => import(pathToFileURL(`${explorer}/measures/${name}.js`).href);
const names = ["statistics", "heads", "masks", "outer", "filters"];
const [statistics, heads, masks, outer, filters] = await Promise.all(names.map(load));

const floats = (text) => new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);

function matricesOf({ labels, nodes, positions, means, weight }) {
  const factors = { labels, nodes, means: floats(means), weight: floats(weight) };
  if (positions === 1) return outer.outerProducts(factors);
  return filters.filters(labels, nodes, filters.formed(labels, nodes, factors.means, factors.weight));
}

function measured({ threshold, method, heads: count, ratio, ...site }) {
  const matrices = matricesOf(site);
  const found = statistics.siteClusters(matrices, threshold, method);
  const appearances = heads.headAppearances(found, count);
  return {
    found,
    shown: {
      maxima: [...found.maxima],
      cluster: [...found.cluster],
      noise: [...found.noise],
      statistics: statistics.siteStatistics(found),
      node: statistics.nodeStatistics(found, site.nodes - 1),
      appearances: [...statistics.appearances(found)],
      labelField: [...statistics.labelField(matrices, found)],
      headAppearances: [...appearances],
      headOfLabel: [...heads.headOfLabel(appearances, count, ratio)],
      outputDilution: masks.outputDilution(found),
    },
  };
}

const results = JSON.parse(readFileSync(file, "utf8")).map(({ source, target }) => {
  const a = measured(source), b = measured(target);
  return { source: a.shown, target: b.shown, dilution: masks.dilution(a.found, b.found) };
});
process.stdout.write(JSON.stringify(results));
