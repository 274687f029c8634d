// Bundle src/widget.ts into the Python package. Runs in: Node, by hand and in CI (which compares the result).
import { readFileSync, statSync } from "node:fs";
import { build } from "esbuild";

const outdir = new URL("../flyte_nb/views/static/", import.meta.url).pathname;
/** Every run's widget carries the bundle once, script and styles: a larger one is felt when a notebook opens. */
const MAX_BYTES = 250_000;

await build({
  entryPoints: { widget: new URL("src/widget.ts", import.meta.url).pathname },
  outdir,
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
});

let total = 0;
for (const name of ["widget.js", "widget.css"]) {
  const size = statSync(outdir + name).size;
  total += size;
  console.log(`${name} ${size.toLocaleString("en")} bytes`);
}
if (total > MAX_BYTES) throw new Error(`The bundle has ${total} bytes; the limit is ${MAX_BYTES}: find what grew.`);
if (/\binnerHTML\b|\binsertAdjacentHTML\b|\beval\(/.test(readFileSync(`${outdir}widget.js`, "utf8")))
  throw new Error("The bundle builds markup from strings: user text could become markup. Use text nodes.");
