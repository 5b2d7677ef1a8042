/** States as a word, a glyph and a tone: colour alone is not enough. */

import { clean } from "./format.js";

/** @typedef {"queued"|"running"|"success"|"failed"|"removed"|"unknown"|"retry"} Tone */
/** @typedef {{word: string, glyph: string, tone: Tone, isFinal: boolean}} State */

/** @type {Object<string, State>} */
const APP = {
  UNSUBMITTED: { word: "not submitted", glyph: "○", tone: "queued", isFinal: false },
  SUBMITTED: { word: "submitted", glyph: "○", tone: "queued", isFinal: false },
  PENDING: { word: "pending", glyph: "◔", tone: "queued", isFinal: false },
  RUNNING: { word: "running", glyph: "▶", tone: "running", isFinal: false },
  SUCCEEDED: { word: "succeeded", glyph: "✓", tone: "success", isFinal: true },
  FAILED: { word: "failed", glyph: "✕", tone: "failed", isFinal: true },
  CANCELLED: { word: "cancelled", glyph: "–", tone: "removed", isFinal: true },
};

/** @type {Object<string, State>} */
const TASK = {
  scheduled: { word: "scheduled", glyph: "○", tone: "queued", isFinal: false },
  queued: { word: "queued", glyph: "○", tone: "queued", isFinal: false },
  running: { word: "running", glyph: "▶", tone: "running", isFinal: false },
  deferred: { word: "deferred", glyph: "▶", tone: "running", isFinal: false },
  restarting: { word: "restarting", glyph: "↻", tone: "retry", isFinal: false },
  up_for_retry: { word: "up for retry", glyph: "↻", tone: "retry", isFinal: false },
  up_for_reschedule: { word: "up for reschedule", glyph: "↻", tone: "retry", isFinal: false },
  success: { word: "success", glyph: "✓", tone: "success", isFinal: true },
  failed: { word: "failed", glyph: "✕", tone: "failed", isFinal: true },
  upstream_failed: { word: "upstream failed", glyph: "✕", tone: "removed", isFinal: true },
  skipped: { word: "skipped", glyph: "–", tone: "removed", isFinal: true },
  removed: { word: "removed", glyph: "–", tone: "removed", isFinal: true },
};

/** The states of a task by which the list can be filtered. */
export const TASK_STATES = Object.keys(TASK);

/**
 * Return how a state of an app or a replica is shown.
 * @param {string|undefined} name
 * @returns {State}
 */
export function appState(name) {
  if (name && Object.hasOwn(APP, name)) return APP[name];
  return { word: clean(name ?? "unknown").toLowerCase(), glyph: "?", tone: "unknown", isFinal: false };
}

/**
 * Return how a state of a task is shown; null is one that the scheduler has not seen yet.
 * @param {string|null|undefined} name
 * @returns {State}
 */
export function taskState(name) {
  if (name && Object.hasOwn(TASK, name)) return TASK[name];
  return { word: clean(name || "no state"), glyph: "○", tone: "queued", isFinal: false };
}

/**
 * Return whether the app of a task may run.
 * @param {{state: string|null}|null} instance
 */
export function isLive(instance) {
  return ["running", "deferred"].includes(instance?.state ?? "");
}
