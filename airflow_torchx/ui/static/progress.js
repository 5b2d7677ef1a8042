/** How far an app is, and when it may be done. */

import { clean, duration, measured } from "./format.js";
import { appState } from "./states.js";

/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {import("./snapshot.js").Progress} Progress */
/** @typedef {{share: number|null, label: string, left: string, tone: import("./states.js").Tone}} ProgressView */

const METRICS = 6;
/** A worker reports more often; the snapshots of a deferred task are a minute apart. */
const OLD_S = 30;

/**
 * Return the progress of an app; null if its program reports none.
 * @param {Snapshot} snapshot
 * @param {number} nowS
 * @param {boolean} isOver whether the task has ended, also if its last snapshot says that the app runs
 * @returns {ProgressView|null}
 */
export function progressView(snapshot, nowS, isOver = false) {
  const progress = snapshot.progress;
  if (!progress || typeof progress.step !== "number") return null;
  const { step, total } = progress;
  const isBounded = typeof total === "number" && total > 0;
  const metrics = Object.entries(progress.metrics ?? {})
    .slice(0, METRICS)
    .map(([name, value]) => `${clean(name)} ${measured(value)}`);
  const steps = isBounded ? `step ${step} of ${total}` : `step ${step}`;
  const state = appState(snapshot.state);
  const isDone = state.isFinal || isOver;
  const left = isDone ? 0 : secondsLeft(progress, nowS);
  const ageS = isDone ? 0 : nowS - (progress.at ?? nowS);
  return {
    share: isBounded ? Math.min(1, Math.max(0, step / total)) : null,
    label: [steps, ...metrics].join(", "),
    left: [
      left === 0 ? "" : `about ${duration(rounded(left))} left`,
      ageS < OLD_S ? "" : `reported ${duration(rounded(ageS))} ago`,
    ]
      .filter(Boolean)
      .join(", "),
    // A bar is not red: it does not say who failed.
    tone: state.tone === "failed" ? "removed" : state.tone,
  };
}

/**
 * Return the estimated seconds until the last step; 0 if they are unknown, or over.
 * @param {Progress} progress
 * @param {number} nowS
 */
function secondsLeft({ at, eta_s: eta }, nowS) {
  return Math.max(0, (eta ?? 0) - (nowS - (at ?? nowS)));
}

/**
 * Round an estimate of minutes to minutes: it is not more exact.
 * @param {number} seconds
 */
function rounded(seconds) {
  return seconds < 600 ? seconds : Math.round(seconds / 60) * 60;
}
