/** Draws the replicas of an app: squares of all of them, and a lane for each one on one time axis. */

import { Keyed, ensureTabStop, h, rove, setAttribute, setText, setVariable } from "./dom.js";
import { visibleLanes } from "./model.js";
import { HEIGHT, WIDTH } from "./usage.js";

/** @typedef {import("./model.js").AppView} AppView */
/** @typedef {import("./model.js").Lane} Lane */
/** @typedef {import("./model.js").RoleView} RoleView */
/** @typedef {import("./usage.js").Sparkline} Sparkline */

const KINDS = /** @type {("cpu"|"mem"|"gpu")[]} */ (["cpu", "mem", "gpu"]);
const HEADS = { cpu: "CPU", mem: "Memory", gpu: "GPU" };
const COLUMNS = {
  lane: "minmax(5rem, 9rem) 6.5rem minmax(8rem, 1fr) 5.5rem",
  cpu: "7rem",
  mem: "9.5rem",
  gpu: "10rem",
  end: "minmax(5rem, 9rem)",
};

/** @param {number} share */
function percent(share) {
  return `${(share * 100).toFixed(2)}%`;
}

/** The word, the glyph and the tone of a state. */
export class StateMark {
  constructor() {
    this.glyph = h("span", { class: "glyph", "aria-hidden": "true" });
    this.word = h("span");
    this.node = h("span", { class: "state" }, this.glyph, this.word);
  }

  /** @param {{word: string, glyph: string, tone: string}} state */
  update({ word, glyph, tone }) {
    setText(this.glyph, glyph);
    setText(this.word, word);
    setAttribute(this.node, "data-tone", tone);
  }
}

class Spark {
  /** @param {string} kind */
  constructor(kind) {
    this.line = h("polyline");
    this.limit = h("line", { x1: 0, x2: WIDTH });
    this.svg = h(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.limit,
      this.line,
    );
    this.label = h("span");
    this.node = h("div", { class: `use ${kind} spark`, role: "gridcell" }, this.svg, this.label);
  }

  /** @param {Sparkline|null} spark */
  update(spark) {
    // Once: it is computed when it is read.
    const points = spark?.points ?? "";
    setText(this.label, spark?.label ?? "");
    setAttribute(this.line, "points", points);
    setAttribute(this.svg, "hidden", !points);
    this.svg.style.display = points ? "" : "none";
    const y = spark?.limitY;
    // Outside of its box, it would be drawn all the same.
    this.limit.style.display = typeof y === "number" ? "" : "none";
    for (const name of ["y1", "y2"]) setAttribute(this.limit, name, y);
    this.node.classList.toggle("near", Boolean(spark?.isNear));
  }
}

class LaneRow {
  constructor() {
    this.state = new StateMark();
    this.title = h("span");
    this.odd = h("span", { class: "odd", hidden: true });
    this.segments = h("div");
    this.mark = h("div", { class: "mark", hidden: true });
    this.took = h("span", { class: "took", role: "gridcell" });
    this.cpu = new Spark("cpu");
    this.mem = new Spark("mem");
    this.gpu = new Spark("gpu");
    this.end = h("span", { class: "end", role: "gridcell" });
    this.node = h(
      "div",
      { class: "row lane", role: "row", tabindex: -1 },
      h("div", { class: "name", role: "rowheader" }, this.title, this.odd),
      h("div", { class: "lane-state", role: "gridcell" }, this.state.node),
      h("div", { class: "track", role: "gridcell" }, this.segments, this.mark),
      this.took,
    );
    /** @type {Keyed<{index: number, segment: import("./axis.js").Segment}>} */
    this.parts = new Keyed(
      this.segments,
      ({ index }) => String(index),
      () => {
        const node = h("div", { class: "seg" });
        return {
          node,
          update: ({ segment }) => {
            setVariable(node, "--from", percent(segment.from));
            setVariable(node, "--length", percent(segment.to - segment.from));
            setAttribute(node, "data-tone", segment.tone);
            node.classList.toggle("wait", segment.isWait);
          },
        };
      },
    );
    this.node.append(this.cpu.node, this.mem.node, this.gpu.node, this.end);
  }

  /**
   * @param {Lane} lane
   * @param {AppView} view
   * @param {string|null} selected
   */
  update(lane, view, selected) {
    setAttribute(this.node, "data-key", lane.key);
    setAttribute(this.node, "aria-selected", lane.key === selected ? "true" : "false");
    setAttribute(this.node, "title", lane.name || lane.key);
    const restarts = lane.restarts ? ` ↻${lane.restarts}` : "";
    setText(this.title, `${lane.key}${restarts}`);
    setText(this.odd, lane.odd);
    setAttribute(this.odd, "hidden", !lane.odd);
    this.state.update(lane);
    this.parts.update(lane.segments.map((segment, index) => ({ index, segment })));
    setAttribute(this.mark, "hidden", view.failedAt === null);
    if (view.failedAt !== null) setVariable(this.mark, "--at", percent(view.failedAt));
    setText(this.took, lane.duration);
    for (const kind of KINDS) {
      setAttribute(this[kind].node, "hidden", !view.has[kind]);
      if (view.has[kind]) this[kind].update(lane[kind]);
    }
    setText(this.end, lane.end);
    setAttribute(this.end, "hidden", !view.has.end);
  }
}

/** All replicas of an app. */
export class Lanes {
  /** @param {(key: string) => void} onSelect with the key of a replica, like `trainer/0` */
  constructor(onSelect) {
    /** @type {AppView|null} */
    this.view = null;
    /** @type {string|null} */
    this.selected = null;
    this.roles = h("div", { class: "stack" });
    this.ticks = h("div", { class: "track", role: "columnheader" });
    this.heads = KINDS.map((kind) =>
      h("span", { class: `use ${kind}`, role: "columnheader" }, HEADS[kind]),
    );
    this.endHead = h("span", { class: "end", role: "columnheader" }, "End");
    this.body = h("div", { role: "rowgroup" });
    this.hint = h("p", { class: "muted", hidden: true });
    this.grid = h(
      "div",
      { class: "lanes", role: "grid", "aria-label": "Replicas" },
      h(
        "div",
        { role: "rowgroup" },
        h(
          "div",
          { class: "row head", role: "row" },
          h("span", { class: "name", role: "columnheader" }, "Replica"),
          h("span", { class: "lane-state", role: "columnheader" }, "State"),
          this.ticks,
          h("span", { class: "took", role: "columnheader" }, "Duration"),
          ...this.heads,
          this.endHead,
        ),
      ),
      this.body,
    );
    this.node = h("div", { class: "stack" }, this.roles, this.hint, this.grid);
    const act = (/** @type {HTMLElement} */ node) => onSelect(node.dataset.key ?? "");
    rove(this.body, ".lane", act);
    this.keyedRoles = new Keyed(this.roles, (role) => role.name, () => this.roleRow(act));
    this.keyedLanes = new Keyed(this.body, (/** @type {Lane} */ lane) => lane.key, () => {
      const row = new LaneRow();
      return {
        node: row.node,
        update: (lane) => row.update(lane, /** @type {AppView} */ (this.view), this.selected),
      };
    });
    this.keyedTicks = new Keyed(
      this.ticks,
      (/** @type {{at: number, label: string}} */ tick) => tick.label,
      () => {
        const node = h("span", { class: "tick" });
        return {
          node,
          update: (tick) => {
            setText(node, tick.label);
            setVariable(node, "--at", percent(tick.at));
            node.classList.toggle("last", tick.at > 0.9);
          },
        };
      },
    );
  }

  /**
   * @param {(node: HTMLElement) => void} act
   * @returns {import("./dom.js").Part<RoleView>}
   */
  roleRow(act) {
    const name = h("span", { class: "role-name" });
    const about = h("span", { class: "muted" });
    const squares = h("div", { class: "squares", role: "listbox", "aria-orientation": "horizontal" });
    rove(squares, ".square", act);
    /** @type {Keyed<Lane>} */
    const keyed = new Keyed(
      squares,
      (lane) => lane.key,
      () => {
        const node = h("div", { class: "square", role: "option", tabindex: -1 });
        return { node, update: (lane) => this.updateSquare(node, lane) };
      },
    );
    return {
      node: h("div", { class: "role" }, name, squares, about),
      update: (role) => {
        setText(name, role.name);
        const omitted = role.omitted ? ` · ${role.omitted} more are only counted` : "";
        setText(about, `${role.counts}${omitted}${role.image ? ` · image ${role.image}` : ""}`);
        setAttribute(squares, "aria-label", `Replicas of ${role.name}`);
        keyed.update(role.lanes);
        ensureTabStop(squares, ".square");
      },
    };
  }

  /**
   * @param {HTMLElement} node
   * @param {Lane} lane
   */
  updateSquare(node, lane) {
    setText(node, lane.glyph);
    setAttribute(node, "data-key", lane.key);
    setAttribute(node, "data-tone", lane.tone);
    setAttribute(node, "aria-selected", lane.key === this.selected ? "true" : "false");
    const about = [lane.key, lane.word, lane.end, lane.odd].filter(Boolean).join(", ");
    setAttribute(node, "aria-label", about);
    setAttribute(node, "title", about);
  }

  /**
   * @param {AppView} view
   * @param {string|null} selected
   */
  update(view, selected) {
    this.view = view;
    this.selected = selected;
    const shown = visibleLanes(view, selected).flatMap((role) => role.lanes);
    const total = view.roles.reduce((sum, role) => sum + role.lanes.length, 0);
    KINDS.forEach((kind, index) => setAttribute(this.heads[index], "hidden", !view.has[kind]));
    setAttribute(this.endHead, "hidden", !view.has.end);
    const used = KINDS.filter((kind) => view.has[kind]).map((kind) => COLUMNS[kind]);
    const end = view.has.end ? COLUMNS.end : "";
    setVariable(this.grid, "--columns", [COLUMNS.lane, ...used, end].join(" ").trim());
    this.keyedRoles.update(view.roles);
    this.keyedTicks.update(view.ticks);
    this.keyedLanes.update(shown);
    ensureTabStop(this.body, ".lane");
    setAttribute(this.hint, "hidden", shown.length === total);
    setText(
      this.hint,
      `${shown.length} of ${total} replicas have a lane: those that failed, are odd or are selected. ` +
        "Choose a square for another one.",
    );
    setAttribute(this.grid, "hidden", !shown.length);
  }
}
