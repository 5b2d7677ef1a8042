/** The last snapshot of a try, which a worker keeps in the state store beside its XCom. */

import { HttpError, fetchEarlier } from "./api.js";
import { newer, readSnapshot } from "./snapshot.js";
import { appState, taskState } from "./states.js";

/** @typedef {import("./api.js").Task} Task */
/** @typedef {import("./api.js").TaskInstance} TaskInstance */
/** @typedef {import("./snapshot.js").Snapshot} Snapshot */

/**
 * Return whether a later snapshot may have been overwritten: an XCom that a triggerer writes late
 * takes the place of the worker's last one.
 * @param {Snapshot|null} snapshot
 * @param {TaskInstance} instance
 */
export function mayBeOld(snapshot, instance) {
  if (!taskState(instance.state).isFinal) return false;
  return !snapshot || snapshot.writer === "trigger" || !appState(snapshot.state).isFinal;
}

/** The snapshots that are kept of one task; each try is asked for once. */
export class Kept {
  /** @param {Task} task */
  constructor(task) {
    this.task = task;
    this.asked = 0;
    /** @type {Snapshot|null} */
    this.last = null;
  }

  /**
   * Return the newer one of the XCom's snapshot and the one that is kept.
   * @param {Snapshot|null} snapshot
   * @param {TaskInstance} instance
   * @param {AbortSignal} signal
   */
  async newest(snapshot, instance, signal) {
    if (!mayBeOld(snapshot, instance)) return snapshot;
    if (this.asked !== instance.try_number) {
      this.last = await this.ask(instance.try_number, signal);
      this.asked = instance.try_number;
    }
    return this.last ? newer(snapshot, this.last) : snapshot;
  }

  /**
   * @param {number} tryNumber
   * @param {AbortSignal} signal
   */
  async ask(tryNumber, signal) {
    try {
      return readSnapshot((await fetchEarlier(this.task, signal)).get(tryNumber));
    } catch (error) {
      if (error instanceof HttpError && error.status < 500) return null;
      throw error;
    }
  }
}
