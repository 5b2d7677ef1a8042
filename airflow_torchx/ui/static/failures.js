/**
 * Why the apps of the list failed. The keys of XComs say it: Airflow's API lists the keys of many
 * tasks in one answer, but values one by one.
 */

import { HttpError, fetchKeys } from "./api.js";
import { clean } from "./format.js";

/** @typedef {ReturnType<typeof import("./filters.js").listRow>} Row */

export const FAILURE_PREFIX = "torchx_failure:";
/** Airflow's default for the most entries of an answer. */
const MOST_KEYS = 100;
/** With the list itself, three requests. */
const MOST_REQUESTS = 2;
/** States in which a task may have an app that failed. */
const FAILED = ["failed", "skipped", "up_for_retry"];
const MOST_KNOWN = 2000;

/** @type {Object<string, string>} */
const KINDS = {
  oom: "out of memory",
  stalled: "stalled",
  lost: "its container is gone",
  start: "did not start",
  cancel: "cancelled",
};
/** @type {Object<string, (value: string) => string>} */
const FACTS = {
  exit: (value) => `exit ${value}`,
  signal: (value) => value,
  rank: (value) => `worker rank ${value}`,
  rule: (value) => `failure rule ${value}`,
};

/**
 * Return the failure that a key says, like `trainer/2: out of memory, exit 137, SIGKILL`.
 * @param {string} key
 */
export function failureText(key) {
  const [name, kind, ...facts] = clean(key.slice(FAILURE_PREFIX.length)).split(",");
  const known = facts.flatMap((fact) => {
    const [what, value] = fact.split("=");
    return Object.hasOwn(FACTS, what) && value ? [FACTS[what](value)] : [];
  });
  const parts = [Object.hasOwn(KINDS, kind) ? KINDS[kind] : "", ...known].filter(Boolean);
  return [name, parts.join(", ")].filter(Boolean).join(": ");
}

/**
 * Return the DAG, and the query, of the keys of some rows.
 * @param {Row[]} rows at least one
 */
export function keysOf(rows) {
  const dags = new Set(rows.map((row) => row.dagId));
  const moments = rows.map((row) => row.runAfterMs).filter((ms) => !Number.isNaN(ms));
  const within = moments.length === rows.length;
  return {
    dagId: dags.size === 1 ? rows[0].dagId : null,
    query: {
      xcom_key_prefix_pattern: FAILURE_PREFIX,
      order_by: "-timestamp",
      limit: MOST_KEYS,
      ...(within ? { run_after_gte: new Date(Math.min(...moments)).toISOString() } : {}),
      // Airflow's moments have microseconds.
      ...(within ? { run_after_lte: new Date(Math.max(...moments) + 1).toISOString() } : {}),
    },
  };
}

/** What is known of the failures of rows, so that each is asked for once. */
export class Failures {
  constructor() {
    /** @type {Map<string, string>} */
    this.known = new Map();
  }

  /** @param {Row} row */
  of(row) {
    return this.known.get(row.attempt) ?? "";
  }

  /**
   * Ask for the failures that are not known; return whether there was anything to ask.
   * @param {Row[]} rows
   * @param {AbortSignal} signal
   */
  async learn(rows, signal) {
    const wanted = rows.filter((row) => FAILED.includes(row.state) && !this.known.has(row.attempt));
    if (!wanted.length) return false;
    if (this.known.size > MOST_KNOWN) this.known.clear();
    const found = await this.ask(wanted, signal);
    for (const row of wanted) this.known.set(row.attempt, found.get(row.key) ?? "");
    return true;
  }

  /**
   * @param {Row[]} wanted
   * @param {AbortSignal} signal
   */
  async ask(wanted, signal) {
    /** @type {Map<string, string>} */
    const found = new Map();
    const { dagId, query } = keysOf(wanted);
    try {
      for (let number = 0; number < MOST_REQUESTS; number += 1) {
        const { keys, total } = await fetchKeys(dagId, { ...query, offset: number * MOST_KEYS }, signal);
        for (const { task, key } of keys) {
          if (key.startsWith(FAILURE_PREFIX)) found.set(task, failureText(key));
        }
        if (total <= (number + 1) * MOST_KEYS || wanted.every((row) => found.has(row.key))) break;
      }
    } catch (error) {
      // A reader who may not read XComs sees the list without them.
      if (!(error instanceof HttpError) || error.status >= 500) throw error;
    }
    return found;
  }
}
