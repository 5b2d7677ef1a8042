/**
 * From a snapshot to what the page draws. Pure: no clock, no document, no request.
 *
 * Positions on the time axis are shares from 0 to 1.
 */

import { axisOf, endOf, segmentsOf, share, ticks } from "./axis.js";
import { failureView } from "./failure.js";
import { clean, count, duration, size, trimmed } from "./format.js";
import { progressView } from "./progress.js";
import { rolesOf } from "./snapshot.js";
import { appState, taskState } from "./states.js";
import { counts, notes, summary, tiles } from "./summary.js";
import { oddReplicas, recentCpus, sparkline } from "./usage.js";

/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {import("./snapshot.js").Role} Role */
/** @typedef {import("./snapshot.js").Replica} Replica */
/** @typedef {import("./states.js").Tone} Tone */
/** @typedef {import("./axis.js").Axis} Axis */
/** @typedef {import("./axis.js").Segment} Segment */
/** @typedef {{key: string, role: string, id: number, name: string, word: string, glyph: string,
 *   tone: Tone, isCulprit: boolean, segments: Segment[], duration: string, end: string,
 *   restarts: number, cpu: import("./usage.js").Sparkline|null,
 *   mem: import("./usage.js").Sparkline|null, gpu: import("./usage.js").Sparkline|null, odd: string, container: string}} Lane */
/** @typedef {{name: string, image: string, counts: string, lanes: Lane[], omitted: number}} RoleView */
/** @typedef {{appId: string, handle: string, word: string, glyph: string, tone: Tone,
 *   isFinal: boolean, summary: string, tiles: {label: string, value: string}[], notes: string[],
 *   failure: import("./failure.js").FailureView|null,
 *   progress: import("./progress.js").ProgressView|null, roles: RoleView[],
 *   ticks: {at: number, label: string}[], failedAt: number|null, tryNumber: number|null,
 *   has: {cpu: boolean, mem: boolean, gpu: boolean, end: boolean}}} AppView */

/** More lanes than these are drawn only for replicas that need a look. */
export const MAX_LANES = 64;

/**
 * Return what the page draws of an app.
 * @param {Snapshot} snapshot
 * @param {{nowS: number, taskState?: string|null, isStartZero?: boolean}} now the server's time, the
 *   state of the task, and whether the axis begins at the first start instead of the first create
 * @returns {AppView}
 */
export function appView(snapshot, now) {
  const state = appState(snapshot.state);
  const endS = endOf(snapshot, now);
  const axis = axisOf(snapshot, endS, now.isStartZero ?? false);
  const failure = failureView(snapshot);
  const roles = rolesOf(snapshot).map((role) => roleView(role, snapshot, axis));
  const lanes = roles.flatMap((role) => role.lanes);
  return {
    appId: clean(snapshot.app_id),
    handle: clean(snapshot.handle),
    word: state.word,
    glyph: state.glyph,
    tone: state.tone,
    isFinal: state.isFinal,
    summary: summary(snapshot),
    tiles: tiles(snapshot, endS),
    notes: notes(snapshot, now.taskState),
    failure,
    progress: progressView(snapshot, endS, taskState(now.taskState).isFinal),
    roles,
    ticks: ticks(axis),
    failedAt: failure?.at && !failure.isCancel ? share(failure.at, axis) : null,
    tryNumber: snapshot.attempt?.try ?? null,
    has: {
      cpu: lanes.some((lane) => lane.cpu),
      mem: lanes.some((lane) => lane.mem),
      gpu: lanes.some((lane) => lane.gpu),
      end: lanes.some((lane) => lane.end),
    },
  };
}

/**
 * Return the lanes to draw: of an app with very many replicas, those that need a look.
 * @param {AppView} view
 * @param {string|null} selected key of a lane
 */
export function visibleLanes(view, selected) {
  const total = view.roles.reduce((sum, role) => sum + role.lanes.length, 0);
  const isShown = (/** @type {Lane} */ lane) =>
    total <= MAX_LANES ||
    lane.tone === "failed" ||
    lane.tone === "retry" ||
    lane.odd !== "" ||
    lane.key === selected;
  return view.roles.map((role) => ({ ...role, lanes: role.lanes.filter(isShown) }));
}

/**
 * @param {Role} role
 * @param {Snapshot} snapshot
 * @param {Axis} axis
 * @returns {RoleView}
 */
function roleView(role, snapshot, axis) {
  const replicas = role.replicas ?? [];
  const odd = oddReplicas(role);
  const lanes = replicas.map((replica, index) => lane(role, replica, index, snapshot, axis));
  for (const one of lanes) one.odd = odd.get(one.id) ?? "";
  return {
    name: clean(role.name),
    image: clean(role.image),
    counts: counts(role),
    lanes,
    omitted: Math.max(0, (role.n ?? replicas.length) - replicas.length),
  };
}

/**
 * @param {Role} role
 * @param {Replica} replica
 * @param {number} index
 * @param {Snapshot} snapshot
 * @param {Axis} axis
 * @returns {Lane}
 */
function lane(role, replica, index, snapshot, axis) {
  const state = appState(replica.state);
  const id = replica.id ?? index;
  const failure = snapshot.failure;
  const isCulprit = failure?.role === role.name && failure?.id === id && failure?.kind !== "cancel";
  // One red lane: the culprit. A peer that fell with it is as failed, but not to blame.
  // Nor does a failure of an auxiliary role bring its app down.
  const isAside = state.tone === "failed" && role.auxiliary === true && !isCulprit;
  const isPeer = state.tone === "failed" && failure && !isCulprit;
  const tone = isAside ? "retry" : isPeer ? "removed" : state.tone;
  const segments = segmentsOf(replica, axis, isCulprit ? "failed" : tone);
  const last = replica.t?.at(-1)?.[0] ?? axis.endS;
  const started = (replica.t ?? []).find(([, name]) => name === "RUNNING")?.[0];
  return {
    key: `${clean(role.name)}/${id}`,
    role: clean(role.name),
    id,
    name: clean(replica.name),
    word: state.word,
    glyph: state.glyph,
    tone: isCulprit ? "failed" : tone,
    isCulprit,
    segments,
    duration: started === undefined ? "" : duration((state.isFinal ? last : axis.endS) - started),
    end: [endText(replica), isAside ? "auxiliary" : ""].filter(Boolean).join(", "),
    restarts: replica.restarts ?? 0,
    cpu: sparkline(replica.usage?.cpu, replica.limit?.cpu, cpuText(replica)),
    mem: sparkline(replica.usage?.mem, replica.limit?.mem, memText(replica), true),
    gpu: sparkline(replica.usage?.gpu, 100, gpuText(replica)),
    odd: "",
    container: clean(replica.container),
  };
}

/**
 * Return how a replica ended, like `exit 137, SIGKILL, out of memory`.
 * @param {Replica} replica
 */
function endText(replica) {
  const parts = [];
  if (typeof replica.exit === "number" && appState(replica.state).tone !== "success") {
    parts.push(`exit ${replica.exit}`);
  }
  if (replica.signal) parts.push(clean(replica.signal));
  if (replica.oom) parts.push("out of memory");
  if (replica.stalled) parts.push("stalled");
  if (replica.error) parts.push(clean(replica.error));
  return parts.join(", ");
}

/** @param {Replica} replica */
function memText(replica) {
  const peak = replica.peak?.mem;
  const limit = replica.limit?.mem;
  if (!peak) return limit ? `limit ${size(limit)}` : "";
  return limit ? `peak ${size(peak)} of ${size(limit)}` : `peak ${size(peak)}`;
}

/** @param {Replica} replica */
function cpuText(replica) {
  const used = recentCpus(replica);
  const limit = replica.limit?.cpu;
  if (used === null) return "";
  return limit ? `${trimmed(used, 1)} of ${count(Number(trimmed(limit, 1)), "CPU")}` : `${trimmed(used, 1)} CPUs`;
}

/** @param {Replica} replica */
function gpuText(replica) {
  const last = (replica.usage?.gpu ?? []).findLast((one) => typeof one === "number");
  const peak = replica.peak?.gpu_mem;
  const limit = replica.limit?.gpu_mem;
  const used = typeof last === "number" ? [`${Math.round(last)} %`] : [];
  if (peak) used.push(limit ? `${size(peak)} of ${size(limit)}` : size(peak));
  return used.join(", ");
}
