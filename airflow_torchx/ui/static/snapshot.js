/** Reads a snapshot, which any task can write: what has a wrong type is left out. */

/**
 * What is read of a value: each field may be missing, because other versions write other fields,
 * and a text may be any.
 * @template T
 * @typedef {T extends string ? string : T extends number ? number
 *   : T extends [infer First, infer Second] ? [Read<First>, Read<Second>]
 *   : T extends (infer Item)[] ? Read<Item>[]
 *   : string extends keyof T ? Record<string, Read<T[keyof T]>>
 *   : T extends object ? {[Name in keyof T]?: Read<T[Name]>} : T} Read
 */
/** @typedef {Read<import("./snapshot-v1.d.ts").Snapshot>} Snapshot */
/** @typedef {Read<import("./snapshot-v1.d.ts").Role>} Role */
/** @typedef {Read<import("./snapshot-v1.d.ts").Replica>} Replica */
/** @typedef {Read<import("./snapshot-v1.d.ts").Failure>} Failure */
/** @typedef {Read<import("./snapshot-v1.d.ts").Progress>} Progress */

/** The newest form of a snapshot that this page knows. */
export const SCHEMA = 1;
/** Later moments are not: with one, the steps of an axis would add up to nothing. */
const LAST_MOMENT_S = 1e12;

/**
 * @template T
 * @typedef {(value: any) => T|undefined} Reader
 */
/**
 * Readers of fields that the schema has, by their names and types.
 * @template T
 * @typedef {{[Name in keyof T]?: Reader<Read<T[Name]>>}} Fields
 */

/** @type {Reader<number>} */
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
/** @type {Reader<number>} */
const moment = (value) => (Math.abs(number(value) ?? Infinity) <= LAST_MOMENT_S ? value : undefined);
/** @type {Reader<string>} */
const text = (value) => (typeof value === "string" ? value : undefined);
/** @type {Reader<boolean>} */
const flag = (value) => (typeof value === "boolean" ? value : undefined);
/** @type {Reader<any>} */
const any = (value) => value ?? undefined;
/** @type {<T>(item: Reader<T>) => Reader<T[]>} */
const list = (item) => (value) =>
  Array.isArray(value) ? value.map(item).filter((one) => one !== undefined) : undefined;
/** @type {<T>(item: Reader<T>) => Reader<Record<string, T>>} */
const mapping = (item) => (value) => (isObject(value) ? entries(value, () => item) : undefined);
/** @type {<T>(fields: Fields<T>) => Reader<Read<T>>} */
const object = (fields) => (value) =>
  isObject(value)
    ? entries(value, (name) => (Object.hasOwn(fields, name) ? /** @type {any} */ (fields)[name] : () => undefined))
    : undefined;
/** @type {Reader<(number|null)[]>} */
const points = (value) =>
  Array.isArray(value) ? value.map((one) => number(one) ?? null) : undefined;
/** @type {Reader<Read<import("./snapshot-v1.d.ts").Transition>>} */
const transition = (value) =>
  Array.isArray(value) && moment(value[0]) !== undefined && text(value[1]) !== undefined
    ? [value[0], value[1]]
    : undefined;

/** @type {Fields<import("./snapshot-v1.d.ts").Progress>} */
const PROGRESS = { step: number, total: number, metrics: mapping(number), at: moment, eta_s: number };
/** @type {Fields<import("./snapshot-v1.d.ts").Limit>} */
const LIMIT = { mem: number, cpu: number, gpu_mem: number };
/** @type {Fields<import("./snapshot-v1.d.ts").Peak>} */
const PEAK = { mem: number, cpu: number, cpu_s: number, gpu: number, gpu_mem: number };
/** @type {Fields<import("./snapshot-v1.d.ts").Usage>} */
const USAGE = { cpu: points, mem: points, gpu: points, interval_s: number };
/** @type {Fields<import("./snapshot-v1.d.ts").Replica>} */
const REPLICA = {
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
  limit: object(LIMIT),
  peak: object(PEAK),
  usage: object(USAGE),
  stalled: flag,
  round: number,
};
/** @type {Fields<import("./snapshot-v1.d.ts").Role>} */
const ROLE = {
  name: text,
  n: number,
  image: text,
  auxiliary: flag,
  counts: mapping(number),
  replicas: list(object(REPLICA)),
};
/** @type {Fields<import("./snapshot-v1.d.ts").Worker>} */
const WORKER = { rank: number, exit: number, signal: text, message: text };
/** @type {Fields<import("./snapshot-v1.d.ts").Failure>} */
const FAILURE = {
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
  worker: object(WORKER),
};
/** @type {Fields<import("./snapshot-v1.d.ts").Attempt>} */
const ATTEMPT = { try: number, epoch: number };
/** @type {Fields<import("./snapshot-v1.d.ts").Origin>} */
const ORIGIN = { dag_id: text, run_id: text, task_id: text, map_index: number };
/** @type {Fields<import("./snapshot-v1.d.ts").Snapshot>} */
const SNAPSHOT = {
  schema: number,
  app_id: text,
  handle: text,
  attempt: object(ATTEMPT),
  state: text,
  seq: number,
  observed_at: moment,
  writer: text,
  created: moment,
  finished: moment,
  n_replicas: number,
  truncated: flag,
  origin: object(ORIGIN),
  roles: list(object(ROLE)),
  failure: object(FAILURE),
  progress: object(PROGRESS),
};

/** @param {unknown} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * @param {Object<string, unknown>} value
 * @param {(name: string) => Reader<any>} readerOf
 * @returns {any}
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
  const found = object(SNAPSHOT)(typeof value === "string" ? parsed(value) : value);
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
