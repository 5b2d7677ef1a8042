/** The filters of the list: from the address to a query of Airflow's API, and its rows. Pure. */

import { pagePath, taskKey } from "./api.js";
import { clean } from "./format.js";
import { TASK_STATES, taskState } from "./states.js";

export const PAGE_SIZE = 50;

/** @type {Object<string, {label: string, seconds: number}>} */
export const SINCE = {
  "1h": { label: "in the last hour", seconds: 3600 },
  "24h": { label: "in the last 24 hours", seconds: 86_400 },
  "7d": { label: "in the last 7 days", seconds: 604_800 },
  "30d": { label: "in the last 30 days", seconds: 2_592_000 },
};
const NAMES = ["state", "dag", "task", "run", "since"];

/**
 * Return the filters in an address; those that are not known are left out.
 * @param {string} search like `?state=failed`
 * @returns {Object<string, string>}
 */
export function filtersOf(search) {
  const found = new URLSearchParams(search);
  const filters = Object.fromEntries(NAMES.map((name) => [name, found.get(name) ?? ""]));
  if (!TASK_STATES.includes(filters.state)) filters.state = "";
  if (!Object.hasOwn(SINCE, filters.since)) filters.since = "";
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value));
}

/**
 * Return the page of an address, from 0.
 * @param {string} search
 */
export function pageOf(search) {
  const page = Number(new URLSearchParams(search).get("page") ?? 1);
  return Number.isInteger(page) && page > 1 ? page - 1 : 0;
}

/**
 * Return the part of an address that has these filters.
 * @param {Object<string, string>} filters
 * @param {number} page from 0
 */
export function searchOf(filters, page) {
  const search = new URLSearchParams(NAMES.flatMap((name) => (filters[name] ? [[name, filters[name]]] : [])));
  if (page > 0) search.set("page", String(page + 1));
  const text = search.toString();
  return text ? `?${text}` : "";
}

/**
 * Return the query of Airflow's API for an address.
 * @param {string} search
 * @param {number} nowS
 * @returns {Object<string, string|number>}
 */
export function toQuery(search, nowS) {
  const { state, dag, task, run, since } = filtersOf(search);
  return {
    limit: PAGE_SIZE,
    offset: pageOf(search) * PAGE_SIZE,
    ...(state ? { state } : {}),
    ...(dag ? { dag_id_pattern: dag } : {}),
    ...(task ? { task_display_name_pattern: task } : {}),
    ...(run ? { run_id_pattern: run } : {}),
    ...(since ? { start_date_gte: new Date((nowS - SINCE[since].seconds) * 1000).toISOString() } : {}),
  };
}

/** @param {string|null} date */
function secondsOf(date) {
  const ms = date ? Date.parse(date) : Number.NaN;
  return Number.isNaN(ms) ? null : ms / 1000;
}

/**
 * Return a row of the list.
 * @param {import("./api.js").TaskInstance} instance
 * @param {number} nowS
 */
export function listRow(instance, nowS) {
  const task = {
    dagId: instance.dag_id,
    runId: instance.dag_run_id,
    taskId: instance.task_id,
    mapIndex: instance.map_index ?? -1,
  };
  const mapped = task.mapIndex < 0 ? "" : ` [${clean(instance.rendered_map_index ?? task.mapIndex)}]`;
  const startedS = secondsOf(instance.start_date);
  const endedS = secondsOf(instance.end_date);
  const key = taskKey(task);
  return {
    ...taskState(instance.state),
    key,
    attempt: JSON.stringify([key, instance.try_number, instance.state]),
    state: instance.state ?? "",
    dagId: task.dagId,
    runAfterMs: Date.parse(instance.run_after ?? ""),
    path: pagePath(task),
    task: clean(instance.task_display_name || instance.task_id) + mapped,
    dag: clean(instance.dag_display_name || instance.dag_id),
    run: clean(instance.dag_run_id),
    tryNumber: instance.try_number,
    startedS,
    tookS: startedS === null ? null : (endedS ?? nowS) - startedS,
  };
}
