/** Why an app failed, as sentences. */

import { clean, count, duration, size } from "./format.js";
import { parsed } from "./snapshot.js";

/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {import("./snapshot.js").Replica} Replica */
/** @typedef {import("./snapshot.js").Failure} Failure */
/** @typedef {{culprit: string, sentence: string, facts: string[], at: number|null,
 *   error: string, lines: string[], isCancel: boolean}} FailureView */

/**
 * Return what the card on the top of the page says; null for an app that did not fail.
 * @param {Snapshot} snapshot
 * @returns {FailureView|null}
 */
export function failureView(snapshot) {
  const failure = snapshot.failure;
  if (!failure) return null;
  const replica = culpritOf(snapshot);
  const culprit = failure.role === undefined ? "" : clean(`${failure.role}/${failure.id ?? 0}`);
  return {
    culprit,
    sentence: `${culprit || "The app"} ${verb(failure, replica)}${since(failure, replica)}.`,
    facts: facts(failure),
    at: failure.at ?? null,
    error: clean(failure.worker?.message || structured(failure.structured) || replica?.error),
    lines: (Array.isArray(failure.lines) ? failure.lines : []).map(clean),
    isCancel: failure.kind === "cancel",
  };
}

/**
 * Return the replica that brought the app down, if the snapshot has it.
 * @param {Snapshot} snapshot
 * @returns {Replica|undefined}
 */
export function culpritOf(snapshot) {
  const { role, id } = snapshot.failure ?? {};
  const found = (snapshot.roles ?? []).find((one) => one.name === role);
  return (found?.replicas ?? []).find((one) => one.id === id);
}

/**
 * @param {Failure} failure
 * @param {Replica|undefined} replica
 */
function verb(failure, replica) {
  const limit = replica?.limit?.mem;
  const exit = failure.worker?.exit ?? failure.exit ?? replica?.exit;
  const signal = failure.worker?.signal ?? failure.signal ?? replica?.signal;
  switch (failure.kind) {
    case "oom":
      return `ran out of memory${limit ? ` (limit ${size(limit)})` : ""}`;
    case "signal":
      return `was killed${signal ? ` by ${clean(signal)}` : " by a signal"}`;
    case "start":
      return "did not start";
    case "lost":
      return "is gone: its container was removed from the daemon";
    case "stalled":
      return "was stopped because the app made no progress";
    case "cancel":
      return "was cancelled";
    default:
      return signal
        ? `was killed by ${clean(signal)}`
        : `failed${typeof exit === "number" ? ` with exit code ${exit}` : ""}`;
  }
}

/**
 * @param {Failure} failure
 * @param {Replica|undefined} replica
 */
function since(failure, replica) {
  const started = (replica?.t ?? []).findLast(([, state]) => state === "RUNNING")?.[0];
  if (typeof failure.at !== "number" || started === undefined || failure.at < started) return "";
  return ` after ${duration(failure.at - started)}`;
}

/** @param {Failure} failure */
function facts(failure) {
  const found = [];
  if (typeof failure.worker?.rank === "number") found.push(`worker rank ${failure.worker.rank}`);
  if (failure.rule) found.push(`failure rule ${clean(failure.rule)}`);
  const peers = failure.peers_stopped ?? 0;
  if (peers > 0) found.push(`${count(peers, "peer")} stopped`);
  return found;
}

/**
 * Return the text of a structured error: TorchElastic's has a message in a message.
 * @param {unknown} error
 * @returns {string}
 */
function structured(error) {
  if (typeof error === "string") return error.startsWith("{") ? structured(parsed(error)) || error : error;
  if (typeof error !== "object" || error === null) return "";
  if ("message" in error) return structured(error.message);
  return JSON.stringify(error);
}
