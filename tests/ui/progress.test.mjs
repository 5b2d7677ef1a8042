// How far an app is, as its bar says.

import assert from "node:assert/strict";
import { test } from "node:test";

import { progressView } from "../../airflow_torchx/ui/static/progress.js";
import { readSnapshot } from "../../airflow_torchx/ui/static/snapshot.js";
import { recorded } from "./snapshots.mjs";

const AT = 1795454090;

function view(name, change = {}, nowS = AT, isOver = false) {
  const snapshot = recorded(name);
  Object.assign(snapshot.progress, change);
  return progressView(readSnapshot(snapshot), nowS, isOver);
}

test("progress has the step, the metrics and the estimate, less what has passed since the report", () => {
  assert.deepEqual(view("running", {}, AT + 13), {
    share: 0.24,
    label: "step 1200 of 5000, loss 0.313, lr 0.0003",
    left: "about 45 min left",
    tone: "running",
  });
  assert.equal(view("running", { eta_s: 605 }).left, "about 10 min left");
  assert.equal(view("running", { eta_s: 605 }, AT + 20).left, "about 9 min 45 s left");
});

test("an estimate that is over, unknown, or of an app that has ended is not shown", () => {
  assert.equal(view("running", { eta_s: 5 }, AT + 7).left, "");
  assert.equal(view("running", {}, AT + 90, true).left, "");
  assert.equal(view("running", { eta_s: null }).left, "");
  assert.equal(view("oom").left, "");
});

test("a report that is old, as of a deferred task, says how old: its step is not the present one", () => {
  assert.equal(view("running", { eta_s: 605 }, AT + 70).left, "about 8 min 55 s left, reported 1 min 10 s ago");
  assert.equal(view("running", { eta_s: 605 }, AT + 700).left, "reported 12 min ago");
  assert.equal(view("running", { eta_s: 605, at: null }, AT + 70).left, "about 10 min left");
});

test("an app without a total has no bar, and one that reports nothing has no progress", () => {
  for (const total of [null, 0]) {
    const { share, label } = view("running", { total, metrics: {} });
    assert.deepEqual([share, label], [null, "step 1200"]);
  }
  assert.equal(progressView(readSnapshot({ app_id: "a", progress: { at: AT } }), AT), null);
  assert.equal(progressView(readSnapshot(recorded("worker")), AT), null);
});

test("the bar of a step after the last one is full, and that of a failed app is not red", () => {
  assert.deepEqual([view("running", { step: 9000 }).share, view("running", { step: -1 }).share], [1, 0]);
  assert.deepEqual([view("oom").tone, view("succeeded").tone], ["removed", "success"]);
});

test("a bar has six metrics at most", () => {
  const metrics = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`m${index}`, index]));

  assert.equal(view("running", { metrics }).label.split(", ").length, 7);
});
