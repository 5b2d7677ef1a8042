/** Requests to Airflow's public API, with the rights of the user who looks at the page. */

/** @typedef {{dagId: string, runId: string, taskId: string, mapIndex: number}} Task */
/** @typedef {{state: string|null, operator_name: string|null, operator: string|null,
 *   try_number: number, task_id: string, dag_id: string, dag_run_id: string, map_index: number,
 *   start_date: string|null, end_date: string|null, task_display_name: string,
 *   dag_display_name: string, rendered_map_index: string|null, run_after?: string}} TaskInstance */
/** @template T @typedef {{data: T, serverS: number}} Answer */

export const XCOM_KEY = "torchx_app";
/** Operators of ours, and of a user's subclass that keeps the name; not the sensors. */
const OPERATORS = "torchx%operator|@task.torchx";

/** An answer that is not a success. */
export class HttpError extends Error {
  /**
   * @param {number} status
   * @param {string} [path] of the request, below the API's root
   */
  constructor(status, path = "") {
    super(`Airflow answered with status ${status}`);
    this.status = status;
    this.path = path;
  }
}

/**
 * Return whether the operator of a task runs an app.
 * @param {TaskInstance} instance
 */
export function runsApp(instance) {
  const name = (instance.operator_name ?? instance.operator ?? "").toLowerCase();
  return /torchx.*operator|@task\.torchx/.test(name);
}

/** @param {Task} task */
function pathOf({ dagId, runId, taskId }) {
  const [dag, run, name] = [dagId, runId, taskId].map(encodeURIComponent);
  return `dags/${dag}/dagRuns/${run}/taskInstances/${name}`;
}

/** @param {Task} task */
function instancePath(task) {
  return task.mapIndex < 0 ? pathOf(task) : `${pathOf(task)}/${task.mapIndex}`;
}

/**
 * Return the path of a task's page in Airflow's UI, relative to its base.
 * @param {Task} task
 */
export function pagePath({ dagId, runId, taskId, mapIndex }) {
  const [dag, run, name] = [dagId, runId, taskId].map(encodeURIComponent);
  const mapped = mapIndex < 0 ? "" : `/mapped/${mapIndex}`;
  return `dags/${dag}/runs/${run}/tasks/${name}${mapped}/plugin/torchx-app`;
}

/**
 * @param {string} path below the API's root
 * @param {{query?: Object<string, string|number|string[]>, body?: unknown, signal?: AbortSignal,
 *   accept?: string}} [options]
 */
async function send(path, { query = {}, body, signal, accept = "application/json" } = {}) {
  const url = new URL(`api/v2/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) url.searchParams.append(name, String(one));
  }
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "PATCH",
    headers: { Accept: accept, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "same-origin",
    signal,
  });
  if (!response.ok) throw new HttpError(response.status, path);
  return response;
}

/**
 * @template T
 * @param {string} path
 * @param {Parameters<typeof send>[1]} [options]
 * @returns {Promise<Answer<T>>}
 */
async function json(path, options) {
  const response = await send(path, options);
  // The reader's clock may be wrong by hours; the server's is that of the snapshots.
  const dateMs = Date.parse(response.headers.get("Date") ?? "");
  return {
    data: await response.json(),
    serverS: (Number.isNaN(dateMs) ? Date.now() : dateMs) / 1000,
  };
}

/**
 * Return a task instance.
 * @param {Task} task
 * @param {AbortSignal} signal
 * @returns {Promise<Answer<TaskInstance>>}
 */
export function fetchInstance(task, signal) {
  return json(instancePath(task), { signal });
}

/**
 * Return the snapshot of a task's app; null if the task has none.
 * @param {Task} task
 * @param {boolean} isThere whether there was one: a request for one that is missing is an error in
 *   the browser's console, so the keys are asked for first
 * @param {AbortSignal} signal
 * @returns {Promise<unknown>}
 */
export async function fetchSnapshot(task, isThere, signal) {
  const path = `${pathOf(task)}/xcomEntries`;
  if (!isThere) {
    const query = { xcom_key: XCOM_KEY, map_index: task.mapIndex };
    const { data } = await json(path, { query, signal });
    if (!(/** @type {any} */ (data).xcom_entries?.length)) return null;
  }
  const query = { deserialize: "true", map_index: task.mapIndex };
  try {
    const { data } = await json(`${path}/${XCOM_KEY}`, { query, signal });
    return /** @type {any} */ (data).value;
  } catch (error) {
    if (error instanceof HttpError && error.status === 404) return null;
    throw error;
  }
}

/**
 * Return all tries of a task, the last one among them.
 * @param {Task} task
 * @param {AbortSignal} signal
 * @returns {Promise<TaskInstance[]>}
 */
export async function fetchTries(task, signal) {
  const { data } = await json(`${instancePath(task)}/tries`, { signal });
  const tries = /** @type {any} */ (data).task_instances ?? [];
  return tries.toSorted(
    (/** @type {TaskInstance} */ one, /** @type {TaskInstance} */ other) =>
      one.try_number - other.try_number,
  );
}

/**
 * Return the last snapshots of earlier tries, by the number of the try.
 * @param {Task} task
 * @param {AbortSignal} signal
 * @returns {Promise<Map<number, unknown>>}
 */
export async function fetchEarlier(task, signal) {
  const query = { map_index: task.mapIndex, limit: 100 };
  const { data } = await json(`${pathOf(task)}/state-store`, { query, signal });
  const found = new Map();
  for (const { key, value } of /** @type {any} */ (data).task_state_store ?? []) {
    const [name, number] = String(key).split(":");
    if (name === XCOM_KEY && /^\d+$/.test(number ?? "")) {
      found.set(Number(number), value);
    }
  }
  return found;
}

/**
 * Return a page of the task instances that run apps, the newest first.
 * @param {Object<string, string|number|string[]>} filters of Airflow's API
 * @param {AbortSignal} signal
 * @returns {Promise<Answer<{task_instances: TaskInstance[], total_entries: number}>>}
 */
export function fetchList(filters, signal) {
  const query = { operator_name_pattern: OPERATORS, order_by: "-start_date", ...filters };
  return json("dags/~/dagRuns/~/taskInstances", { query, signal });
}

/**
 * Return a text that names a task instance.
 * @param {Task} task
 */
export function taskKey({ dagId, runId, taskId, mapIndex }) {
  return JSON.stringify([dagId, runId, taskId, mapIndex]);
}

/**
 * Return keys of XComs, each with its task, and how many there are.
 * @param {string|null} dagId null for all that the user may read
 * @param {Object<string, string|number|string[]>} query of Airflow's API
 * @param {AbortSignal} signal
 */
export async function fetchKeys(dagId, query, signal) {
  const dag = dagId === null ? "~" : encodeURIComponent(dagId);
  const { data } = await json(`dags/${dag}/dagRuns/~/taskInstances/~/xcomEntries`, { query, signal });
  const { xcom_entries: entries = [], total_entries: total = 0 } = /** @type {any} */ (data);
  const keys = entries.map((/** @type {any} */ { dag_id, run_id, task_id, map_index, key }) => ({
    task: taskKey({ dagId: dag_id, runId: run_id, taskId: task_id, mapIndex: map_index }),
    key: String(key),
  }));
  return { keys: /** @type {{task: string, key: string}[]} */ (keys), total: Number(total) };
}

/**
 * Return whether the user may stop a task: Airflow checks the same right for a dry run. Null if
 * Airflow fails.
 * @param {Task} task
 * @param {AbortSignal} signal
 */
export async function mayStop(task, signal) {
  try {
    await send(`${instancePath(task)}/dry_run`, { body: { new_state: "failed" }, signal });
    return true;
  } catch (error) {
    if (error instanceof HttpError) return error.status < 500 ? false : null;
    throw error;
  }
}

/**
 * Stop a task as a user does who marks it failed.
 * @param {Task} task
 */
export async function stopTask(task) {
  await send(instancePath(task), { body: { new_state: "failed" } });
}

/**
 * Read the log of a try, event by event, without keeping it.
 * @param {Task} task
 * @param {number} tryNumber
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<any>}
 */
export async function* readLog(task, tryNumber, signal) {
  const response = await send(`${pathOf(task)}/logs/${tryNumber}`, {
    query: { map_index: task.mapIndex },
    accept: "application/x-ndjson",
    signal,
  });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : /** @type {string} */ (lines.pop());
    for (const line of lines) if (line.trim()) yield JSON.parse(line);
    if (done) return;
  }
}
