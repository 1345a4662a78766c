// Bundles the page into dist/: three files that need nothing else, so that the server can carry them.

import { copyFile, readFile, rm } from "node:fs/promises";
import { build } from "esbuild";

await rm("dist", { recursive: true, force: true });
const bundle = await build({
  entryPoints: [
    { in: "src/main.tsx", out: "app" },
    { in: "src/app.css", out: "app" },
  ],
  outdir: "dist",
  bundle: true,
  minify: true,
  target: "es2022",
  define: { "process.env.NODE_ENV": '"production"' },
  banner: { js: await licences("@staticbackend/js", "react", "react-dom", "scheduler") },
  legalComments: "none", // the banner has them in full
  metafile: true,
});
await copyFile("src/index.html", "dist/index.html");

for (const [file, { bytes }] of Object.entries(bundle.metafile.outputs)) {
  console.log(`${file}  ${Math.ceil(bytes / 1024)} kB`);
}

/** The licences of the packages in the bundle, which ask to be kept with every copy. */
async function licences(...packages) {
  const texts = await Promise.all(
    packages.map(async (name) => `${name}\n\n${await readFile(`node_modules/${name}/LICENSE`, "utf8")}`),
  );
  return `/*\n${texts.join("\n\n")}*/`;
}
