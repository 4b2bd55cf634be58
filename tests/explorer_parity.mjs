// Reads sites from a JSON file and prints what the explorer's modules compute for them.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , explorer, file] = process.argv;
const load = (name) => import(pathToFileURL(`${explorer}/measures/${name}.js`).href);
const [statistics, heads, masks] = await Promise.all(["statistics", "heads", "masks"].map(load));

const floats = (text) => new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);

function measured({ labels, nodes, means, weight, threshold, method, heads: count, ratio }) {
  const factors = { labels, nodes, means: floats(means), weight: floats(weight) };
  const found = statistics.siteClusters(factors, threshold, method);
  const appearances = heads.headAppearances(found, count);
  return {
    found,
    factors,
    shown: {
      maxima: [...found.maxima],
      cluster: [...found.cluster],
      noise: [...found.noise],
      statistics: statistics.siteStatistics(found),
      node: statistics.nodeStatistics(found, nodes - 1),
      appearances: [...statistics.appearances(found)],
      labelField: [...statistics.labelField(factors, found)],
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
