/** CPU and memory of replicas: the points of sparklines, and which replica is odd. */

import { trimmed } from "./format.js";

/** @typedef {import("./snapshot.js").Role} Role */
/** @typedef {{points: string, limitY: number|null, label: string, isNear: boolean}} Sparkline */

export const WIDTH = 100;
export const HEIGHT = 20;
const NEAR = 0.9;

/**
 * Return a line in a box of `WIDTH` and `HEIGHT`, with the limit at the top; null without points.
 * @param {(number|null)[]|undefined} values
 * @param {number|null|undefined} limit
 * @param {string} label
 * @param {boolean} [isMemory] whether to come near the limit is a danger; for CPU it is the aim
 * @returns {Sparkline|null}
 */
export function sparkline(values, limit, label, isMemory = false) {
  const known = (values ?? []).filter(isNumber);
  if (!known.length) return label ? { points: "", limitY: null, label, isNear: false } : null;
  const highest = Math.max(...known);
  const top = Math.max(highest, limit ?? 0) || 1;
  return {
    // Most lanes of a large app are not drawn, and this is most of the work for them.
    get points() {
      return pointsOf(values ?? [], top);
    },
    limitY: limit ? y(limit, top) : null,
    label,
    isNear: isMemory && Boolean(limit) && highest >= NEAR * (limit ?? 0),
  };
}

/**
 * @param {(number|null)[]} values
 * @param {number} top
 */
function pointsOf(values, top) {
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.flatMap((value, index) =>
    isNumber(value) ? [`${trimmed(index * step, 1)},${trimmed(y(value, top), 1)}`] : [],
  );
  // One point has no line.
  if (points.length === 1) points.push(`${WIDTH},${points[0].split(",")[1]}`);
  return points.join(" ");
}

/**
 * @param {number} value
 * @param {number} top
 */
function y(value, top) {
  return HEIGHT - 1 - (value / top) * (HEIGHT - 2);
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

const RECENT = 4;
const MIN_REPLICAS = 4;
const DEVIATIONS = 3;

/**
 * Return the CPUs that a replica has used lately: the mean of its last points; null without one.
 * @param {import("./snapshot.js").Replica} replica
 */
export function recentCpus(replica) {
  const recent = (replica.usage?.cpu ?? []).filter(isNumber).slice(-RECENT);
  return recent.length ? recent.reduce((sum, one) => sum + one, 0) / recent.length : null;
}

/**
 * Return why replicas are odd, by their ids: those whose CPU use is more than three median absolute
 * deviations from the median of their role.
 *
 * A role with fewer than four running replicas has no odd one. A deviation of less than a tenth of
 * the median, or of a CPU, does not count: it is noise.
 * @param {Role} role
 * @returns {Map<number, string>}
 */
export function oddReplicas(role) {
  /** @type {[number, number][]} */
  const used = [];
  for (const [index, replica] of (role.replicas ?? []).entries()) {
    const recent = recentCpus(replica);
    if (replica.state === "RUNNING" && recent !== null) used.push([replica.id ?? index, recent]);
  }
  if (used.length < MIN_REPLICAS) return new Map();
  const middle = median(used.map(([, cpu]) => cpu));
  const deviation = median(used.map(([, cpu]) => Math.abs(cpu - middle)));
  const least = Math.max(DEVIATIONS * deviation, 0.1 * middle, 0.1);
  return new Map(
    used
      .filter(([, cpu]) => Math.abs(cpu - middle) > least)
      .map(([id, cpu]) => [id, `uses ${trimmed(cpu, 1)} CPUs, its role ${trimmed(middle, 1)}`]),
  );
}

/** @param {number[]} values at least one */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
