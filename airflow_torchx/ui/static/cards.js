/** The parts above the lanes: failure, progress, attempts. */

import { Keyed, h, setAttribute, setText, setVariable } from "./dom.js";
import { moment } from "./format.js";
import { StateMark } from "./lanes.js";

/** @typedef {import("./failure.js").FailureView} FailureView */
/** @typedef {import("./progress.js").ProgressView} ProgressView */
/** @typedef {{number: number, word: string, glyph: string, tone: string, why: string,
 *   isShown: boolean, isKnown: boolean}} Attempt */

/** Who failed first, when and why, with the last lines. */
export class FailureCard {
  /** @param {(key: string) => void} onLog with the key of the replica to blame */
  constructor(onLog) {
    this.sentence = h("h3", { "aria-live": "polite" });
    this.facts = h("p", { class: "muted" });
    this.error = h("p", { class: "error" });
    this.lines = h("pre", { tabindex: 0, role: "region", "aria-label": "Last lines" });
    this.log = h("button", { type: "button", class: "push" });
    this.culprit = "";
    this.log.addEventListener("click", () => onLog(this.culprit));
    this.node = h(
      "section",
      { class: "card failure", "aria-label": "Failure", hidden: true },
      h("div", { class: "bar" }, this.sentence, this.log),
      this.facts,
      this.error,
      this.lines,
    );
  }

  /** @param {FailureView|null} failure */
  update(failure) {
    const isShown = failure !== null && !failure.isCancel;
    setAttribute(this.node, "hidden", !isShown);
    if (!isShown) return;
    this.culprit = failure.culprit;
    setText(this.sentence, failure.sentence);
    setText(this.facts, [moment(failure.at), ...failure.facts].filter(Boolean).join(" · "));
    setText(this.error, failure.error);
    setAttribute(this.error, "hidden", !failure.error);
    setText(this.lines, failure.lines.join("\n"));
    setAttribute(this.lines, "hidden", !failure.lines.length);
    setText(this.log, `Log of ${failure.culprit}`);
    setAttribute(this.log, "hidden", !failure.culprit);
  }
}

/** How far the app is. */
export class ProgressBar {
  constructor() {
    this.label = h("span", { id: "progress-label" });
    this.left = h("span", { class: "muted" });
    this.done = h("div", { class: "done" });
    this.rail = h("div", { class: "rail", role: "progressbar", "aria-labelledby": "progress-label" }, this.done);
    this.node = h(
      "section",
      { class: "progress", "aria-label": "Progress", hidden: true },
      h("div", { class: "bar" }, this.label, this.left),
      this.rail,
    );
    for (const [name, value] of [["aria-valuemin", 0], ["aria-valuemax", 100]]) {
      setAttribute(this.rail, String(name), value);
    }
  }

  /** @param {ProgressView|null} progress */
  update(progress) {
    setAttribute(this.node, "hidden", !progress);
    if (!progress) return;
    setText(this.label, progress.label);
    setText(this.left, progress.left);
    setAttribute(this.done, "data-tone", progress.tone);
    setAttribute(this.rail, "hidden", progress.share === null);
    if (progress.share === null) return;
    const percent = (progress.share * 100).toFixed(1);
    setAttribute(this.rail, "aria-valuenow", percent);
    setVariable(this.done, "--share", `${percent}%`);
  }
}

/** The tries of a task, of which one is shown below. */
export class Attempts {
  /** @param {(number: number) => void} onChoose */
  constructor(onChoose) {
    this.list = h("ol", { class: "attempts" });
    this.node = h("nav", { "aria-label": "Attempts", hidden: true }, this.list);
    this.keyed = new Keyed(
      this.list,
      (/** @type {Attempt} */ one) => String(one.number),
      (first) => {
        const state = new StateMark();
        const name = h("strong");
        const why = h("span", { class: "why" });
        const button = h("button", { type: "button" }, name, state.node, why);
        button.addEventListener("click", () => onChoose(first.number));
        return {
          node: h("li", {}, button),
          update: (one) => {
            setText(name, `Try ${one.number}`);
            state.update(one);
            setText(why, one.why);
            setAttribute(button, "aria-current", one.isShown ? "true" : null);
            setAttribute(button, "disabled", !one.isKnown);
          },
        };
      },
    );
  }

  /** @param {Attempt[]} attempts */
  update(attempts) {
    setAttribute(this.node, "hidden", attempts.length < 2);
    this.keyed.update(attempts);
  }
}

/** Asks before a task is stopped. */
export class StopDialog {
  /** @param {() => Promise<void>} stop */
  constructor(stop) {
    this.question = h("h3");
    this.error = h("p", { role: "alert" });
    this.yes = h("button", { type: "button", class: "danger" }, "Stop");
    this.no = h("button", { type: "button" }, "Keep it running");
    this.node = h(
      "dialog",
      { "aria-label": "Stop the app" },
      this.question,
      h("p", {}, "The task is marked failed. Its replicas have their grace period to save."),
      this.error,
      h("div", { class: "bar" }, this.no, this.yes),
    );
    this.no.addEventListener("click", () => this.node.close());
    this.yes.addEventListener("click", async () => {
      setAttribute(this.yes, "disabled", true);
      try {
        await stop();
        this.node.close();
      } catch (error) {
        setText(this.error, `Airflow did not stop the task: ${/** @type {Error} */ (error).message}`);
      } finally {
        setAttribute(this.yes, "disabled", false);
      }
    });
  }

  /**
   * @param {string} what is asked about, like `15 replicas of train-x1`
   */
  ask(what) {
    setText(this.question, `Stop ${what}?`);
    setText(this.error, "");
    this.node.showModal();
    this.no.focus();
  }
}
