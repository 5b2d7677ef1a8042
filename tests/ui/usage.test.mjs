// The lines of CPU and memory, and which replica is odd.

import assert from "node:assert/strict";
import { test } from "node:test";

import { median, oddReplicas, sparkline } from "../../airflow_torchx/ui/static/usage.js";

/** Return which replicas are odd in a role of running ones with these CPUs. */
function odd(cpus, change = {}) {
  const replicas = cpus.map((cpu, id) => ({ id, state: "RUNNING", usage: { cpu: [cpu].flat() } }));
  Object.assign(replicas.at(-1), change);
  return [...oddReplicas({ replicas }).keys()];
}

test("a replica is odd by more than three deviations, and more than noise", () => {
  assert.deepEqual(odd([4, 4, 4, 4, 3.5]), [4]);
  assert.deepEqual(odd([4, 4, 4, 4, 3.7]), []);
  assert.deepEqual(odd([3, 4, 5, 4, 6.9]), []);
  assert.deepEqual(odd([3, 4, 5, 4, 7.1]), [4]);
  assert.deepEqual(odd([0.01, 0.01, 0.01, 0.05]), []);
});

test("the last four points count, of replicas that run", () => {
  assert.deepEqual(odd([4, 4, 4, [0, 0, 4, 4, 4, 4]]), []);
  assert.deepEqual(odd([4, 4, 4, 4, 0], { state: "SUCCEEDED" }), []);
  assert.deepEqual(odd([4, 4, 4, 0], { state: "SUCCEEDED" }), []);
});

test("memory within 10 % of its limit is near it, in a box whose top is the limit", () => {
  const near = sparkline([90], 100, "", true);

  assert.deepEqual([near.isNear, sparkline([89], 100, "", true).isNear], [true, false]);
  assert.equal(sparkline([90], null, "", true).isNear, false);
  assert.equal(near.limitY, 1);
  assert.equal(sparkline([50], 100, "").points, "0,10 100,10");
  assert.equal(sparkline([0, 0], null, "").points, "0,19 100,19");
  assert.equal(sparkline([200, 100], 100, "").limitY, 10);
});

test("without points, a label alone is shown", () => {
  assert.deepEqual(sparkline([null], 100, "limit 16 GiB"), { points: "", limitY: null, label: "limit 16 GiB", isNear: false });
  assert.equal(sparkline(undefined, 100, ""), null);
});

test("the median of an even number of values is between two", () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1, 3, 2])], [2, 2.5]);
});
