/** Why Airflow does not show a task, and what to do. */

import { HttpError } from "./api.js";

/** @type {Object<number, string>} */
const BY_STATUS = {
  401: "You are not logged in, or no longer. Log in to Airflow, and load this page again.",
  403: "You may not read this task's XComs. Ask for the right to read them.",
  404: "Airflow does not know this task instance.",
};

/**
 * Return what a reader can do about a failed request.
 * @param {unknown} error
 */
export function refusalText(error) {
  const status = error instanceof HttpError ? error.status : 0;
  return BY_STATUS[status] ?? `Airflow does not answer (${/** @type {Error} */ (error).message}). Trying again.`;
}
