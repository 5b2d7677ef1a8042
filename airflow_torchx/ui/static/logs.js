/** The log of one replica: from Docker while that can be read, else out of the task's log. */

import { HttpError, readLog } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { clean, count } from "./format.js";
import { LiveError, fetchLogPart } from "./live.js";

/** @typedef {import("./api.js").Task} Task */
/** @typedef {{task: Task, tryNumber: number, key: string, isLive: boolean, appId: string,
 *   handle: string|null}} Wanted the handle if the log of the container can be read */

const MAX_LINES = 1000;
const FOLLOW_S = 10;
const LIVE_S = 5;
// A task log with more events is read again only when the reader asks for it.
const MAX_FOLLOWED = 5000;

/**
 * Return the lines of a log event that are a replica's.
 *
 * Each line has the replica's name in front, and its round after a restart: `train/0 r1   text`.
 * @param {any} event
 * @param {string} key like `trainer/0`
 * @returns {string[]}
 */
export function linesOf(event, key) {
  const name = `${event?.role}/${event?.replica}`;
  if (name !== key || typeof event.event !== "string") return [];
  return event.event.split("\n").map((/** @type {string} */ line) => {
    if (!line.startsWith(name)) return clean(line);
    return clean(line.slice(name.length).replace(/^(?: r\d+)? */, ""));
  });
}

export class LogPane {
  constructor() {
    this.title = h("h3");
    this.note = h("p", { class: "muted", "aria-live": "polite" });
    this.text = h("pre", { tabindex: 0, role: "region", "aria-label": "Log of the replica" });
    this.reload = h("button", { type: "button" }, "Read again");
    this.node = h(
      "section",
      { class: "card log", hidden: true },
      h("div", { class: "bar" }, this.title, this.note, h("span", { class: "push" }, this.reload)),
      this.text,
    );
    this.reload.addEventListener("click", () => this.read());
    this.abort = new AbortController();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
    /** @type {Wanted|null} */
    this.shown = null;
    this.live = new LiveLines();
  }

  /**
   * Show the log of a replica; a live one is read again and again.
   * @param {Wanted|null} wanted
   */
  show(wanted) {
    const before = this.shown;
    this.shown = wanted;
    setAttribute(this.node, "hidden", !wanted);
    if (!wanted) return this.stop();
    setText(this.title, `Log of ${wanted.key}, try ${wanted.tryNumber}`);
    const isSame = before?.key === wanted.key && before.tryNumber === wanted.tryNumber;
    const isSameSource = before?.isLive === wanted.isLive && before.handle === wanted.handle;
    if (isSame && isSameSource) return undefined;
    if (!isSame) setText(this.text, "");
    this.live = new LiveLines();
    return this.read();
  }

  stop() {
    clearTimeout(this.timer);
    this.abort.abort();
  }

  read() {
    this.stop();
    const wanted = this.shown;
    if (!wanted || !this.node.isConnected) return;
    this.abort = new AbortController();
    const { signal } = this.abort;
    if (document.visibilityState === "hidden") return this.again(signal);
    if (!this.text.textContent) setText(this.note, "reading …");
    const isLive = wanted.isLive && wanted.handle !== null && !this.live.isGone;
    (isLive ? this.fillLive(wanted, signal) : this.fill(wanted, signal)).catch((error) => {
      if (signal.aborted) return;
      const isRefused = error instanceof HttpError && (error.status === 403 || error.status === 401);
      setText(this.note, isRefused ? "You may not read the log of this task." : `The log cannot be read: ${error.message}`);
      if (wanted.isLive) this.again(signal);
    });
  }

  /**
   * Add the newest lines of the container's log; without them, show the task's log.
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   */
  async fillLive(wanted, signal) {
    const { live } = this;
    try {
      await live.read(wanted, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof LiveError)) throw error;
      live.isGone = error.status < 500;
      if (live.isGone || !live.lines.length) return this.fill(wanted, signal, `${error.reason}; `);
      setText(this.note, `${error.reason}; trying again`);
      return this.again(signal, LIVE_S);
    }
    if (signal.aborted) return undefined;
    this.put(live.lines);
    setText(this.note, live.note);
    return this.again(signal, LIVE_S);
  }

  /**
   * Show lines; a reader who is at the end stays there.
   * @param {string[]} lines
   */
  put(lines) {
    const isAtEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 4;
    setText(this.text, lines.join("\n"));
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {string} [why] the lines are not those of the container
   */
  async fill(wanted, signal, why = "") {
    /** @type {string[]} */
    let lines = [];
    let total = 0;
    let events = 0;
    for await (const event of readLog(wanted.task, wanted.tryNumber, signal)) {
      const own = linesOf(event, wanted.key);
      events += 1;
      total += own.length;
      lines.push(...own);
      if (lines.length > 2 * MAX_LINES) lines = lines.slice(-MAX_LINES);
    }
    if (signal.aborted) return;
    lines = lines.slice(-MAX_LINES);
    this.put(lines);
    const isCut = total > lines.length;
    const isFollowed = wanted.isLive && events <= MAX_FOLLOWED;
    const note = isCut ? `the last ${lines.length} of ${total} lines` : total ? count(total, "line") : empty(wanted.isLive);
    setText(this.note, why + (wanted.isLive && !isFollowed ? `${note}; the task log is too long to follow` : note));
    if (isFollowed) this.again(signal);
  }

  /**
   * @param {AbortSignal} signal
   * @param {number} [waitS]
   */
  again(signal, waitS = FOLLOW_S) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => signal.aborted || this.read(), waitS * 1000);
  }
}

/** The last lines of a container's log, read part by part. */
class LiveLines {
  constructor() {
    /** @type {string[]} */
    this.lines = [];
    this.isCut = false;
    /** @type {string|null} */
    this.since = null;
    this.isGone = false;
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   */
  async read({ task, key, handle, appId }, signal) {
    const wanted = { handle: handle ?? "", key, since: this.since, tail: MAX_LINES };
    const part = await fetchLogPart(task, wanted, signal);
    // An answer for another app, of a page that has moved on.
    if (part.appId !== appId) return;
    const lines = [...this.lines, ...part.lines.map(clean)];
    this.isCut ||= part.leftOut > 0 || lines.length >= MAX_LINES;
    this.lines = lines.slice(-MAX_LINES);
    this.since = part.since ?? this.since;
  }

  get note() {
    if (!this.lines.length) return "No lines yet.";
    return this.isCut ? `the last ${this.lines.length} lines, from Docker` : `${count(this.lines.length, "line")}, from Docker`;
  }
}

/** @param {boolean} isLive */
function empty(isLive) {
  return isLive
    ? "No lines yet. A deferred task copies them when the app has ended."
    : "The task log has no lines of this replica.";
}
