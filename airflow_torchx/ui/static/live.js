/** Live data of a running app, which the API server reads from Docker where the site allows that. */

import { HttpError } from "./api.js";
import { clean } from "./format.js";
import { Readings, merged } from "./live-merge.js";
import { Poller } from "./poll.js";
import { readSnapshot } from "./snapshot.js";

/** @typedef {import("./api.js").Task} Task */
/** @typedef {import("./snapshot.js").Snapshot} Snapshot */
/** @typedef {{lines: string[], since: string|null, leftOut: number, appId: string}} LogPart */

/** The first CPU use needs two readings. */
const FIRST_S = 2;
const PAUSE_S = 5;

/** An answer that is not a success, with the server's reason. */
export class LiveError extends HttpError {
  /**
   * @param {number} status
   * @param {string} reason
   */
  constructor(status, reason) {
    super(status);
    this.reason = reason;
  }
}

/**
 * Whether the API server reads from Docker; asked once in the life of the host's page.
 * @type {Promise<boolean>|null}
 */
let allowed = null;

function isAllowed() {
  allowed ??= get("features", {}).then(
    async (response) => (await response.json()).docker_access === true,
    (error) => {
      // Without an answer, it is not known.
      if (!(error instanceof HttpError)) allowed = null;
      return false;
    },
  );
  return allowed;
}

/**
 * @param {string} path below the page's prefix
 * @param {Object<string, string|number>} query
 * @param {AbortSignal} [signal]
 */
async function get(path, query, signal) {
  const url = new URL(`torchx/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  const response = await fetch(url, { credentials: "same-origin", signal });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const reason = typeof body?.detail === "string" ? clean(body.detail) : `status ${response.status}`;
  throw new LiveError(response.status, reason);
}

/**
 * @param {Task} task
 * @param {string} route
 */
function pathOf({ dagId, runId, taskId, mapIndex }, route) {
  const [dag, run, name] = [dagId, runId, taskId].map(encodeURIComponent);
  return `api/v1/${dag}/${run}/${name}/${mapIndex}/${route}`;
}

/**
 * Return a part of the log of a replica's container.
 * @param {Task} task
 * @param {{handle: string, key: string, since: string|null, tail: number}} wanted
 * @param {AbortSignal} signal
 * @returns {Promise<LogPart>}
 */
export async function fetchLogPart(task, { handle, key, since, tail }, signal) {
  const slash = key.lastIndexOf("/");
  const query = { handle, role: key.slice(0, slash), replica: key.slice(slash + 1), tail };
  const response = await get(pathOf(task, "logs"), since ? { ...query, since } : query, signal);
  const lines = (await response.text()).split("\n");
  lines.pop();
  return {
    lines,
    since: response.headers.get("X-TorchX-Since"),
    leftOut: Number(response.headers.get("X-TorchX-Left-Out") ?? 0),
    appId: decodeURIComponent(response.headers.get("X-TorchX-App-Id") ?? ""),
  };
}

/**
 * Return that usage is not of all running replicas; an empty text if it is.
 * @param {{running?: number, asked?: number}} stats
 */
function cutText({ running = 0, asked = running }) {
  return asked < running ? `Live usage of ${asked} of ${running} running replicas.` : "";
}

/** Follows one app while it runs, and adds what Docker says to its snapshots. */
export class LiveData {
  /**
   * @param {Task} task
   * @param {() => void} onChange
   */
  constructor(task, onChange) {
    this.task = task;
    this.onChange = onChange;
    /** @type {{appId: string, handle: string}|null} */
    this.app = null;
    /** @type {Snapshot|null} */
    this.live = null;
    /** Whether the API server answers for this app. */
    this.isOn = false;
    this.note = "";
    this.readings = new Readings();
    /** @type {Map<string, number>} */
    this.seen = new Map();
    this.poller = new Poller(
      (signal) => this.ask(signal),
      (error) => this.fail(error),
    );
  }

  /**
   * Follow the app of a snapshot; null ends that.
   * @param {Snapshot|null} snapshot
   */
  follow(snapshot) {
    const { app_id: appId, handle } = snapshot ?? {};
    if (this.app?.appId === appId) return;
    this.poller.stop();
    this.app = appId && handle ? { appId, handle } : null;
    this.live = null;
    this.isOn = false;
    this.note = "";
    this.readings = new Readings();
    this.seen = new Map();
    if (this.app) this.poller.start();
  }

  /** @param {AbortSignal} signal */
  async ask(signal) {
    const { app } = this;
    if (!app || !(await isAllowed())) {
      if (allowed) this.poller.stop();
      return PAUSE_S;
    }
    const [state, stats] = await Promise.all(
      ["live", "stats"].map(async (route) =>
        (await get(pathOf(this.task, route), { handle: app.handle }, signal)).json(),
      ),
    );
    if (this.app !== app || state.app_id !== app.appId || stats.app_id !== app.appId) return PAUSE_S;
    this.live = readSnapshot(state.snapshot);
    this.isOn = this.live !== null;
    this.note = this.isOn
      ? cutText(stats)
      : "Docker has no containers of this app any more. The page shows its last snapshot.";
    const isFirst = this.readings.last.size === 0;
    this.readings.add(stats.replicas ?? []);
    this.onChange();
    return isFirst ? FIRST_S : PAUSE_S;
  }

  /** @param {unknown} error */
  fail(error) {
    const status = error instanceof HttpError ? error.status : 0;
    const reason = error instanceof LiveError ? error.reason : "the API server does not answer";
    this.note = `No live data: ${reason}. Trying again.`;
    // Without the right, each further request would be refused, too.
    if (status === 401 || status === 403) {
      this.poller.stop();
      this.isOn = false;
      this.note = "";
    }
    this.onChange();
  }

  /**
   * Return a snapshot with what Docker says of its app.
   * @param {Snapshot} snapshot
   */
  applied(snapshot) {
    return snapshot.app_id === this.app?.appId ? merged(snapshot, this) : snapshot;
  }

  /** The handle of an app whose containers can be read; null without one. */
  get handle() {
    return this.isOn ? (this.app?.handle ?? null) : null;
  }

  stop() {
    this.poller.stop();
  }
}
