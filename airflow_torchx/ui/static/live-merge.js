/**
 * A snapshot with what Docker says now. Pure: no clock, no document, no request.
 *
 * The snapshot has the history and the texts; a look at Docker has newer states and usage.
 */

/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {import("./snapshot.js").Role} Role */
/** @typedef {import("./snapshot.js").Replica} Replica */
/** @typedef {{role: string, id: number, container: string, t: number, cpu_ns: number, mem: number,
 *   limit: number|null, rx: number, tx: number}} Counters */
/** @typedef {{t: number, cpu: number|null, mem: number}} Point */
/** @typedef {{live: Snapshot|null, seen: Map<string, number>, readings: Readings}} Look */

const MOST_POINTS = 60;
/** Readings of an hour, at one in 5 seconds. */
const MOST_READINGS = 720;
const INTERVAL_S = 5;

/** What replicas use, from the counters of two readings each. */
export class Readings {
  constructor() {
    /** @type {Map<string, Counters>} */
    this.last = new Map();
    /** @type {Map<string, Point[]>} */
    this.points = new Map();
  }

  /** @param {Counters[]} counters */
  add(counters) {
    for (const one of counters) {
      const key = `${one.role}/${one.id}`;
      const before = this.last.get(key);
      // Another reader's question may have had the same answer.
      if (before?.container === one.container && one.t <= before.t) continue;
      this.last.set(key, one);
      const point = { t: one.t, cpu: cpuOf(before, one), mem: one.mem };
      this.points.set(key, [...(this.points.get(key) ?? []), point].slice(-MOST_READINGS));
    }
  }

  /**
   * Return the points of a replica after a time, the highest of each interval.
   * @param {string} key like `trainer/0`
   * @param {number} sinceS
   * @param {number} intervalS
   * @returns {Point[]}
   */
  after(key, sinceS, intervalS) {
    /** @type {Map<number, Point>} */
    const found = new Map();
    for (const point of this.points.get(key) ?? []) {
      if (point.t <= sinceS) continue;
      const index = Math.floor((point.t - sinceS) / intervalS);
      const other = found.get(index);
      found.set(index, other ? higher(other, point) : point);
    }
    return [...found.values()];
  }
}

/**
 * Return how many CPUs were in use between two readings; null for a container's first one.
 * @param {Counters|undefined} before
 * @param {Counters} now
 */
function cpuOf(before, now) {
  if (before?.container !== now.container || now.cpu_ns < before.cpu_ns) return null;
  return (now.cpu_ns - before.cpu_ns) / 1e9 / (now.t - before.t);
}

/**
 * @param {Point} one
 * @param {Point} other
 */
function higher(one, other) {
  const cpu = one.cpu === null ? other.cpu : Math.max(one.cpu, other.cpu ?? 0);
  return { t: other.t, cpu, mem: Math.max(one.mem, other.mem) };
}

/**
 * Return a snapshot with newer states and usage of the same app.
 * @param {Snapshot} snapshot
 * @param {Look} look
 * @returns {Snapshot}
 */
export function merged(snapshot, look) {
  const { live } = look;
  const isNewer =
    live?.app_id === snapshot.app_id && (live?.observed_at ?? 0) >= (snapshot.observed_at ?? 0);
  const base = live && isNewer ? withStates(snapshot, live, look.seen) : snapshot;
  return { ...base, roles: (base.roles ?? []).map((role) => withUsage(role, snapshot, look.readings)) };
}

/**
 * @param {Snapshot} snapshot
 * @param {Snapshot} live
 * @param {Map<string, number>} seen
 * @returns {Snapshot}
 */
function withStates(snapshot, live, seen) {
  const known = new Map((snapshot.roles ?? []).map((role) => [role.name, role]));
  const roles = (live.roles ?? []).map((role) => {
    const before = known.get(role.name);
    known.delete(role.name);
    return before ? mergedRole(before, role, seen) : role;
  });
  return {
    ...snapshot,
    state: live.state,
    observed_at: live.observed_at,
    finished: live.finished,
    n_replicas: live.n_replicas,
    failure: snapshot.failure ?? live.failure,
    roles: [...roles, ...known.values()],
  };
}

/**
 * @param {Role} before
 * @param {Role} now
 * @param {Map<string, number>} seen
 * @returns {Role}
 */
function mergedRole(before, now, seen) {
  const replicas = new Map((before.replicas ?? []).map((one) => [one.id, one]));
  for (const one of now.replicas ?? []) {
    const known = replicas.get(one.id);
    const key = `${now.name}/${one.id}/${one.container}`;
    replicas.set(one.id, known ? mergedReplica(known, one, key, seen) : one);
  }
  const sorted = [...replicas.values()].sort((one, other) => (one.id ?? 0) - (other.id ?? 0));
  return { ...before, n: now.n, counts: now.counts, replicas: sorted };
}

/**
 * @param {Replica} before
 * @param {Replica} now
 * @param {string} key
 * @param {Map<string, number>} seen when each state was seen first: a list has no times
 * @returns {Replica}
 */
function mergedReplica(before, now, key, seen) {
  const last = before.t?.at(-1);
  const isSame = last?.[1] === now.state && before.container === now.container;
  const later = isSame ? [] : (now.t ?? []).filter(([atS]) => atS > (last?.[0] ?? 0));
  /** @type {Replica["t"]} */
  const added = later.map(([atS, state]) => {
    const name = `${key}/${state}`;
    if (!seen.has(name)) seen.set(name, atS);
    return [Math.min(atS, seen.get(name) ?? atS), state];
  });
  const { state, exit, signal, oom, stalled, round, restarts, container } = now;
  return {
    ...before,
    ...{ state, exit, signal, oom, stalled, round, container },
    restarts: Math.max(before.restarts ?? 0, restarts ?? 0),
    t: [...(before.t ?? []), ...added],
  };
}

/**
 * @param {Role} role
 * @param {Snapshot} snapshot
 * @param {Readings} readings
 * @returns {Role}
 */
function withUsage(role, snapshot, readings) {
  const replicas = (role.replicas ?? []).map((replica) => {
    const usage = replica.usage;
    const sinceS = usage ? (snapshot.observed_at ?? 0) : 0;
    const key = `${role.name}/${replica.id}`;
    const points = readings.after(key, sinceS, usage?.interval_s ?? INTERVAL_S);
    if (!points.length) return replica;
    const limit = readings.last.get(key)?.limit;
    const line = (/** @type {(number|null)[]|undefined} */ known, /** @type {(number|null)[]} */ now) =>
      [...(known ?? []), ...now].slice(-Math.max(MOST_POINTS, known?.length ?? 0));
    return {
      ...replica,
      limit: { ...(limit ? { mem: limit } : {}), ...replica.limit },
      peak: { ...replica.peak, mem: Math.max(replica.peak?.mem ?? 0, ...points.map((one) => one.mem)) },
      usage: {
        ...usage,
        cpu: line(usage?.cpu, points.map((one) => one.cpu)),
        mem: line(usage?.mem, points.map((one) => one.mem)),
      },
    };
  });
  return { ...role, replicas };
}
