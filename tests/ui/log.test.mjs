// How the log of a task is read: in pieces that end anywhere.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { HttpError, readLog } from "../../airflow_torchx/ui/static/api.js";

const TASK = { dagId: "d", runId: "r:1", taskId: "g.t", mapIndex: 3 };
const PATH = "/airflow/api/v2/dags/d/dagRuns/r%3A1/taskInstances/g.t/logs/2?map_index=3";

/** Return the events of a log that a server answers with these status and pieces. */
async function read(status, pieces) {
  const server = createServer(async (request, response) => {
    response.writeHead(request.url === PATH ? status : 404);
    for (const piece of pieces) await new Promise((done) => response.write(piece, done));
    response.end();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  globalThis.document = { baseURI: `http://127.0.0.1:${server.address().port}/airflow/` };
  try {
    const events = [];
    for await (const event of readLog(TASK, 2, new AbortController().signal)) events.push(event);
    return events;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("events are read wherever the pieces of an answer end, the last one without a line end, too", async () => {
  const text = Buffer.from('{"event": "é 1"}\n\n{"event": "2"}\n{"event": "3"}');
  const events = [{ event: "é 1" }, { event: "2" }, { event: "3" }];

  for (const at of [1, 12, 16, 17, 18, text.length - 1]) {
    assert.deepEqual(await read(200, [text.subarray(0, at), text.subarray(at)]), events, `cut at ${at}`);
  }
  assert.deepEqual(await read(200, []), []);
});

test("a log that is refused is an error with its status", async () => {
  await assert.rejects(read(403, ["{}"]), (error) => error instanceof HttpError && error.status === 403);
});
