// What the card says of each kind of failure.

import assert from "node:assert/strict";
import { test } from "node:test";

import { failureView } from "../../airflow_torchx/ui/static/failure.js";
import { readSnapshot } from "../../airflow_torchx/ui/static/snapshot.js";

const STARTED = [[10, "SUBMITTED"], [20, "RUNNING"]];

/** Return the view of a failure of `train/0`, of which the snapshot has this replica. */
function view(failure, replica = {}) {
  const replicas = [{ id: 0, t: STARTED, ...replica }];
  const snapshot = { app_id: "a", failure: { role: "train", id: 0, lines: [], ...failure }, roles: [{ name: "train", replicas }] };
  return failureView(readSnapshot(snapshot));
}

function sentence(failure, replica) {
  return view(failure, replica).sentence;
}

test("each kind of a failure has its sentence", () => {
  const of = (kind, more = {}) => sentence({ kind, ...more });

  assert.equal(of("oom"), "train/0 ran out of memory.");
  assert.equal(of("signal", { signal: "SIGSEGV" }), "train/0 was killed by SIGSEGV.");
  assert.equal(of("signal"), "train/0 was killed by a signal.");
  assert.equal(of("start", { exit: 127 }), "train/0 did not start.");
  assert.equal(of("lost"), "train/0 is gone: its container was removed from the daemon.");
  assert.equal(of("stalled", { signal: "SIGKILL" }), "train/0 was stopped because the app made no progress.");
  assert.equal(of("exit", { exit: 3 }), "train/0 failed with exit code 3.");
  assert.equal(of("exit", { exit: 1, worker: { exit: -11, signal: "SIGSEGV" } }), "train/0 was killed by SIGSEGV.");
  assert.equal(of("exit"), "train/0 failed.");
});

test("the worker's exit goes before its launcher's, and that before the container's", () => {
  const kind = "exit";

  assert.match(sentence({ kind, exit: 1, worker: { exit: 7 } }, { exit: 2 }), /exit code 7/);
  assert.match(sentence({ kind, exit: 1 }, { exit: 2 }), /exit code 1/);
  assert.match(sentence({ kind }, { exit: 2 }), /exit code 2/);
});

test("a failure counts from the last start, and not from one after it", () => {
  const restarted = { t: [...STARTED, [50, "FAILED"], [60, "RUNNING"]] };

  assert.match(sentence({ kind: "oom", at: 70 }, restarted), /memory after 10 s\.$/);
  assert.match(sentence({ kind: "oom", at: 20 }), /memory after 0 s\.$/);
  assert.match(sentence({ kind: "oom", at: 15 }), /memory\.$/);
  assert.match(sentence({ kind: "oom", at: 70 }, { t: [] }), /memory\.$/);
});

test("the error is the worker's, else the structured one, else the container's", () => {
  const structured = JSON.stringify({ message: { message: "RuntimeError: x" } });
  const of = (failure) => view({ kind: "exit", ...failure }, { error: "no such file" }).error;

  assert.equal(of({ worker: { message: "OutOfMemoryError" }, structured }), "OutOfMemoryError");
  assert.equal(of({ structured }), "RuntimeError: x");
  assert.equal(of({ structured: { code: 3 } }), '{"code":3}');
  assert.equal(of({}), "no such file");
});

test("a failure without a replica is the app's, and without stopped peers says nothing of them", () => {
  const failure = failureView({ app_id: "a", failure: { kind: "exit", exit: 2, peers_stopped: 0 } });

  assert.equal(failure.sentence, "The app failed with exit code 2.");
  assert.deepEqual([failure.culprit, failure.facts, failure.lines], ["", [], []]);
});
