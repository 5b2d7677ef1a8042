// The addresses of the list, the paths of Airflow, and the lines of a log.

import assert from "node:assert/strict";
import { test } from "node:test";

import { pagePath, runsApp } from "../../airflow_torchx/ui/static/api.js";
import { filtersOf, listRow, pageOf, searchOf, toQuery } from "../../airflow_torchx/ui/static/filters.js";
import { linesOf } from "../../airflow_torchx/ui/static/logs.js";

const INSTANCE = {
  task_id: "gang",
  dag_id: "train",
  dag_run_id: "manual__2026-11-24T03:00:00+00:00",
  map_index: -1,
  state: "success",
  try_number: 2,
  operator_name: "TorchXDockerOperator",
  start_date: "2026-11-24T03:00:00Z",
  end_date: "2026-11-24T03:10:00Z",
  task_display_name: "gang",
  dag_display_name: "Nightly <b>training</b>",
};

test("filters survive the way into an address and back", () => {
  const filters = { state: "failed", dag: "träin & co", since: "24h" };

  assert.deepEqual(filtersOf(searchOf(filters, 2)), filters);
  assert.equal(pageOf(searchOf(filters, 2)), 2);
  assert.equal(searchOf({}, 0), "");
});

test("filters that are not known are left out", () => {
  assert.deepEqual(filtersOf("?state=exploded&since=ever&x=1&dag="), {});
  assert.deepEqual(["?page=-3", "?page=1.5", "?page=x", ""].map(pageOf), [0, 0, 0, 0]);
});

test("a query asks for one page, newest first, by the names of Airflow's API", () => {
  const query = toQuery("?state=running&dag=train&run=man&task=gang&since=1h&page=3", 1795453200);

  assert.deepEqual(query, {
    limit: 50,
    offset: 100,
    state: "running",
    dag_id_pattern: "train",
    task_display_name_pattern: "gang",
    run_id_pattern: "man",
    start_date_gte: "2026-11-23T16:00:00.000Z",
  });
});

test("paths escape what a run id may have", () => {
  const task = { dagId: "d", runId: "manual__2026-11-24T03:00:00+00:00", taskId: "g.t", mapIndex: 12 };

  assert.equal(
    pagePath(task),
    "dags/d/runs/manual__2026-11-24T03%3A00%3A00%2B00%3A00/tasks/g.t/mapped/12/plugin/torchx-app",
  );
  assert.equal(pagePath({ ...task, runId: "a/b", mapIndex: -1 }), "dags/d/runs/a%2Fb/tasks/g.t/plugin/torchx-app");
});

test("a row names its task, and lasts until its end or until now", () => {
  const ended = listRow(INSTANCE, 1795489200);
  const live = listRow({ ...INSTANCE, end_date: null, state: "deferred", map_index: 3 }, ended.startedS + 30);

  assert.deepEqual([ended.task, ended.word, ended.tookS, ended.tryNumber], ["gang", "success", 600, 2]);
  assert.equal(ended.dag, "Nightly <b>training</b>");
  const named = { ...INSTANCE, map_index: 3, rendered_map_index: "lr=0.1", task_display_name: "Gang" };
  const queued = listRow({ ...INSTANCE, start_date: null }, 1795489200);
  assert.equal(listRow(named, 0).task, "Gang [lr=0.1]");
  assert.deepEqual([queued.startedS, queued.tookS], [null, null]);
  assert.deepEqual([live.task, live.word, live.tookS, live.isFinal], ["gang [3]", "deferred", 30, false]);
});

test("tasks of our operators and of subclasses run an app; sensors and others do not", () => {
  const of = (name) => runsApp({ ...INSTANCE, operator_name: name });

  assert.deepEqual(
    ["TorchXDockerOperator", "MyTorchXOperator", "@task.torchx"].map(of),
    [true, true, true],
  );
  assert.deepEqual(["TorchXDockerSensor", "PythonOperator", null].map(of), [false, false, false]);
  assert.ok(runsApp({ ...INSTANCE, operator_name: null, operator: "TorchXDockerOperator" }));
});

test("the lines of one replica lose its name, also after a restart", () => {
  const event = { role: "train", replica: 1, event: "train/1      epoch 1\ntrain/1 r1   epoch 2" };

  assert.deepEqual(linesOf(event, "train/1"), ["epoch 1", "epoch 2"]);
  assert.deepEqual(linesOf(event, "train/0"), []);
  assert.deepEqual(linesOf({ event: "a task's own line" }, "train/0"), []);
  assert.deepEqual(linesOf({ role: "train", replica: 0, event: "without its name" }, "train/0"), ["without its name"]);
  assert.deepEqual(linesOf({ role: "train", replica: 0, event: { step: 1 } }, "train/0"), []);
  assert.deepEqual(linesOf(null, "train/0"), []);
});
