// Which snapshots are read, and how foreign texts and numbers are written.

import assert from "node:assert/strict";
import { test } from "node:test";

import { clean, count, duration, moment, size } from "../../airflow_torchx/ui/static/format.js";
import { appView } from "../../airflow_torchx/ui/static/model.js";
import { isOf, newer, readSnapshot } from "../../airflow_torchx/ui/static/snapshot.js";
import { appState, taskState } from "../../airflow_torchx/ui/static/states.js";
import { recorded } from "./snapshots.mjs";

test("what is not a snapshot is none", () => {
  for (const value of [null, undefined, 3, "x", '{"app_id": "a', "null", [], {}, { app_id: 7 }, { app_id: "" }]) {
    assert.equal(readSnapshot(value), null);
  }
});

test("a snapshot may be JSON", () => {
  assert.deepEqual(readSnapshot('{"app_id": "a", "seq": 3, "n_replicas": 1e999}'), { app_id: "a", seq: 3 });
});

test("moments that are out of all bounds are left out: an axis between them would have no end", () => {
  const replicas = [{ id: 0, t: [[1e308, "RUNNING"], [1795453209, "RUNNING"]] }];
  const far = { at: -1e308 };
  const value = { app_id: "a", created: -1e308, finished: 1e308, observed_at: 1e13, failure: far, roles: [{ replicas }] };
  const snapshot = readSnapshot({ ...value, progress: { step: 1, ...far } });

  assert.deepEqual(snapshot, {
    app_id: "a",
    failure: {},
    roles: [{ replicas: [{ id: 0, t: [[1795453209, "RUNNING"]] }] }],
    progress: { step: 1 },
  });
  assert.ok(appView(snapshot, { nowS: 1795453300 }).ticks.length <= 5);
});

test("unknown fields and values of a wrong type are left out", () => {
  const value = {
    app_id: "a",
    novelty: 1,
    seq: "7",
    roles: [{ name: "train", replicas: [{ id: 0, t: [[1, "RUNNING"], ["x"], 4], usage: 3 }, null] }],
    failure: "no",
  };

  assert.deepEqual(readSnapshot(value), {
    app_id: "a",
    roles: [{ name: "train", replicas: [{ id: 0, t: [[1, "RUNNING"]] }] }],
  });
});

test("each field alone may be missing, or be of any other type, and the app is still drawn", () => {
  const paths = [];
  const walk = (value, path) => {
    if (path.length) paths.push(path);
    if (value && typeof value === "object") {
      for (const key of Object.keys(value).slice(0, Array.isArray(value) ? 3 : 99)) walk(value[key], [...path, key]);
    }
  };
  walk(recorded("oom"), []);
  assert.ok(paths.length > 60);

  for (const path of paths) {
    for (const wrong of [undefined, null, "x", -1, [], {}, [[]], true, 1e300]) {
      const changed = recorded("oom");
      const parent = path.slice(0, -1).reduce((value, key) => value[key], changed);
      parent[path.at(-1)] = wrong;
      const snapshot = readSnapshot(changed);
      if (snapshot) appView(snapshot, { nowS: 1795453200 });
    }
  }
});

test("an older snapshot of the same app does not replace a newer one", () => {
  const shown = { app_id: "a", seq: 7 };

  assert.equal(newer(shown, { app_id: "a", seq: 6 }), shown);
  assert.equal(newer(shown, { app_id: "a", seq: 8 }).seq, 8);
  assert.equal(newer(shown, { app_id: "b", seq: 1 }).app_id, "b");
  assert.equal(newer(null, shown), shown);
});

test("a snapshot of another task instance is not shown", () => {
  const task = { dagId: "d", runId: "r", taskId: "t", mapIndex: 3 };
  const origin = { dag_id: "d", run_id: "r", task_id: "t", map_index: 3 };

  assert.ok(isOf({ app_id: "a" }, task));
  assert.ok(isOf({ app_id: "a", origin }, task));
  for (const other of [{ map_index: 12 }, { run_id: "s" }, { dag_id: "s" }, { task_id: "s" }]) {
    assert.ok(!isOf({ app_id: "a", origin: { ...origin, ...other } }, task));
  }
});

test("terminal sequences and characters that hide others are removed from texts", () => {
  const escape = "\u001b";
  const line = `${escape}[31mred${escape}[0m ${escape}]8;;http://x\u0007link\ra\u202eb\u0000`;

  assert.equal(clean(line), "red linkab");
  assert.equal(clean("a\tb\n<img onerror=alert(1)>"), "a\tb\n<img onerror=alert(1)>");
  assert.equal(clean(`a\u061cb\u200f`), "ab");
  assert.equal(clean(`a\u2066b\u2069 ${escape}cd${escape}`), "ab d");
  assert.equal(clean(null), "");
});

test("durations have their two largest units", () => {
  assert.deepEqual([0, 0.25, 9, 9.5, 61, 3600, 7500, 90000, null, NaN].map(duration), [
    "0 s",
    "0.3 s",
    "9 s",
    "9.5 s",
    "1 min 1 s",
    "1 h",
    "2 h 5 min",
    "1 d 1 h",
    "",
    "",
  ]);
});

test("sizes have binary units", () => {
  assert.deepEqual([0, 1023, 50331648, 157500000, 17072495001, 2 ** 50].map(size), [
    "0 B",
    "1023 B",
    "48 MiB",
    "150 MiB",
    "15.9 GiB",
    "1024 TiB",
  ]);
});

test("a moment that no calendar has is not written, and a count has its plural", () => {
  assert.deepEqual([moment(8.7e12), moment(null), moment(NaN)], ["", "", ""]);
  assert.match(moment(1795453200), /2026/);
  assert.deepEqual([0, 1, 2].map((n) => count(n, "peer")), ["0 peers", "1 peer", "2 peers"]);
});

test("a state that is not known is shown as it is", () => {
  assert.deepEqual([appState("LOST").word, appState(undefined).word], ["lost", "unknown"]);
  assert.equal(appState("constructor").tone, "unknown");
  assert.equal(taskState(null).word, "no state");
  assert.equal(taskState("constructor").word, "constructor");
});
