// A snapshot with what Docker says now.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Readings, merged } from "../../airflow_torchx/ui/static/live-merge.js";
import { recorded } from "./snapshots.mjs";

const START_S = 1795453209;

/** Return a snapshot of Docker, 5 s after the recorded one, with these states by replica. */
function live(states, change = {}) {
  const base = recorded("deferred");
  const replicas = states.map((state, id) => ({
    id,
    container: base.roles[0].replicas[id].container,
    state,
    exit: state === "FAILED" ? 1 : null,
    restarts: 0,
    t: [[START_S - 9, "SUBMITTED"], [base.observed_at + (state === "FAILED" ? 3 : 5), state]],
  }));
  const role = { name: "trainer", n: states.length, counts: {}, replicas };
  return { ...base, state: states[0], observed_at: base.observed_at + 5, roles: [role], ...change };
}

/** Return what the page shows of the recorded snapshot and a look at Docker. */
function shown(look, { readings = new Readings(), seen = new Map(), base = recorded("deferred") } = {}) {
  return merged(base, { live: look, seen, readings });
}

/** Return counters of trainer/1 at a time. */
function counters(t, cpus, change = {}) {
  return [{ role: "trainer", id: 1, container: "abc000000001", t, cpu_ns: cpus * 1e9, mem: 100, ...change }];
}

test("a newer state has the time that Docker gives, after the times that were known", () => {
  const found = shown(live(["RUNNING", "RUNNING", "FAILED", "RUNNING"]));

  const [, , failed, running] = found.roles[0].replicas;
  assert.deepEqual([failed.state, failed.exit], ["FAILED", 1]);
  assert.deepEqual(failed.t.slice(1), [[START_S + 1.6, "RUNNING"], [1795454103, "FAILED"]]);
  assert.equal(running.t.length, 2);
  assert.equal(found.observed_at, 1795454105);
});

test("a state that a list shows first at some time began then, whenever it is seen again", () => {
  const base = recorded("deferred");
  base.roles[0].replicas[3].t.pop();
  const seen = new Map();
  const states = ["RUNNING", "RUNNING", "RUNNING", "RUNNING"];
  shown(live(states), { base, seen });
  const later = live(states, { observed_at: base.observed_at + 10 });
  later.roles[0].replicas[3].t[1][0] += 5;

  const found = shown(later, { base, seen });

  assert.deepEqual(found.roles[0].replicas[3].t.at(-1), [1795454105, "RUNNING"]);
});

test("an older look, and one at another app, change nothing", () => {
  const failed = ["FAILED", "FAILED", "FAILED", "FAILED"];

  for (const change of [{ observed_at: 1 }, { app_id: "other" }]) {
    assert.deepEqual(shown(live(failed, change)), recorded("deferred"));
  }
  assert.deepEqual(shown(null), recorded("deferred"));
});

test("the failure card of the snapshot stays, and the one of Docker fills a gap", () => {
  const failure = { kind: "oom", role: "trainer", id: 2 };
  const states = ["RUNNING", "RUNNING", "FAILED", "RUNNING"];
  const oom = recorded("oom");
  const newer = { ...live(states, { failure }), app_id: oom.app_id, observed_at: oom.observed_at + 1 };

  assert.deepEqual(shown(live(states, { failure })).failure, failure);
  assert.deepEqual(shown(newer, { base: oom }).failure, oom.failure);
});

test("replicas that a large snapshot leaves out come from Docker", () => {
  const base = recorded("deferred");
  base.roles[0].replicas.splice(1, 2);

  const found = shown(live(["RUNNING", "RUNNING", "RUNNING", "RUNNING"]), { base });

  assert.deepEqual(found.roles[0].replicas.map((one) => one.id), [0, 1, 2, 3]);
});

test("two readings of one container are CPUs; one alone, or of two containers, is not", () => {
  const readings = new Readings();
  readings.add(counters(1795454101, 10));
  readings.add(counters(1795454101, 10));
  readings.add(counters(1795454111, 25, { mem: 200 }));
  readings.add(counters(1795454121, 1, { container: "other" }));

  assert.deepEqual(
    readings.points.get("trainer/1").map((one) => one.cpu),
    [null, 1.5, null],
  );
});

test("points after the snapshot continue its line, the highest of each interval", () => {
  const base = recorded("deferred");
  const known = base.roles[0].replicas[1].usage;
  const readings = new Readings();
  readings.add(counters(base.observed_at - 5, 0, { mem: 1e12 }));
  readings.add(counters(base.observed_at + 5, 20, { mem: 5e9 }));
  readings.add(counters(base.observed_at + 10, 25, { mem: 2e10 }));
  readings.add(counters(base.observed_at + 20, 55));

  const { usage, peak } = shown(null, { readings }).roles[0].replicas[1];

  assert.deepEqual(usage.cpu.slice(known.cpu.length), [2, 3]);
  assert.deepEqual(usage.mem.slice(known.mem.length), [2e10, 100]);
  assert.equal(peak.mem, 2e10);
});

test("an app without a line of its own has one of the last five minutes", () => {
  const base = recorded("deferred");
  delete base.roles[0].replicas[1].usage;
  delete base.roles[0].replicas[1].peak;
  const readings = new Readings();
  for (let number = 0; number < 100; number += 1) readings.add(counters(1795454101 + 5 * number, number));

  const { usage, peak, limit } = shown(null, { base, readings }).roles[0].replicas[1];

  assert.deepEqual(limit, base.roles[0].replicas[1].limit);
  assert.deepEqual([usage.cpu.length, usage.mem.length, usage.cpu[0]], [60, 60, 0.2]);
  assert.deepEqual(peak, { mem: 100 });
});

test("an app that has no usage yet has the limit of memory that Docker knows", () => {
  const base = recorded("deferred");
  delete base.roles[0].replicas[1].limit;
  const limitOf = (limit) => {
    const readings = new Readings();
    readings.add(counters(base.observed_at + 5, 20, { limit }));
    return shown(null, { base, readings }).roles[0].replicas[1].limit;
  };

  assert.deepEqual([limitOf(5e9), limitOf(null)], [{ mem: 5e9 }, {}]);
});
