/** An app in a few words: counts, tiles, and what a reader has to know about the snapshot. */

import { count, duration } from "./format.js";
import { SCHEMA, replicasOf, rolesOf } from "./snapshot.js";
import { appState, taskState } from "./states.js";

/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {import("./snapshot.js").Role} Role */

/**
 * Return how many replicas of a role have each state.
 * @param {Role} role
 * @returns {Object<string, number>}
 */
function tally(role) {
  if (role.counts) return role.counts;
  /** @type {Object<string, number>} */
  const found = {};
  for (const { state = "UNKNOWN" } of role.replicas ?? []) found[state] = (found[state] ?? 0) + 1;
  return found;
}

/** @param {Object<string, number>} tallied */
function inWords(tallied) {
  return Object.entries(tallied)
    .filter(([, n]) => n > 0)
    .map(([state, n]) => `${n} ${appState(state).word}`);
}

/**
 * Return the states of the replicas of a role, like `3 running, 1 failed`.
 * @param {Role} role
 */
export function counts(role) {
  return inWords(tally(role)).join(", ");
}

/**
 * Return the states of all replicas.
 * @param {Snapshot} snapshot
 */
export function summary(snapshot) {
  /** @type {Object<string, number>} */
  const all = {};
  for (const role of rolesOf(snapshot)) {
    for (const [state, n] of Object.entries(tally(role))) all[state] = (all[state] ?? 0) + n;
  }
  const total = snapshot.n_replicas ?? replicasOf(snapshot).length;
  return [count(total, "replica"), ...inWords(all)].join(" · ");
}

/**
 * Return the durations that answer a question of this app.
 * @param {Snapshot} snapshot
 * @param {number} endS
 */
export function tiles(snapshot, endS) {
  const starts = replicasOf(snapshot).flatMap((one) => {
    const first = (one.t ?? []).find(([, state]) => state === "RUNNING");
    return first ? [first[0]] : [];
  });
  const found = [];
  if (starts.length) {
    const first = Math.min(...starts);
    const label = appState(snapshot.state).isFinal ? "Ran for" : "Running for";
    found.push({ label, value: duration(endS - first) });
    if (typeof snapshot.created === "number" && first > snapshot.created) {
      found.push({ label: "Launch", value: duration(first - snapshot.created) });
    }
    if (starts.length > 1) {
      found.push({ label: "First to last start", value: duration(Math.max(...starts) - first) });
    }
  }
  const restarts = restartText(snapshot);
  if (restarts) found.push({ label: "Restarts", value: restarts });
  return found;
}

/**
 * Return how often an app was restarted: in rounds, each of which may be of all replicas, and by the
 * daemon, which restarts one.
 * @param {Snapshot} snapshot
 */
function restartText(snapshot) {
  const replicas = replicasOf(snapshot);
  const rounds = Math.max(0, ...replicas.map((one) => one.round ?? 0));
  const byDaemon = replicas.reduce((sum, one) => sum + Math.max(0, (one.restarts ?? 0) - (one.round ?? 0)), 0);
  const parts = [rounds ? count(rounds, "round") : "", byDaemon ? `${byDaemon} by Docker` : ""];
  return parts.filter(Boolean).join(", ");
}

/**
 * Return what a reader has to know about a snapshot.
 * @param {Snapshot} snapshot
 * @param {string|null|undefined} ofTask
 */
export function notes(snapshot, ofTask) {
  const found = [];
  if ((snapshot.schema ?? SCHEMA) > SCHEMA) {
    found.push("A newer version of airflow_torchx wrote this snapshot. Some of it may not be shown.");
  }
  const shown = replicasOf(snapshot).length;
  const total = snapshot.n_replicas ?? shown;
  if (shown < total) found.push(`Showing ${shown} of ${count(total, "replica")}; the counts are complete.`);
  if (!appState(snapshot.state).isFinal && taskState(ofTask).isFinal) {
    found.push(
      `The task ended as ${taskState(ofTask).word}, but its last snapshot says ${appState(snapshot.state).word}: ` +
        "the app is being stopped, or the process that wrote it has ended without another one.",
    );
  }
  return found;
}
