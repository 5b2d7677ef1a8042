// Why apps of the list failed, from keys of XComs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { failureText, keysOf } from "../../airflow_torchx/ui/static/failures.js";

test("a key is a replica with the facts of its end", () => {
  const of = (rest) => failureText(`torchx_failure:${rest}`);

  assert.equal(
    of("trainer/2,oom,exit=137,signal=SIGKILL,rule=cuda-oom"),
    "trainer/2: out of memory, exit 137, SIGKILL, failure rule cuda-oom",
  );
  assert.equal(of("trainer/1,exit,exit=1,rank=5"), "trainer/1: exit 1, worker rank 5");
  assert.equal(of(",cancel"), "cancelled");
});

test("a key of another release, or of a user, is shown as far as it is known", () => {
  const of = (rest) => failureText(`torchx_failure:${rest}`);

  assert.equal(of("trainer/2,constructor,novelty=1,exit=,toString=3"), "trainer/2");
  assert.equal(of(""), "");
  assert.equal(of("a\u001b[31m\u202e,exit,exit=<b>"), "a: exit <b>");
});

test("keys are asked for in the time, and the DAG, of the rows", () => {
  const row = (dagId, runAfterMs) => ({ dagId, runAfterMs });
  const one = keysOf([row("d", 1000), row("d", 3000)]);

  assert.equal(one.dagId, "d");
  assert.equal(one.query.run_after_gte, "1970-01-01T00:00:01.000Z");
  assert.equal(one.query.run_after_lte, "1970-01-01T00:00:03.001Z");
  const several = keysOf([row("d", 1000), row("e", NaN)]);
  assert.deepEqual([several.dagId, several.query.run_after_gte], [null, undefined]);
});
