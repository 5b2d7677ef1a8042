/** The page that lists the tasks that run apps, with filters that live in the address. */

import * as api from "./api.js";
import { Keyed, h, link, setAttribute, setText } from "./dom.js";
import { count, duration, moment } from "./format.js";
import { StateMark } from "./lanes.js";
import { Failures } from "./failures.js";
import { PAGE_SIZE, SINCE, filtersOf, listRow, pageOf, searchOf, toQuery } from "./filters.js";
import { Poller } from "./poll.js";
import { refusalText } from "./refusals.js";
import { TASK_STATES, taskState } from "./states.js";

/** @typedef {ReturnType<typeof listRow>} Row */

const LIVE_S = 10;
const FINISHED_S = 30;
const TYPING_MS = 400;

export class ListPage {
  /**
   * @param {string} search of the address
   * @param {(search: string) => void} onSearch with the search that the filters make
   * @param {(event: MouseEvent, path: string) => void} onOpen when a row's link is clicked
   */
  constructor(search, onSearch, onOpen) {
    this.search = search;
    this.onSearch = onSearch;
    this.onOpen = onOpen;
    this.total = 0;
    this.failures = new Failures();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.typing = undefined;
    const option = (/** @type {string} */ value, /** @type {string} */ text) => h("option", { value }, text);
    this.inputs = {
      state: h("select", { name: "state" }, option("", "any"), ...TASK_STATES.map((name) => option(name, taskState(name).word))),
      dag: h("input", { type: "search", name: "dag", placeholder: "part of a DAG id" }),
      task: h("input", { type: "search", name: "task", placeholder: "part of a task" }),
      run: h("input", { type: "search", name: "run", placeholder: "part of a run id" }),
      since: h("select", { name: "since" }, option("", "any time"), ...Object.entries(SINCE).map(([value, { label }]) => option(value, label))),
    };
    const names = { state: "State", dag: "DAG", task: "Task", run: "Run", since: "Started" };
    const filters = Object.entries(this.inputs).map(([key, input]) =>
      h("label", {}, names[/** @type {keyof typeof names} */ (key)], input),
    );
    this.form = h("form", { class: "bar filters", role: "search", "aria-label": "Filters" }, ...filters);
    this.connection = h("p", { class: "note", role: "status", hidden: true });
    this.body = h("tbody");
    this.empty = h("p", { class: "card" }, "Loading …");
    this.count = h("span", { class: "muted", "aria-live": "polite" });
    this.previous = h("button", { type: "button" }, "Newer");
    this.next = h("button", { type: "button" }, "Older");
    const head = (/** @type {string} */ text, optional = "") => h("th", { scope: "col", class: optional }, text);
    this.table = h(
      "table",
      { "aria-label": "TorchX apps" },
      h("thead", {}, h("tr", {}, head("State"), head("Task"), head("DAG"), head("Run", "optional"), head("Try", "optional"), head("Started"), head("Duration"))),
      this.body,
    );
    this.node = h(
      "div",
      { class: "stack" },
      h("h2", {}, "TorchX apps"),
      this.form,
      this.connection,
      this.empty,
      h("div", { class: "wide", hidden: true }, this.table),
      h("div", { class: "bar" }, this.count, this.previous, this.next),
    );
    this.keyed = new Keyed(this.body, (/** @type {Row} */ row) => row.key, (row) => this.row(row));
    this.listen();
    this.poller = new Poller(
      (signal) => this.ask(signal),
      (error, ageS) => this.showError(error, ageS),
    );
  }

  listen() {
    this.form.addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
    this.form.addEventListener("input", (/** @type {Event} */ event) => {
      clearTimeout(this.typing);
      const isChoice = event.target instanceof HTMLSelectElement;
      this.typing = setTimeout(() => this.filter(0), isChoice ? 0 : TYPING_MS);
    });
    this.previous.addEventListener("click", () => this.filter(pageOf(this.search) - 1));
    this.next.addEventListener("click", () => this.filter(pageOf(this.search) + 1));
  }

  start() {
    this.fill();
    this.poller.start();
  }

  stopped() {
    // A filter that was being typed must not lead back to the list.
    clearTimeout(this.typing);
    this.poller.stop();
  }

  /** Write the filters of the address into their fields. */
  fill() {
    const filters = filtersOf(this.search);
    for (const [name, input] of Object.entries(this.inputs)) {
      const value = filters[name] ?? "";
      if (input.value !== value) input.value = value;
    }
  }

  /** @param {number} page */
  filter(page) {
    const filters = Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]));
    const search = searchOf(filters, page);
    if (search === this.search) return;
    this.onSearch(search);
    this.setSearch(search);
  }

  /** @param {string} search of the address, which may come from the reader's Back */
  setSearch(search) {
    if (search === this.search) return;
    this.search = search;
    this.fill();
    this.poller.now();
  }

  /** @param {AbortSignal} signal */
  async ask(signal) {
    const query = toQuery(this.search, Date.now() / 1000);
    const { data, serverS } = await api.fetchList(query, signal);
    const rows = data.task_instances.map((one) => listRow(one, serverS));
    this.total = data.total_entries ?? rows.length;
    setAttribute(this.connection, "hidden", true);
    this.draw(rows);
    if (await this.failures.learn(rows, signal)) this.draw(rows);
    return rows.some((row) => !row.isFinal) ? LIVE_S : FINISHED_S;
  }

  /** @param {Row[]} rows */
  draw(rows) {
    this.keyed.update(rows);
    const first = pageOf(this.search) * PAGE_SIZE;
    const isFiltered = Object.keys(filtersOf(this.search)).length > 0;
    setAttribute(this.empty, "hidden", rows.length > 0);
    setAttribute(this.table.parentElement, "hidden", rows.length === 0);
    const isBeyond = this.total > 0;
    setText(this.empty, isBeyond ? `The list has only ${count(this.total, "app")}.` : isFiltered ? "No app matches these filters." : "No task has run a TorchX app yet, or you may not read its DAG.");
    setText(this.count, rows.length ? `${first + 1}–${first + rows.length} of ${this.total}` : "");
    setAttribute(this.previous, "hidden", first === 0);
    setAttribute(this.next, "hidden", first + rows.length >= this.total);
  }

  /**
   * @param {Row} first
   * @returns {import("./dom.js").Part<Row>}
   */
  row(first) {
    const state = new StateMark();
    const open = link(first.path, first.task);
    open.addEventListener("click", (event) => this.onOpen(event, first.path));
    const why = h("div", { class: "why", hidden: true });
    const [number, started, took] = [h("td", { class: "optional" }), h("td"), h("td")];
    const node = h("tr", {}, h("td", {}, state.node), h("td", {}, open, why), h("td", {}, first.dag), h("td", { class: "optional mono" }, first.run), number, started, took);
    return {
      node,
      update: (row) => {
        state.update(row);
        setText(why, this.failures.of(row));
        setAttribute(why, "hidden", !this.failures.of(row));
        setText(number, String(row.tryNumber));
        setText(started, moment(row.startedS));
        setText(took, duration(row.tookS));
      },
    };
  }

  /**
   * @param {unknown} error
   * @param {number|null} ageS
   */
  showError(error, ageS) {
    const age = ageS === null ? "" : ` What is shown is ${duration(ageS)} old.`;
    setAttribute(this.connection, "hidden", false);
    setText(this.connection, refusalText(error) + age);
    if (ageS === null) setAttribute(this.empty, "hidden", true);
  }
}
