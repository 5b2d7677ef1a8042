/**
 * What the page reads from a snapshot. Each field may be missing: other versions write other fields.
 *
 * @typedef {[time_s: number, state: string]} Transition
 * @typedef {{cpu?: (number|null)[], mem?: (number|null)[], gpu?: (number|null)[],
 *   interval_s?: number}} Usage
 * @typedef {{mem?: number|null, cpu?: number|null, cpu_s?: number|null, gpu?: number|null, gpu_mem?: number|null}} Amounts
 * @typedef {{step?: number|null, total?: number|null, metrics?: Object<string, number>|null,
 *   at?: number|null, eta_s?: number|null}} Progress
 * @typedef {{id?: number, name?: string, container?: string, state?: string, exit?: number|null,
 *   signal?: string|null, oom?: boolean, restarts?: number, error?: string|null, t?: Transition[],
 *   limit?: Amounts|null, peak?: Amounts|null, usage?: Usage|null,
 *   stalled?: boolean, round?: number}} Replica
 * @typedef {{name?: string, n?: number, image?: string, counts?: Object<string, number>,
 *   replicas?: Replica[]}} Role
 * @typedef {{role?: string, id?: number, at?: number|null, kind?: string, lines?: string[],
 *   structured?: unknown, peers_stopped?: number, rule?: string|null, exit?: number|null,
 *   signal?: string|null, worker?: {rank?: number|null, exit?: number|null, signal?: string|null,
 *   message?: string|null}|null}} Failure
 * @typedef {{schema?: number, app_id?: string, handle?: string,
 *   attempt?: {try?: number, epoch?: number}, state?: string, seq?: number, observed_at?: number,
 *   writer?: string, created?: number|null, finished?: number|null, n_replicas?: number,
 *   truncated?: boolean, origin?: {dag_id?: string, run_id?: string, task_id?: string,
 *   map_index?: number}, roles?: Role[], failure?: Failure|null, progress?: Progress|null}} Snapshot
 */

/** The newest form of a snapshot that this page knows. */
export const SCHEMA = 1;
/** Later moments are not: with one, the steps of an axis would add up to nothing. */
const LAST_MOMENT_S = 1e12;

/** @typedef {(value: any) => any} Reader */

/** @type {Reader} */
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
/** @type {Reader} */
const moment = (value) => (Math.abs(number(value) ?? Infinity) <= LAST_MOMENT_S ? value : undefined);
/** @type {Reader} */
const text = (value) => (typeof value === "string" ? value : undefined);
/** @type {Reader} */
const flag = (value) => (typeof value === "boolean" ? value : undefined);
/** @type {Reader} */
const any = (value) => value ?? undefined;
/** @type {(item: Reader) => Reader} */
const list = (item) => (value) =>
  Array.isArray(value) ? value.map(item).filter((one) => one !== undefined) : undefined;
/** @type {(item: Reader) => Reader} */
const mapping = (item) => (value) => (isObject(value) ? entries(value, () => item) : undefined);
/** @type {(fields: Object<string, Reader>) => Reader} */
const object = (fields) => (value) =>
  isObject(value)
    ? entries(value, (name) => (Object.hasOwn(fields, name) ? fields[name] : () => undefined))
    : undefined;
/** @type {Reader} */
const points = (value) =>
  Array.isArray(value) ? value.map((one) => number(one) ?? null) : undefined;
/** @type {Reader} */
const transition = (value) =>
  Array.isArray(value) && moment(value[0]) !== undefined && text(value[1]) !== undefined
    ? [value[0], value[1]]
    : undefined;

const amounts = object({ mem: number, cpu: number, cpu_s: number, gpu: number, gpu_mem: number });
const progress = object({
  step: number,
  total: number,
  metrics: mapping(number),
  at: moment,
  eta_s: number,
});
const replica = object({
  id: number,
  name: text,
  container: text,
  state: text,
  exit: number,
  signal: text,
  oom: flag,
  restarts: number,
  error: text,
  t: list(transition),
  limit: amounts,
  peak: amounts,
  usage: object({ cpu: points, mem: points, gpu: points, interval_s: number }),
  stalled: flag,
  round: number,
});
const worker = object({ rank: number, exit: number, signal: text, message: text });
const snapshot = object({
  schema: number,
  app_id: text,
  handle: text,
  attempt: object({ try: number, epoch: number }),
  state: text,
  seq: number,
  observed_at: moment,
  writer: text,
  created: moment,
  finished: moment,
  n_replicas: number,
  truncated: flag,
  origin: object({ dag_id: text, run_id: text, task_id: text, map_index: number }),
  roles: list(
    object({ name: text, n: number, image: text, counts: mapping(number), replicas: list(replica) }),
  ),
  failure: object({
    role: text,
    id: number,
    at: moment,
    kind: text,
    lines: list(text),
    structured: any,
    peers_stopped: number,
    rule: text,
    exit: number,
    signal: text,
    worker,
  }),
  progress,
});

/** @param {unknown} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * @param {Object<string, unknown>} value
 * @param {(name: string) => Reader} readerOf
 */
function entries(value, readerOf) {
  return Object.fromEntries(
    Object.entries(value)
      .map(([name, one]) => [name, readerOf(name)(one)])
      .filter(([, one]) => one !== undefined),
  );
}

/**
 * Return the known fields of a snapshot whose values have the right types; null for anything else.
 *
 * Any task can write the XCom, so its content is not trusted.
 * @param {unknown} value a snapshot, or one as JSON
 * @returns {Snapshot|null}
 */
export function readSnapshot(value) {
  const found = snapshot(typeof value === "string" ? parsed(value) : value);
  return found?.app_id ? found : null;
}

/**
 * Return the value of a JSON text; null for any other text, such as one that was cut.
 * @param {string} text
 * @returns {any}
 */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Return whether a snapshot belongs to a task instance; one without an origin does.
 * @param {Snapshot} snapshot
 * @param {{dagId: string, runId: string, taskId: string, mapIndex: number}} task
 */
export function isOf(snapshot, task) {
  const origin = snapshot.origin;
  if (!origin) return true;
  return (
    (origin.dag_id ?? task.dagId) === task.dagId &&
    (origin.run_id ?? task.runId) === task.runId &&
    (origin.task_id ?? task.taskId) === task.taskId &&
    (origin.map_index ?? -1) === task.mapIndex
  );
}

/**
 * Return the newer one of two snapshots. The last one of a worker and a late one of a triggerer can
 * arrive in either order.
 * @param {Snapshot|null} shown
 * @param {Snapshot} arrived
 */
export function newer(shown, arrived) {
  if (!shown || shown.app_id !== arrived.app_id) return arrived;
  return (arrived.seq ?? 0) >= (shown.seq ?? 0) ? arrived : shown;
}

/**
 * Return the roles of an app.
 * @param {Snapshot} snapshot
 */
export function rolesOf(snapshot) {
  return Array.isArray(snapshot.roles) ? snapshot.roles : [];
}

/**
 * Return the replicas of an app that the snapshot has in full.
 * @param {Snapshot} snapshot
 */
export function replicasOf(snapshot) {
  return rolesOf(snapshot).flatMap((role) => role.replicas ?? []);
}
