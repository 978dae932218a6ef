// One file for pages, as small as it can be; says how small, and fails where that is too large.

import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const MOST = 30 * 1024;
const options = {
  entryPoints: ["src/index.ts"], bundle: true, format: "esm", platform: "browser", target: "es2022",
  conditions: ["browser"], legalComments: "none",
  alias: { "#socket": "./src/socket-browser.ts" },
};
await build({ ...options, outfile: "dist/roam-relay.js" });
const { outputFiles } = await build({ ...options, minify: true, outfile: "dist/roam-relay.min.js", write: false });
const { contents } = outputFiles[0];
await (await import("node:fs/promises")).writeFile("dist/roam-relay.min.js", contents);
const size = gzipSync(contents, { level: 9 }).length;
console.log(`roam-relay.min.js: ${contents.length} bytes, ${size} compressed`);
if (size > MOST) throw new Error(`${size} bytes compressed, but ${MOST} at most`);
