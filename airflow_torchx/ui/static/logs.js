/** The log of one replica, out of the task's log. */

import { HttpError, readLog } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { clean, count } from "./format.js";

/** @typedef {import("./api.js").Task} Task */

const MAX_LINES = 1000;
const FOLLOW_S = 10;
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
    /** @type {{task: Task, tryNumber: number, key: string, isLive: boolean}|null} */
    this.shown = null;
  }

  /**
   * Show the log of a replica; a live one is read again and again.
   * @param {{task: Task, tryNumber: number, key: string, isLive: boolean}|null} wanted
   */
  show(wanted) {
    const before = this.shown;
    this.shown = wanted;
    setAttribute(this.node, "hidden", !wanted);
    if (!wanted) return this.stop();
    setText(this.title, `Log of ${wanted.key}, try ${wanted.tryNumber}`);
    const isSame = before?.key === wanted.key && before.tryNumber === wanted.tryNumber;
    if (isSame && before.isLive === wanted.isLive) return undefined;
    if (!isSame) setText(this.text, "");
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
    setText(this.note, "reading …");
    this.fill(wanted, signal).catch((error) => {
      if (signal.aborted) return;
      const isRefused = error instanceof HttpError && (error.status === 403 || error.status === 401);
      setText(this.note, isRefused ? "You may not read the log of this task." : `The log cannot be read: ${error.message}`);
      if (wanted.isLive) this.again(signal);
    });
  }

  /**
   * @param {{task: Task, tryNumber: number, key: string, isLive: boolean}} wanted
   * @param {AbortSignal} signal
   */
  async fill(wanted, signal) {
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
    const isAtEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 4;
    setText(this.text, lines.join("\n"));
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
    const isCut = total > lines.length;
    const isFollowed = wanted.isLive && events <= MAX_FOLLOWED;
    const note = isCut ? `the last ${lines.length} of ${total} lines` : total ? count(total, "line") : empty(wanted.isLive);
    setText(this.note, wanted.isLive && !isFollowed ? `${note}; the task log is too long to follow` : note);
    if (isFollowed) this.again(signal);
  }

  /** @param {AbortSignal} signal */
  again(signal) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => signal.aborted || this.read(), FOLLOW_S * 1000);
  }
}

/** @param {boolean} isLive */
function empty(isLive) {
  return isLive
    ? "No lines yet. A deferred task copies them when the app has ended."
    : "The task log has no lines of this replica.";
}
