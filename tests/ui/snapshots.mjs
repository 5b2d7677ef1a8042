// Snapshots of apps in each state, as they are recorded. The pages in the browser use them, too.

import { readFileSync } from "node:fs";

/** @param {string} name */
export function recorded(name) {
  return JSON.parse(readFileSync(new URL(`snapshots/${name}.json`, import.meta.url), "utf8"));
}
