/** The page of one task instance: its app, the tries before, and the log of a replica. */

import * as api from "./api.js";
import { Attempts, FailureCard, ProgressBar, StopDialog } from "./cards.js";
import { Keyed, h, setAttribute, setText } from "./dom.js";
import { clean, count, duration } from "./format.js";
import { Kept } from "./kept.js";
import { Lanes, StateMark } from "./lanes.js";
import { LiveData } from "./live.js";
import { LogPane } from "./logs.js";
import { appView } from "./model.js";
import { Poller } from "./poll.js";
import { refusalText } from "./refusals.js";
import { isOf, newer, readSnapshot } from "./snapshot.js";
import { failureView } from "./failure.js";
import { appState, isLive, taskState } from "./states.js";

/** @typedef {import("./api.js").Task} Task */
/** @typedef {import("./snapshot.js").Snapshot} Snapshot */

const CHANGING_S = 2;
const RUNNING_S = 5;
const FINISHED_S = 30;
/** How long after a change the next one is expected soon. */
const CHANGED_FOR_MS = 10_000;
/** How long after the end of its task an app may still be stopped, by its trigger. */
const ENDING_FOR_MS = 120_000;

export class AppPage {
  /** @param {Task} task */
  constructor(task) {
    this.task = task;
    this.kept = new Kept(task);
    /** @type {api.TaskInstance|null} */
    this.instance = null;
    /** @type {Snapshot|null} */
    this.current = null;
    /** @type {Map<number, Snapshot>} */
    this.earlier = new Map();
    /** @type {api.TaskInstance[]} */
    this.tries = [];
    /** @type {number|null} */
    this.chosenTry = null;
    /** @type {string|null} */
    this.selected = null;
    this.isStartZero = false;
    this.changedMs = 0;
    /** @type {boolean|null} */
    this.mayStop = null;
    this.nowS = 0;
    this.title = h("h2");
    this.state = new StateMark();
    this.summary = h("span", { class: "muted" });
    this.stopButton = h("button", { type: "button", class: "danger push", hidden: true }, "Stop app …");
    this.connection = h("p", { class: "note", role: "status", hidden: true });
    this.liveNote = h("p", { class: "note", role: "status", hidden: true });
    this.live = new LiveData(task, () => this.draw());
    this.empty = h("p", { class: "card" }, "Loading …");
    this.notes = h("ul", { class: "stack" });
    this.tiles = h("dl", { class: "tiles" });
    this.axis = h("button", { type: "button", "aria-pressed": "false" }, "Axis from the first start");
    this.failure = new FailureCard((key) => this.select(key));
    this.progress = new ProgressBar();
    this.attempts = new Attempts((number) => this.choose(number));
    this.lanes = new Lanes((key) => this.select(key));
    this.log = new LogPane();
    this.dialog = new StopDialog(() => this.stop());
    this.body = h(
      "div",
      { class: "stack", hidden: true },
      h("div", { class: "bar" }, this.title, h("span", { "aria-live": "polite" }, this.state.node), this.summary, this.stopButton),
      this.attempts.node,
      this.notes,
      this.liveNote,
      this.failure.node,
      this.progress.node,
      h("div", { class: "bar" }, this.tiles, h("span", { class: "push" }, this.axis)),
      this.lanes.node,
      this.log.node,
    );
    this.node = h("div", { class: "stack" }, this.connection, this.empty, this.body, this.dialog.node);
    this.keyedNotes = new Keyed(
      this.notes,
      (/** @type {string} */ note) => note,
      (note) => ({ node: h("li", { class: "note" }, note), update: () => {} }),
    );
    this.keyedTiles = new Keyed(
      this.tiles,
      (/** @type {{label: string, value: string}} */ tile) => tile.label,
      (tile) => {
        const value = h("dd");
        return {
          node: h("div", {}, h("dt", {}, tile.label), value),
          update: (one) => setText(value, one.value),
        };
      },
    );
    this.axis.addEventListener("click", () => {
      this.isStartZero = !this.isStartZero;
      setAttribute(this.axis, "aria-pressed", String(this.isStartZero));
      this.draw();
    });
    this.stopButton.addEventListener("click", () => {
      const total = this.current?.n_replicas ?? 0;
      this.dialog.ask(`${count(total, "replica")} of ${clean(this.current?.app_id)}`);
    });
    this.poller = new Poller(
      (signal) => this.ask(signal),
      (error, ageS) => this.showError(error, ageS),
    );
  }

  start() {
    this.poller.start();
  }

  stopped() {
    this.poller.stop();
    this.live.stop();
    this.log.stop();
  }

  /**
   * Ask Airflow for the task and its snapshot, draw them, and return when to ask again.
   * @param {AbortSignal} signal
   */
  async ask(signal) {
    const { data: instance, serverS } = await api.fetchInstance(this.task, signal);
    const isOurs = api.runsApp(instance);
    const value = isOurs || this.current ? await api.fetchSnapshot(this.task, this.current !== null, signal) : null;
    await this.askForTries(instance, signal);
    if (this.mayStop === null && isOurs && isLive(instance)) {
      this.mayStop = await api.mayStop(this.task, signal);
    }
    const found = readSnapshot(value);
    const snapshot = isOurs ? await this.kept.newest(found, instance, signal) : found;
    const before = this.current;
    this.current = snapshot && isOf(snapshot, this.task) ? newer(before, snapshot) : null;
    const hasChanged = this.current?.seq !== before?.seq || instance.state !== this.instance?.state;
    if (hasChanged) this.changedMs = Date.now();
    this.instance = instance;
    this.nowS = serverS;
    this.live.follow(isLive(instance) && !this.current?.finished ? this.current : null);
    setAttribute(this.connection, "hidden", true);
    this.draw();
    return this.pause();
  }

  /**
   * @param {api.TaskInstance} instance
   * @param {AbortSignal} signal
   */
  async askForTries(instance, signal) {
    const isKnown = instance.try_number === this.instance?.try_number && instance.state === this.instance?.state;
    if (instance.try_number < 2 || isKnown) return;
    const [tries, earlier] = await Promise.all([
      api.fetchTries(this.task, signal),
      api.fetchEarlier(this.task, signal),
    ]);
    this.tries = tries;
    for (const [number, value] of earlier) {
      const snapshot = readSnapshot(value);
      if (snapshot) this.earlier.set(number, snapshot);
    }
  }

  pause() {
    const unchangedMs = Date.now() - this.changedMs;
    const isOver = !this.current || appState(this.current.state).isFinal || unchangedMs > ENDING_FOR_MS;
    if (taskState(this.instance?.state).isFinal && isOver) return FINISHED_S;
    return unchangedMs < CHANGED_FOR_MS ? CHANGING_S : RUNNING_S;
  }

  /**
   * @param {unknown} error
   * @param {number|null} ageS
   */
  showError(error, ageS) {
    const age = ageS !== null && this.instance ? ` What is shown is ${duration(ageS)} old.` : "";
    setAttribute(this.connection, "hidden", false);
    setText(this.connection, refusalText(error) + age);
    if (!this.instance) setAttribute(this.empty, "hidden", true);
  }

  /** Return the try that is shown. */
  shownTry() {
    return this.chosenTry ?? this.instance?.try_number ?? 1;
  }

  shown() {
    if (this.chosenTry === null) return this.current && this.live.applied(this.current);
    return this.earlier.get(this.chosenTry) ?? null;
  }

  /** Draw what is known; a fault in it is one line of this page, and never reaches the host's. */
  draw() {
    try {
      this.drawShown();
    } catch (error) {
      setAttribute(this.connection, "hidden", false);
      setText(this.connection, `This app cannot be drawn: ${/** @type {Error} */ (error).message}`);
    }
  }

  drawShown() {
    const snapshot = this.shown();
    const isCurrent = this.chosenTry === null;
    setAttribute(this.body, "hidden", !snapshot && this.earlier.size === 0);
    setAttribute(this.empty, "hidden", snapshot !== null);
    if (!snapshot) setText(this.empty, this.emptyText());
    this.attempts.update(this.attemptViews());
    for (const part of [this.lanes.node, this.tiles, this.axis]) setAttribute(part, "hidden", !snapshot);
    if (!snapshot) return;
    const state = isCurrent ? this.instance?.state : "failed";
    const nowS = Math.max(this.nowS, this.live.live?.observed_at ?? 0);
    const view = appView(snapshot, { nowS, taskState: state, isStartZero: this.isStartZero });
    setText(this.title, view.appId);
    this.state.update(view);
    setText(this.summary, view.summary);
    setAttribute(this.stopButton, "hidden", !(this.mayStop && isCurrent && isLive(this.instance) && !view.isFinal));
    this.keyedNotes.update(view.notes);
    setText(this.liveNote, isCurrent ? this.live.note : "");
    setAttribute(this.liveNote, "hidden", !this.liveNote.textContent);
    this.keyedTiles.update(view.tiles);
    this.failure.update(view.failure);
    this.progress.update(view.progress);
    this.lanes.update(view, this.selected);
    this.log.show(this.wantedLog(snapshot));
  }

  /**
   * @param {Snapshot} snapshot
   * @returns {import("./logs.js").Wanted|null}
   */
  wantedLog(snapshot) {
    if (!this.selected) return null;
    const isCurrent = this.chosenTry === null;
    return {
      task: this.task,
      tryNumber: this.shownTry(),
      key: this.selected,
      isLive: isCurrent && isLive(this.instance),
      appId: snapshot.app_id ?? "",
      handle: isCurrent ? this.live.handle : null,
    };
  }

  emptyText() {
    const instance = this.instance;
    if (!instance) return "Loading …";
    if (!api.runsApp(instance)) {
      return "This task does not run a TorchX app. The page shows tasks of TorchXDockerOperator and @task.torchx.";
    }
    const { word, isFinal } = taskState(instance.state);
    return isFinal
      ? `The task is ${word} and has no snapshot of an app: it ended before a launch, or an older version ran it.`
      : `No app yet. The task is ${word}.`;
  }

  /** @returns {import("./cards.js").Attempt[]} */
  attemptViews() {
    const last = this.instance?.try_number ?? 1;
    return this.tries.map((one) => {
      const isLast = one.try_number === last;
      const snapshot = isLast ? this.current : this.earlier.get(one.try_number);
      const { word, glyph, tone } = snapshot ? appState(snapshot.state) : taskState(one.state);
      return {
        number: one.try_number,
        word,
        glyph,
        tone,
        why: (snapshot && failureView(snapshot)?.sentence) || "",
        isShown: one.try_number === this.shownTry(),
        isKnown: isLast || Boolean(snapshot),
      };
    });
  }

  /** @param {number} number */
  choose(number) {
    this.chosenTry = number === this.instance?.try_number ? null : number;
    this.draw();
  }

  /** @param {string} key */
  select(key) {
    this.selected = this.selected === key ? null : key;
    this.draw();
    if (this.selected) this.log.node.scrollIntoView({ block: "nearest" });
  }

  async stop() {
    await api.stopTask(this.task);
    this.poller.now();
  }
}
