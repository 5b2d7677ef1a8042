// What the page draws of recorded snapshots. Run by test_javascript.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import { appView, MAX_LANES, visibleLanes } from "../../airflow_torchx/ui/static/model.js";
import { readSnapshot } from "../../airflow_torchx/ui/static/snapshot.js";
import { recorded } from "./snapshots.mjs";

const T0 = 1795453200;

function view(name, now = {}, change = {}) {
  const snapshot = readSnapshot({ ...recorded(name), ...change });
  return appView(snapshot, { nowS: T0 + 903, taskState: "running", ...now });
}

function lanes(app) {
  return app.roles.flatMap((role) => role.lanes);
}

test("a running app has a lane for each replica, which ends now", () => {
  const app = view("running");

  assert.equal(app.word, "running");
  assert.equal(app.summary, "9 replicas · 9 running");
  assert.deepEqual(
    app.roles.map((role) => [role.name, role.counts, role.lanes.length]),
    [
      ["trainer", "8 running", 8],
      ["reader", "1 running", 1],
    ],
  );
  assert.deepEqual(
    lanes(app).map((lane) => lane.segments.at(-1).to),
    Array(9).fill(1),
  );
});

test("a lane is thin from the create to the start, and thick until the end", () => {
  const [wait, run] = lanes(view("succeeded"))[0].segments;

  assert.deepEqual([wait.from, wait.isWait, wait.tone], [0, true, "queued"]);
  assert.deepEqual([run.isWait, run.tone], [false, "success"]);
  assert.equal(wait.to, run.from);
  assert.equal(run.to, 880 / 892);
});

test("the axis can begin at the first start", () => {
  const created = lanes(view("succeeded"))[0].segments;
  const started = lanes(view("succeeded", { isStartZero: true }))[0].segments;

  assert.equal(created.length, 2);
  assert.deepEqual(
    started.map((one) => [one.from, one.isWait]),
    [[0, false]],
  );
});

test("only the culprit is red; the peers that were stopped are grey", () => {
  const tones = lanes(view("oom")).map((lane) => lane.tone);

  assert.deepEqual(tones, ["removed", "removed", "failed", ...Array(5).fill("removed")]);
});

test("an auxiliary role that was stopped is grey, and its app has succeeded", () => {
  const app = view("auxiliary", { taskState: "success" });
  const [first, second, stopped] = lanes(app);

  assert.deepEqual([app.word, app.tone, app.failure, app.failedAt], ["succeeded", "success", null, null]);
  assert.equal(app.summary, "3 replicas · 2 succeeded · 1 cancelled");
  assert.deepEqual([first.tone, second.tone], ["success", "success"]);
  assert.deepEqual(
    [stopped.key, stopped.tone, stopped.word, stopped.end],
    ["tensorboard/0", "removed", "cancelled", "exit 143, SIGTERM"],
  );
  assert.deepEqual(
    stopped.segments.map((one) => one.tone),
    ["queued", "removed"],
  );
});

test("a peer that failed after the culprit is grey, too, and keeps its word", () => {
  const snapshot = recorded("oom");
  Object.assign(snapshot.roles[0].replicas[5], { state: "FAILED", exit: 1 });
  const peer = lanes(appView(readSnapshot(snapshot), { nowS: T0 }))[5];

  assert.deepEqual([peer.tone, peer.word, peer.isCulprit], ["removed", "failed", false]);
});

test("the failure says who, when and why, and where it is on the axis", () => {
  const { failure, failedAt } = view("oom", { taskState: "failed" });

  assert.equal(failure.culprit, "trainer/2");
  assert.equal(failure.sentence, "trainer/2 ran out of memory (limit 16 GiB) after 10 min 1 s.");
  assert.deepEqual(failure.facts, ["7 peers stopped"]);
  assert.equal(failure.lines.at(-1), "MemoryError");
  assert.equal(failedAt, 612 / 620);
});

test("a failed worker is named with its rank, its error and the failure rule", () => {
  const { failure } = view("worker", { taskState: "failed" });

  assert.equal(failure.sentence, "trainer/1 failed with exit code 1 after 4 min 51 s.");
  assert.deepEqual(failure.facts, [
    "worker rank 5",
    "failure rule cuda_out_of_memory",
    "1 peer stopped",
  ]);
  assert.match(failure.error, /^OutOfMemoryError: CUDA out of memory/);
});

test("a replica of another role with the same number is not to blame", () => {
  const snapshot = recorded("oom");
  const [trainer] = snapshot.roles;
  snapshot.roles.push({ ...trainer, name: "reader", replicas: trainer.replicas.slice(0, 3) });

  assert.deepEqual(
    lanes(appView(readSnapshot(snapshot), { nowS: T0 })).filter((lane) => lane.isCulprit).map((lane) => lane.key),
    ["trainer/2"],
  );
});

test("a cancel that has a replica and a moment blames none", () => {
  const failure = { kind: "cancel", role: "trainer", id: 2, at: T0 + 600, lines: [] };
  const app = view("oom", {}, { failure });

  assert.deepEqual([app.failedAt, lanes(app).some((lane) => lane.isCulprit)], [null, false]);
});

test("a cancelled app has no culprit and no mark on the axis", () => {
  const app = view("cancelled", { taskState: "failed" });

  assert.equal(app.failure.sentence, "The app was cancelled.");
  assert.equal(app.failedAt, null);
  assert.deepEqual(
    lanes(app).map((lane) => lane.tone),
    Array(4).fill("removed"),
  );
});

test("a cancelled app with a replica that had failed has its card and its mark", () => {
  const app = view("oom", { taskState: "failed" }, { state: "CANCELLED" });

  assert.match(app.failure.sentence, /^trainer\/2 ran out of memory/);
  assert.equal(app.failure.isCancel, false);
  assert.equal(app.failedAt === null, false);
  assert.deepEqual(
    lanes(app).filter((lane) => lane.tone === "failed").map((lane) => lane.key),
    ["trainer/2"],
  );
});

test("an auxiliary replica that failed is amber, with a word; the culprit alone is red", () => {
  const failed = (name, change = {}) => {
    const snapshot = recorded(name);
    const role = { ...snapshot.roles[0], name: "tensorboard", auxiliary: true };
    role.replicas = [{ ...role.replicas[0], id: 0, state: "FAILED", exit: 1, signal: null }];
    snapshot.roles.push(role);
    const app = appView(readSnapshot({ ...snapshot, ...change }), { nowS: T0 });
    return [lanes(app).at(-1), lanes(app).filter((lane) => lane.tone === "failed").length];
  };

  for (const [name, red] of [["running", 0], ["succeeded", 0], ["oom", 1]]) {
    const [lane, culprits] = failed(name);
    assert.deepEqual([lane.tone, lane.word, lane.end, culprits], ["retry", "failed", "exit 1, auxiliary", red]);
    assert.equal(lane.segments.at(-1).tone, "retry");
  }
});

test("a lane says how its replica ended", () => {
  assert.deepEqual(
    [0, 2].map((id) => lanes(view("oom"))[id].end),
    ["exit 143, SIGTERM", "exit 137, SIGKILL, out of memory"],
  );
  const snapshot = recorded("succeeded");
  const [stopped, broken] = snapshot.roles[0].replicas;
  Object.assign(stopped, { state: "FAILED", exit: 137, stalled: true });
  Object.assign(broken, { state: "FAILED", exit: 127, error: "no such \u001b[1mfile" });
  assert.deepEqual(
    lanes(appView(readSnapshot(snapshot), { nowS: T0 })).slice(0, 2).map((lane) => lane.end),
    ["exit 137, stalled", "exit 127, no such file"],
  );
  assert.deepEqual(lanes(view("succeeded")).map((lane) => lane.end).filter(Boolean), []);
});

test("memory has its peak and its limit, and is marked near the limit", () => {
  const [first, , culprit] = lanes(view("oom")).map((lane) => lane.mem);

  assert.deepEqual([first.label, first.isNear], ["peak 9 GiB of 16 GiB", false]);
  assert.deepEqual([culprit.label, culprit.isNear], ["peak 16 GiB of 16 GiB", true]);
  assert.equal(culprit.points.split(" ").length, 40);
  assert.equal(lanes(view("oom"))[0].cpu.label, "3.6 of 4 CPUs");
  assert.equal(lanes(view("oom"))[0].duration, "10 min 9 s");
});

test("a CPU that is used to its limit is no danger", () => {
  const snapshot = recorded("deferred");
  snapshot.roles[0].replicas[0].usage.cpu = [4, 4, 4];

  assert.equal(lanes(appView(readSnapshot(snapshot), { nowS: T0 }))[0].cpu.isNear, false);
});

test("GPUs have a line and their memory; an app without GPUs has no such column", () => {
  const app = view("worker");

  assert.deepEqual(
    lanes(app).map((lane) => lane.gpu.label),
    ["96 %, 19 GiB of 24 GiB", "96 %, 23.9 GiB of 24 GiB"],
  );
  assert.deepEqual([app.has.gpu, view("running").has.gpu], [true, false]);
});

test("a structured error that is cut is shown as it is", () => {
  const error = (structured) => {
    const snapshot = recorded("worker");
    Object.assign(snapshot.failure, { worker: null, structured });
    return appView(readSnapshot(snapshot), { nowS: T0 }).failure.error;
  };

  assert.match(error(recorded("worker").failure.structured), /^OutOfMemoryError/);
  assert.equal(error('{"message": {"mess'), '{"message": {"mess');
});

test("a point that is missing is a gap, not a zero", () => {
  const snapshot = recorded("deferred");
  snapshot.roles[0].replicas[0].usage.cpu = [1, null, 1];
  const cpu = lanes(appView(readSnapshot(snapshot), { nowS: T0 }))[0].cpu;

  assert.deepEqual(
    cpu.points.split(" ").map((point) => point.split(",")[0]),
    ["0", "100"],
  );
});

test("a replica that uses far less CPU than its role is odd", () => {
  const odd = lanes(view("running")).map((lane) => lane.odd);

  assert.match(odd[5], /^uses 1.* CPUs, its role 3/);
  assert.equal(odd.filter(Boolean).length, 1);
});

test("the mark of an odd replica and its column have one number", () => {
  const snapshot = recorded("running");
  snapshot.roles[0].replicas[5].usage.cpu.push(0.1, 1.9);
  const lane = lanes(appView(readSnapshot(snapshot), { nowS: T0 }))[5];

  assert.equal(lane.odd.match(/uses ([\d.]+) CPUs/)[1], lane.cpu.label.match(/^([\d.]+) of/)[1]);
});

test("replicas of a small role are never odd", () => {
  const snapshot = recorded("running");
  snapshot.roles[0].replicas = snapshot.roles[0].replicas.slice(3, 6);
  const app = appView(readSnapshot(snapshot), { nowS: T0 });

  assert.deepEqual(
    lanes(app).map((lane) => lane.odd),
    ["", "", "", ""],
  );
});

test("columns are there only if a replica has something in them", () => {
  const replicas = [{ id: 0, state: "RUNNING", t: [[T0, "RUNNING"]] }];
  const bare = appView(readSnapshot({ app_id: "a", roles: [{ name: "train", replicas }] }), { nowS: T0 + 60 });

  assert.deepEqual(bare.has, { cpu: false, mem: false, gpu: false, end: false });
  assert.deepEqual(view("oom").has, { cpu: true, mem: true, gpu: false, end: true });
});

test("launch, skew and duration are tiles; restarts only if there were any", () => {
  const label = (app) => app.tiles.map((tile) => [tile.label, tile.value]);

  assert.deepEqual(label(view("succeeded")), [
    ["Ran for", "14 min 43 s"],
    ["Launch", "9 s"],
    ["First to last start", "3 s"],
  ]);
  assert.deepEqual(label(view("restarted")).at(-1), ["Restarts", "1 round"]);
  const snapshot = recorded("restarted");
  Object.assign(snapshot.roles[0].replicas[1], { round: 3, restarts: 5 });
  const restarted = appView(readSnapshot(snapshot), { nowS: T0 });
  assert.deepEqual(label(restarted).at(-1), ["Restarts", "3 rounds, 2 by Docker"]);
  const replicas = [{ id: 0, t: [[T0, "RUNNING"]] }];
  const one = { app_id: "a", state: "RUNNING", created: T0, roles: [{ name: "train", replicas }] };
  assert.deepEqual(label(appView(readSnapshot(one), { nowS: T0 + 60 })), [["Running for", "1 min"]]);
});

test("an app that has not begun to run has an axis of a second, and no durations", () => {
  const replicas = [{ id: 0, state: "SUBMITTED", t: [[T0, "SUBMITTED"]] }];
  const snapshot = { app_id: "a", state: "SUBMITTED", created: T0, roles: [{ name: "train", replicas }] };
  const app = appView(readSnapshot(snapshot), { nowS: T0 });

  assert.deepEqual(app.ticks.map((tick) => tick.at), [0, 1]);
  assert.deepEqual([app.tiles, lanes(app)[0].duration], [[], ""]);
});

test("the lane of a replica whose end was not seen ends where it was seen last", () => {
  const snapshot = recorded("oom");
  snapshot.roles[0].replicas[0].t.pop();
  const [, run] = lanes(appView(readSnapshot(snapshot), { nowS: T0 + 9000 }))[0].segments;

  assert.equal(run.to, run.from);
});

test("an earlier run of a restarted replica stays on its lane", () => {
  const tones = lanes(view("restarted"))[0].segments.map((one) => [one.isWait, one.tone]);

  assert.deepEqual(tones, [
    [true, "queued"],
    [false, "retry"],
    [true, "queued"],
    [false, "running"],
  ]);
});

test("at most four ticks, at round times, of which none has two units", () => {
  assert.deepEqual(
    view("succeeded").ticks.map((tick) => tick.label),
    ["0", "5 min", "10 min"],
  );
  for (const length of [0.5, 7, 59, 61, 92, 119, 3599, 5500, 90000, 864000]) {
    const app = view("deferred", { nowS: T0 + length }, { created: T0, roles: [] });
    const labels = app.ticks.map((tick) => tick.label);
    assert.ok(labels.length <= 4, `${length}: ${labels}`);
    // A narrow track has no room for "1 min 30 s" beside "1 min".
    assert.ok(!labels.some((label) => label.split(" ").length > 2), `${length}: ${labels}`);
  }
});

test("a snapshot that says running after the end of its task ends where it was last seen", () => {
  const app = view("running", { taskState: "failed", nowS: T0 + 9000 });

  assert.match(app.notes[0], /^The task ended as failed, but its last snapshot says running: the app is being stopped/);
  assert.deepEqual(view("oom", { taskState: "failed" }).notes, []);
  assert.equal(app.tiles[0].value, "14 min 52 s");
});

test("a snapshot with fewer replicas than the app says so", () => {
  const app = view("running", {}, { n_replicas: 400 });

  assert.deepEqual(app.notes, ["Showing 9 of 400 replicas; the counts are complete."]);
  assert.match(app.summary, /^400 replicas/);
  const snapshot = recorded("running");
  Object.assign(snapshot.roles[0], { n: 300, counts: { RUNNING: 299, FAILED: 1, CANCELLED: 0 } });
  const [trainer, reader] = appView(readSnapshot(snapshot), { nowS: T0 }).roles;
  assert.deepEqual([trainer.omitted, trainer.counts, reader.omitted], [292, "299 running, 1 failed", 0]);
});

test("a newer schema is drawn as far as it is known", () => {
  const app = view("running", {}, { schema: 2, novelty: [1] });

  assert.match(app.notes[0], /^A newer version of airflow_torchx/);
  assert.equal(lanes(app).length, 9);
});

test("of very many replicas, those that need a look have lanes", () => {
  const app = (n, change) => {
    const snapshot = recorded("running");
    const [role] = snapshot.roles;
    const [peer] = role.replicas;
    role.replicas = Array.from({ length: n }, (_, id) => ({ ...peer, id }));
    change(role.replicas, snapshot);
    snapshot.roles = [role];
    return visibleLanes(appView(readSnapshot(snapshot), { nowS: T0 }), "trainer/77")[0].lanes.map((lane) => lane.id);
  };
  const odd = (replicas) => (replicas[9] = { ...replicas[9], usage: { cpu: [0, 0, 0, 0] } });
  const failed = (replicas) => (replicas[5] = { ...replicas[5], state: "FAILED" });
  const blamed = (replicas, snapshot) => {
    failed(replicas);
    replicas[6] = { ...replicas[6], state: "CANCELLED" };
    snapshot.failure = { kind: "stalled", role: "trainer", id: 6, lines: [] };
  };

  assert.deepEqual([odd, failed, blamed].map((change) => app(MAX_LANES + 64, change)), [
    [9, 77],
    [5, 77],
    [6, 77],
  ]);
  assert.equal(app(MAX_LANES, odd).length, MAX_LANES);
});

test("no text of a snapshot changes how others are read", () => {
  const hostile = "\u202e\u061c\u001b[31mx";
  const texts = (value) =>
    typeof value === "string" ? [value] : Object.values(value ?? {}).flatMap((one) => texts(one));
  const planted = (value) =>
    typeof value === "string"
      ? value + hostile
      : Array.isArray(value)
        ? value.map(planted)
        : value && typeof value === "object"
          ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name + hostile, planted(one)]))
          : value;
  const original = recorded("oom");
  const failure = { ...original.failure, role: hostile, rule: hostile, lines: [hostile], structured: hostile };
  const roles = original.roles.map((role) => ({
    ...role,
    name: planted(role.name),
    image: planted(role.image),
    counts: planted(role.counts),
    replicas: role.replicas.map((one) => ({ ...one, state: hostile, error: hostile, signal: hostile, name: hostile })),
  }));

  const app = view("oom", { taskState: `failed${hostile}` }, { app_id: hostile, state: hostile, roles, failure });

  assert.deepEqual(texts(app).filter((text) => /[\u202e\u061c\u001b]/.test(text)), []);
});
