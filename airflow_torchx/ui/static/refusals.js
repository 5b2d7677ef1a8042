/** Why Airflow does not show a task or the list, and what to do. */

import { HttpError } from "./api.js";

/** @type {Object<number, string>} */
const BY_STATUS = {
  401: "You are not logged in, or no longer. Log in to Airflow, and load this page again.",
  404: "Airflow does not know this task instance.",
};

/**
 * Return which right a reader lacks, by the path of the request that was refused.
 * @param {string} path below the API's root
 */
function missingRight(path) {
  if (path.includes("/xcomEntries")) {
    return "You may not read this task's XComs. Ask for the right to read XComs of its DAG.";
  }
  if (path.startsWith("dags/~/")) {
    return "You may not read task instances. Ask for the right to read those of a DAG.";
  }
  return "You may not read this task. Ask for the right to read its DAG, and task instances of that.";
}

/**
 * Return what a reader can do about a failed request.
 * @param {unknown} error
 */
export function refusalText(error) {
  if (error instanceof HttpError) {
    const text = error.status === 403 ? missingRight(error.path) : BY_STATUS[error.status];
    if (text) return text;
  }
  return `Airflow does not answer (${/** @type {Error} */ (error).message}). Trying again.`;
}
