/** The time axis of an app, and what a replica did along it. Positions are shares from 0 to 1. */

import { duration } from "./format.js";
import { appState, taskState } from "./states.js";
import { replicasOf } from "./snapshot.js";

/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {import("./snapshot.js").Replica} Replica */
/** @typedef {import("./states.js").Tone} Tone */
/** @typedef {{from: number, to: number, isWait: boolean, tone: Tone}} Segment */

/**
 * Return the moment until which lanes are drawn.
 * @param {Snapshot} snapshot
 * @param {{nowS: number, taskState?: string|null}} now
 */
export function endOf(snapshot, now) {
  if (typeof snapshot.finished === "number") return snapshot.finished;
  const isOver = appState(snapshot.state).isFinal || taskState(now.taskState).isFinal;
  const times = replicasOf(snapshot).flatMap((one) => (one.t ?? []).map(([at]) => at));
  const last = Math.max(snapshot.observed_at ?? 0, ...times);
  return isOver ? last : Math.max(last, now.nowS);
}

/** @typedef {{startS: number, endS: number}} Axis */

/**
 * Return the ends of the axis, in seconds since 1970.
 * @param {Snapshot} snapshot
 * @param {number} endS
 * @param {boolean} isStartZero
 * @returns {Axis}
 */
export function axisOf(snapshot, endS, isStartZero) {
  const of = (/** @type {(state: string) => boolean} */ wanted) =>
    replicasOf(snapshot).flatMap((one) =>
      (one.t ?? []).filter(([, state]) => wanted(state)).map(([at]) => at),
    );
  const all = of(() => true);
  const running = of((state) => state === "RUNNING");
  const created = Math.min(snapshot.created ?? Infinity, ...all, endS);
  const startS = isStartZero && running.length ? Math.min(...running) : created;
  return { startS, endS: Math.max(endS, startS + 1) };
}

/**
 * Return where a moment is on the axis.
 * @param {number} at
 * @param {Axis} axis
 */
export function share(at, axis) {
  return Math.min(1, Math.max(0, (at - axis.startS) / (axis.endS - axis.startS)));
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];

/**
 * Return at most four round moments of an axis, with short labels.
 * @param {Axis} axis
 */
export function ticks(axis) {
  const length = axis.endS - axis.startS;
  const days = 86400 * Math.max(1, Math.ceil(length / 86400 / 3));
  const step = STEPS.find((one) => length / one < 3) ?? days;
  const found = [];
  for (let at = 0; at <= length; at += step) {
    found.push({ at: at / length, label: at === 0 ? "0" : duration(at) });
  }
  return found;
}

/**
 * Return the parts of a lane: thin while the replica waits, thick while it runs.
 * @param {Replica} replica
 * @param {Axis} axis
 * @param {Tone} tone
 * @returns {Segment[]}
 */
export function segmentsOf(replica, axis, tone) {
  const times = replica.t ?? [];
  /** @type {Segment[]} */
  const found = [];
  times.forEach(([at, name], index) => {
    if (appState(name).isFinal) return;
    const isLast = index === times.length - 1;
    // The snapshot may have a state without its moment: such a lane ends where it was last seen.
    const isOver = isLast && appState(replica.state).isFinal;
    const end = isLast ? (isOver ? at : axis.endS) : times[index + 1][0];
    const isEarlierRun = times.slice(index + 2).some(([, later]) => later === "RUNNING");
    const from = share(at, axis);
    const to = share(end, axis);
    if (to <= from && end <= axis.startS) return;
    const isWait = name !== "RUNNING";
    found.push({ from, to, isWait, tone: isWait ? "queued" : isEarlierRun ? "retry" : tone });
  });
  return found;
}
