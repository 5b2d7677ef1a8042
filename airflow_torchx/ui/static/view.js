/**
 * `<torchx-view>`: the page as an element of any document of Airflow.
 *
 * With the attributes `dag-id`, `run-id`, `task-id` and maybe `map-index` it shows the app of a
 * task, else the list of apps, with the filters of the attribute `search`. Two events let the host
 * navigate: `torchx-open` with a path below the base, and `torchx-search`. A host that handles one
 * prevents its default.
 */

import { AppPage } from "./app.js";
import { h } from "./dom.js";
import { ListPage } from "./list.js";
import { css } from "./style.js";

const TASK = ["dag-id", "run-id", "task-id", "map-index"];

export class TorchxView extends HTMLElement {
  static observedAttributes = [...TASK, "search"];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];
    // The host page's style wins over `:host`, but not in here.
    this.frame = h("div", { class: "page" });
    root.append(this.frame);
    /** @type {AppPage|ListPage|null} */
    this.page = null;
    this.onPopState = () => this.setSearch(location.search);
  }

  connectedCallback() {
    if (!this.hasAttribute("search")) window.addEventListener("popstate", this.onPopState);
    this.open();
  }

  disconnectedCallback() {
    window.removeEventListener("popstate", this.onPopState);
    this.page?.stopped();
    this.page = null;
  }

  /**
   * @param {string} name
   * @param {string|null} before
   * @param {string|null} now
   */
  attributeChangedCallback(name, before, now) {
    if (!this.page || before === now) return;
    if (name === "search") this.setSearch(now ?? "");
    else this.open();
  }

  /** Show what the attributes name. An error in here must not reach the page of the host. */
  open() {
    this.page?.stopped();
    try {
      this.page = this.create();
      this.frame.replaceChildren(this.page.node);
      this.page.start();
    } catch (error) {
      this.frame.replaceChildren(
        h("p", { role: "alert" }, `The TorchX page cannot be drawn: ${/** @type {Error} */ (error).message}`),
      );
    }
  }

  create() {
    const [dagId, runId, taskId, mapIndex] = TASK.map((name) => this.getAttribute(name));
    if (dagId && runId && taskId) {
      const index = Number.parseInt(mapIndex ?? "", 10);
      return new AppPage({ dagId, runId, taskId, mapIndex: Number.isNaN(index) ? -1 : index });
    }
    return new ListPage(
      this.getAttribute("search") ?? location.search,
      (search) => this.announceSearch(search),
      (event, path) => this.announceOpen(event, path),
    );
  }

  /** @param {string} search */
  setSearch(search) {
    if (this.page instanceof ListPage) this.page.setSearch(search);
  }

  /** @param {string} search */
  announceSearch(search) {
    const event = new CustomEvent("torchx-search", { detail: search, cancelable: true });
    if (this.dispatchEvent(event)) history.pushState(null, "", `${location.pathname}${search}`);
  }

  /**
   * @param {MouseEvent} click
   * @param {string} path
   */
  announceOpen(click, path) {
    // Another tab or window is the browser's own.
    if (click.button !== 0 || click.ctrlKey || click.metaKey || click.shiftKey || click.altKey) return;
    const event = new CustomEvent("torchx-open", { detail: path, cancelable: true });
    if (!this.dispatchEvent(event)) click.preventDefault();
  }
}

if (!customElements.get("torchx-view")) customElements.define("torchx-view", TorchxView);
