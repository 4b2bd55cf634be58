// Bundles the modules into explorer.js, the product that the page carries; `node build.mjs FILE` writes it elsewhere.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
await build({
  absWorkingDir: here,
  entryPoints: ["main.js"],
  outfile: process.argv[2] ?? `${here}/explorer.js`,
  bundle: true,
  format: "iife",
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  banner: { js: "// Made from the modules beside this file by build.mjs; edit those." },
});
