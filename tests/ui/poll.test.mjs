// When the page asks again. Run by test_javascript.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Poller } from "../../airflow_torchx/ui/static/poll.js";

globalThis.document = { visibilityState: "visible", addEventListener() {}, removeEventListener() {} };

function unanswered(signal) {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

test("a question that a server does not answer is an error, and is asked again", { timeout: 60_000 }, async () => {
  const errors = [];
  // The timeout of a signal alone does not keep node running.
  const alive = setInterval(() => {}, 1000);
  await new Promise((resolve) => {
    const poller = new Poller(
      (signal) => {
        if (errors.length < 1) return unanswered(signal);
        poller.stop();
        resolve();
        return Promise.resolve(1);
      },
      (error) => errors.push(error.name),
      1,
    );
    poller.start();
  });
  clearInterval(alive);

  assert.deepEqual(errors, ["TimeoutError"]);
});

test("a question that the page drops is not an error", async () => {
  const errors = [];
  const signals = [];
  const poller = new Poller(
    (signal) => {
      signals.push(signal);
      return unanswered(signal);
    },
    (error) => errors.push(error),
  );

  poller.start();
  poller.stop();
  await new Promise(setImmediate);

  assert.deepEqual([errors, signals.map((one) => one.aborted)], [[], [true]]);
});
