"""Features of the fake engine that a real one does not have."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine.containers import ContainerSpec, GpuRequest, LogQuery
from airflow_torchx.core.engine.images import BuildSpec, ImageDetail
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    ImageBuildError,
    ImagePullError,
    ImagePushError,
)
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from airflow_torchx.testing.container import duration
from tests.contract.image_bench import tar

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREVER = Program(runs_for_s=None)
SPEC = ContainerSpec(
    role="trainer",
    replica=0,
    name="app-trainer-0",
    image="busybox",
    entrypoint="sh",
    args=(),
    env={},
    labels={"app": "app"},
    network="bridge",
)
PEER = replace(SPEC, replica=1, name="app-trainer-1")
LOADER = replace(SPEC, role="loader", name="app-loader-0")


def run(engine: FakeEngine, spec: ContainerSpec = SPEC) -> str:
    """Create and start a container."""
    container_id = engine.create(spec)
    engine.start(container_id)
    return container_id


def status(engine: FakeEngine) -> str:
    """Return the status of the newest container."""
    return engine.rows({})[0].status


def code(engine: FakeEngine, container_id: str) -> int | None:
    """Return the exit code of a container."""
    found = engine.inspect(container_id)
    assert found is not None
    return found.exit_code


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the engine."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> FakeEngine:
    """Return an engine on a manual clock."""
    return FakeEngine(images=["busybox"], clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize(("gpus", "ids"), [(2, ("GPU-0", "GPU-1")), (["a"], ("a",)), (0, ())])
def test_gpus(gpus: int | list[str], ids: tuple[str, ...]) -> None:
    """A fake daemon reports the GPUs that it is given, by number or by id."""
    info = FakeEngine(gpus=gpus).info()

    assert (ids, "nvidia.com/gpu" if ids else "") == (info.gpu_ids, info.gpu_kind)


def test_each_daemon_is_another_one() -> None:
    """A launch on a second daemon finds the GPUs of that one, in the same process."""
    found: list[str] = []
    for gpu in ("GPU-a", "GPU-b"):
        nvidia_smi = Program(lines=[f"GPU 0: NVIDIA T4 (UUID: {gpu})"])
        engine = FakeEngine(images=["busybox"], gpus=1, reports_gpus=False, programs=nvidia_smi)
        resource = Resource(cpu=1, gpu=1, memMB=6)
        app = AppDef("train", [Role("r", "busybox", entrypoint="run", resource=resource)])
        with DockerScheduler("test", engine) as scheduler:
            status = scheduler.describe(scheduler.submit(app, {}))
        assert status is not None
        found += status.roles_statuses[0].replicas[0].gpus

    assert ["GPU-a", "GPU-b"] == found


@pytest.mark.parametrize("gpus", [-1, "2", 2.5, True, None, ["a", ""], ["a", "a"], [0]])
def test_gpus_that_cannot_be_meant(gpus: Any) -> None:  # noqa: ANN401 - the subject
    """The error says what is expected."""
    with pytest.raises(ValueError, match="expected a number of GPUs, 0 or more, or a list of"):
        FakeEngine(gpus=gpus)


def test_a_container_with_gpus_needs_a_host_with_gpus() -> None:
    """A host may have GPUs that it does not report."""
    spec = replace(SPEC, gpus=GpuRequest(count=1))
    silent = FakeEngine(images=["busybox"], gpus=1, reports_gpus=False)

    assert () == silent.info().gpu_ids
    run(silent, spec)
    run(FakeEngine(images=["busybox"], gpus=1), spec)
    for without in (FakeEngine(images=["busybox"]), FakeEngine(images=["busybox"], gpus=0)):
        with pytest.raises(EngineError, match="could not select device driver"):
            run(without, spec)


def test_programs_by_replica(engine: FakeEngine) -> None:
    """A program for a replica overrides the one for its role; other containers exit with 0."""
    engine.programs = {"trainer": Program(exit_code=1), "trainer/1": Program(exit_code=2)}

    codes = [code(engine, run(engine, spec)) for spec in (SPEC, PEER, LOADER)]

    assert [1, 2, 0] == codes


def test_one_program_for_all(engine: FakeEngine) -> None:
    """A single program applies to all containers."""
    engine.programs = Program(exit_code=5)

    assert [5, 5] == [code(engine, run(engine, spec)) for spec in (SPEC, LOADER)]


def test_programs_by_spec(engine: FakeEngine) -> None:
    """A function of the spec can choose the program of a container."""
    engine.programs = lambda spec: Program(exit_code=int(spec.env.get("CODE", 0)))

    assert 7 == code(engine, run(engine, replace(SPEC, env={"CODE": "7"})))


def test_programs_by_run(engine: FakeEngine) -> None:
    """Each restart of a container can run a different program."""
    engine.programs = {"trainer": [Program(exit_code=1), Program(exit_code=2), Program()]}
    container_id = run(engine, replace(SPEC, max_restarts=5))
    detail = engine.inspect(container_id)

    assert detail is not None
    assert (0, 2, "exited") == (detail.exit_code, detail.restarts, detail.state)


def test_manual_clock(engine: FakeEngine, clock: ManualClock) -> None:
    """Time passes when the test advances it, and the container's status shows it."""
    engine.programs = Program(runs_for_s=90, exit_code=3)
    run(engine)

    seen = [status(engine)]
    for seconds in (1, 64, 24, 1, 3599):
        clock.advance(seconds)
        seen.append(status(engine))

    assert [
        "Up Less than a second",
        "Up 1 second",
        "Up About a minute",
        "Up About a minute",
        "Exited (3) Less than a second ago",
        "Exited (3) 59 minutes ago",
    ] == seen


def test_restart_delay(engine: FakeEngine, clock: ManualClock) -> None:
    """A container is restarting between two runs, and its detail counts the next restart."""
    engine.programs = Program(exit_code=1, restart_delay_s=2)
    container_id = run(engine, replace(SPEC, max_restarts=1))
    detail = engine.inspect(container_id)
    assert "Restarting (1) Less than a second ago" == status(engine)
    assert detail is not None
    assert ("restarting", 1) == (detail.state, detail.restarts)

    clock.advance(2)

    assert "Exited (1) Less than a second ago" == status(engine)


def test_blocking_takes_no_real_time(engine: FakeEngine, clock: ManualClock) -> None:
    """On a manual clock, the grace period of a stop takes no real time."""
    engine.programs = replace(FOREVER, on_term="ignore")
    container_id, began = run(engine), clock()

    engine.stop(container_id, 600)

    assert 137 == code(engine, container_id)
    assert 600 <= clock() - began < 601


def test_term_exit_code(engine: FakeEngine) -> None:
    """A program can have its own exit code for SIGTERM."""
    engine.programs = replace(FOREVER, term_exit_code=0)
    container_id = run(engine)

    engine.stop(container_id, 1)

    assert 0 == code(engine, container_id)


def test_end(engine: FakeEngine) -> None:
    """A test can end a run, by the container's id or its role and replica."""
    engine.programs = FOREVER
    ids = [run(engine, SPEC), run(engine, PEER)]

    engine.end("trainer/1", 137, oom_killed=True)
    detail = engine.inspect(ids[1])

    assert code(engine, ids[0]) is None
    assert detail is not None
    assert (137, True) == (detail.exit_code, detail.oom_killed)


def test_started_again(engine: FakeEngine) -> None:
    """An exited container can be started again, and keeps its log."""
    engine.programs = {"trainer": [Program(lines=["one"]), Program(lines=["two"])]}
    container_id = run(engine)

    engine.start(container_id)

    assert b"one\n" in b"".join(engine.logs(container_id, LogQuery()))
    assert b"two\n" in b"".join(engine.logs(container_id, LogQuery()))


def test_lines_in_time(engine: FakeEngine, clock: ManualClock) -> None:
    """A line appears at its time, and a run lasts until its last line."""
    engine.programs = Program(lines=["a", "b", "c"], line_every_s=10)
    container_id = run(engine)

    clock.advance(10)

    assert b"a\nb\n" == text(b"".join(engine.logs(container_id, LogQuery())))
    assert status(engine).startswith("Up")
    clock.advance(10)
    assert status(engine).startswith("Exited")


def test_stopped_before_its_last_line(engine: FakeEngine, clock: ManualClock) -> None:
    """Lines that were due after a stop are never written."""
    engine.programs = Program(lines=["a", b"half a", " line"], line_every_s=10)
    container_id = run(engine)
    clock.advance(15)

    engine.stop(container_id, 1)
    clock.advance(15)

    assert b"a\n" == text(b"".join(engine.logs(container_id, LogQuery())))


def test_log_times_differ(engine: FakeEngine) -> None:
    """The messages of a container have unique timestamps, even if the clock stands still."""
    engine.programs = Program(lines=["a", "b"], exit_code=1)
    container_id = run(engine, replace(SPEC, max_restarts=2))

    log = text(b"".join(engine.logs(container_id, LogQuery(timestamps=True))))
    times = [word for word in log.split() if word.endswith(b"Z")]

    assert 6 == len(times)
    assert sorted(set(times)) == times


def test_follow_to_until(engine: FakeEngine, clock: ManualClock) -> None:
    """A follow ends with the first message after its end time."""
    engine.programs = Program(lines=["a", "b", "c"], line_every_s=10, runs_for_s=100)
    container_id, began = run(engine), clock()

    until_ns = round((began + 5) * 1e9)
    log = b"".join(engine.logs(container_id, LogQuery(follow=True, until_ns=until_ns)))

    assert b"a\n" == text(log)
    assert 10 <= clock() - began < 11


def test_chunks(engine: FakeEngine) -> None:
    """Chunks have the requested size, regardless of frames."""
    engine.chunk_bytes = 3
    engine.programs = Program(lines=["hello"])

    chunks = list(engine.logs(run(engine), LogQuery()))

    assert [3, 3, 3, 3, 2] == [len(chunk) for chunk in chunks]


def test_close_between_chunks(engine: FakeEngine) -> None:
    """A closed stream yields no more chunks, not even buffered ones."""
    engine.chunk_bytes = 3
    engine.programs = Program(lines=["hello"])
    stream = engine.logs(run(engine), LogQuery())

    seen = []
    for chunk in stream:
        seen.append(chunk)
        stream.close()

    assert 1 == len(seen)


def test_down(engine: FakeEngine) -> None:
    """Calls fail while the daemon is down, and containers keep running."""
    engine.programs = FOREVER
    container_id = run(engine)
    engine.down = True

    with pytest.raises(EngineUnreachableError):
        engine.rows({})

    assert engine.down
    engine.down = False
    assert engine.inspect(container_id) is not None
    assert status(engine).startswith("Up")


def test_down_breaks_logs(engine: FakeEngine, clock: ManualClock) -> None:
    """A followed log fails when the daemon goes down, even if it is up again at once."""
    engine.programs = Program(lines=["a", "b"], line_every_s=60)
    stream = iter(engine.logs(run(engine), LogQuery(follow=True)))
    assert b"a\n" == text(next(stream))

    engine.down = True
    engine.down = False
    clock.advance(60)

    with pytest.raises(EngineUnreachableError):
        next(stream)


def test_down_breaks_stop(clock: ManualClock) -> None:
    """A waiting stop fails when the daemon goes down."""
    engine = FakeEngine(
        images=["busybox"], clock=clock, programs=replace(FOREVER, on_term="ignore")
    )
    container_id = run(engine)

    def go_down(_: float) -> None:
        engine.down = True

    engine.sleep = go_down

    with pytest.raises(EngineUnreachableError):
        engine.stop(container_id, 10)


@pytest.mark.parametrize("on", ["", "app-trainer-1", "trainer/1"])
@pytest.mark.parametrize("verb", ["create", "start"])
def test_fail_next(engine: FakeEngine, verb: str, on: str) -> None:
    """A planned error is raised once, for the named container, and nothing is executed."""
    error = EngineError("no space left on device.")
    engine.fail_next("create" if verb == "create" else "start", error, on=on)
    if on:
        run(engine, SPEC)

    with pytest.raises(EngineError) as caught:
        run(engine, PEER)

    assert error is caught.value
    states = {row.name: row.state for row in engine.rows({})}
    assert ("created" if verb == "start" else None) == states.get(PEER.name)
    run(engine, LOADER)


def test_fail_next_times(engine: FakeEngine) -> None:
    """A planned error can be raised several times, and may be a BaseException."""
    engine.fail_next("rows", KeyboardInterrupt(), times=2)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            engine.rows({})

    assert () == engine.rows({})


def test_fail_after(engine: FakeEngine) -> None:
    """A call can fail after it was executed."""
    engine.fail_next("create", EngineUnreachableError("timed out."), after=True)

    with pytest.raises(EngineUnreachableError):
        engine.create(SPEC)

    assert {SPEC.name: SPEC} == engine.specs()


def test_before(engine: FakeEngine) -> None:
    """Another client can act on the daemon at the start of a call."""
    container_id = engine.create(SPEC)
    seen = []

    def remove_container(verb: str, name: str) -> None:
        seen.append((verb, name))
        engine.before = None
        engine.remove(container_id)

    engine.before = remove_container

    with pytest.raises(EngineNotFoundError):
        engine.start(container_id)

    assert [("start", SPEC.name)] == seen


def test_before_may_block(engine: FakeEngine) -> None:
    """Other calls proceed while one is blocked."""
    gate = threading.Event()
    engine.before = lambda verb, _name: verb == "info" and gate.wait(60)
    blocked = threading.Thread(target=engine.info)
    blocked.start()

    engine.create(SPEC)

    assert blocked.is_alive()
    gate.set()
    blocked.join()


def test_calls(engine: FakeEngine) -> None:
    """Each call is recorded by its verb."""
    run(engine)
    with engine:
        engine.rows({})

    assert ["create", "start", "rows"] == engine.calls
    assert engine.closed


def test_specs(engine: FakeEngine) -> None:
    """The specs of all containers are available by current name."""
    container_id = engine.create(SPEC)
    engine.rename(container_id, "other")

    assert {"other": SPEC} == engine.specs()


def test_pull(engine: FakeEngine) -> None:
    """Images that are listed as pullable can be pulled."""
    engine = FakeEngine(pullable=["docker.io/library/busybox:1"])
    lines: list[str] = []

    engine.pull("busybox:1", lines.append)

    assert ["pulled busybox:1"] == lines
    assert engine.find_image("busybox:1") is not None
    with pytest.raises(ImagePullError):
        engine.pull("busybox", lines.append)


def test_image_details(engine: FakeEngine) -> None:
    """A test can define the details of an image, which gets an id if it has none."""
    details = {
        "python:3": ImageDetail(id="", user="me", working_dir="/app", volumes=("/data",)),
        "own": ImageDetail(id="sha256:own"),
    }
    engine = FakeEngine(images=["busybox"], image_details=details)
    detail = engine.images.inspect("python:3")

    assert detail is not None
    assert ("me", "/app", ("/data",)) == (detail.user, detail.working_dir, detail.volumes)
    assert engine.find_image("python:3") == detail.id
    assert "sha256:own" == engine.find_image("own:latest")
    container_id = engine.images.prepare("python:3", "c1", {})
    above = engine.images.commit(container_id, "python:4", "/w")
    assert replace(detail, id=above, working_dir="/w") == engine.images.inspect(above)


BUILD = BuildSpec(tag="app:1", dockerfile="Dockerfile", labels={"k": "1"})


def test_build(engine: FakeEngine, clock: ManualClock) -> None:
    """A build passes the files of its context to the test; the image has them and the labels."""
    seen: list[object] = []
    lines: list[str] = []
    engine.builds = lambda spec, files: seen.extend([spec, files])

    image_id = engine.images.build(
        BUILD, [tar({"Dockerfile": b"FROM x", "d/a": b"1"})], lines.append
    )

    assert [BUILD, {"Dockerfile": b"FROM x", "d/a": b"1"}] == seen
    assert ["built app:1"] == lines
    row = engine.images.rows({"k": "1"})[0]
    assert (image_id, ("app:1",), clock()) == (row.id, row.tags, row.created_s)
    assert b"1" == engine.read_file(engine.create(replace(SPEC, image="app:1")), "/d/a", 10)


def test_no_build(engine: FakeEngine) -> None:
    """Without a builder, a build fails with an error that says why."""
    with pytest.raises(
        ImageBuildError, match=r"does not run Dockerfiles.*\n.*FakeEngine\(builds=...\)"
    ):
        engine.images.build(BUILD, [tar({})], print)

    assert engine.find_image("app:1") is None


def test_build_fails(engine: FakeEngine) -> None:
    """An error of the builder is raised by the build, and no image is created."""
    error = ImageBuildError("step 2 of 3 failed.")

    def builds(_: BuildSpec, __: dict[str, bytes]) -> None:
        raise error

    engine.builds = builds

    with pytest.raises(ImageBuildError) as caught:
        engine.images.build(BUILD, [], print)

    assert error is caught.value
    assert engine.find_image("app:1") is None


def test_push(engine: FakeEngine) -> None:
    """A pushed image is published and can be pulled again."""
    lines: list[str] = []
    engine.images.tag("busybox", "reg:5000/app:1")
    assert not engine.images.is_published("reg:5000/app:1")

    engine.images.push("reg:5000/app:1", lines.append)
    engine.images.untag("reg:5000/app:1")
    engine.pull("reg:5000/app:1", lines.append)

    assert ["pushed reg:5000/app:1", "pulled reg:5000/app:1"] == lines
    assert {"reg:5000/app:1"} == engine.published
    assert engine.images.is_published("reg:5000/app:1")
    assert engine.find_image("busybox") == engine.find_image("reg:5000/app:1")


def test_push_missing_image(engine: FakeEngine) -> None:
    """An image that does not exist cannot be pushed."""
    with pytest.raises(ImagePushError, match="does not exist locally"):
        engine.images.push("app:1", print)

    assert set() == engine.published


def test_published(engine: FakeEngine) -> None:
    """A test can declare images as published."""
    engine.published.add("reg/app:latest")

    engine.pull("reg/app", print)

    assert engine.images.is_published("docker.io/reg/app")
    assert engine.find_image("reg/app") is not None


@pytest.mark.parametrize("on", ["", "c2"])
def test_fail_next_of_images(engine: FakeEngine, on: str) -> None:
    """Image verbs fail as planned; those on a container go by the container's name."""
    error = EngineError("no space left on device.")
    first, second = (engine.images.prepare("busybox", name, {}) for name in ("c1", "c2"))
    engine.fail_next("put_files", error, on=on)
    if on:
        engine.images.put_files(first, [tar({"x": b"1"})])

    with pytest.raises(EngineError) as caught:
        engine.images.put_files(second, [tar({"x": b"1"})])

    assert error is caught.value
    with pytest.raises(EngineNotFoundError):
        engine.read_file(second, "/x", 10)


def test_calls_of_images(engine: FakeEngine) -> None:
    """Each image verb is recorded, and fails while the daemon is down."""
    images = engine.images
    container_id = images.prepare("busybox", "c1", {})
    images.put_files(container_id, [])
    images.commit(container_id, "app:1", "/")
    images.tag("app:1", "app:2")
    images.push("app:2", print)
    images.is_published("app:2")
    images.untag("app:2")
    images.inspect("app:1")
    engine.down = True

    with pytest.raises(EngineUnreachableError):
        images.rows({})

    assert [
        *("prepare", "put_files", "commit", "tag", "push", "is_published", "untag"),
        *("image_inspect", "image_rows"),
    ] == engine.calls


def test_calls_during_upload(engine: FakeEngine) -> None:
    """Other threads can use the daemon during an upload."""
    container_id = engine.images.prepare("busybox", "c1", {})
    seen: list[str | None] = []

    def files() -> Iterator[bytes]:
        other = threading.Thread(target=lambda: seen.append(engine.find_image("busybox")))
        other.start()
        other.join(60)
        yield tar({"x": b"1"})

    engine.images.put_files(container_id, files())

    assert [engine.find_image("busybox")] == seen
    assert b"1" == engine.read_file(container_id, "/x", 10)


def test_container_removed_during_upload(engine: FakeEngine) -> None:
    """An upload fails if its container is removed meanwhile."""
    container_id = engine.images.prepare("busybox", "c1", {})

    def files() -> Iterator[bytes]:
        engine.remove(container_id)
        yield tar({"x": b"1"})

    with pytest.raises(EngineNotFoundError):
        engine.images.put_files(container_id, files())


def test_program_files_override_image_files(engine: FakeEngine) -> None:
    """Files of a program override those of the image."""
    engine.programs = Program(files={"/x": b"2"})
    prepared = engine.images.prepare("busybox", "c1", {})
    engine.images.put_files(prepared, [tar({"x": b"1", "y": b"1"})])
    engine.images.commit(prepared, "app:1", "/")
    container_id = engine.create(replace(SPEC, image="app:1"))
    assert b"1" == engine.read_file(container_id, "/x", 10)

    engine.start(container_id)

    assert [b"2", b"1"] == [engine.read_file(container_id, path, 10) for path in ("/x", "y")]


def test_rows_of_images(engine: FakeEngine, clock: ManualClock) -> None:
    """The newest image is listed first."""
    for number in range(3):
        container_id = engine.images.prepare("busybox", f"c{number}", {"k": "1"})
        engine.images.commit(container_id, f"app:{number}", "/")
        clock.advance(1)

    assert [("app:2",), ("app:1",), ("app:0",)] == [
        row.tags for row in engine.images.rows({"k": None})
    ]


def test_untag_of_a_used_parent(engine: FakeEngine) -> None:
    """An untagged image remains while a container uses it."""
    engine.create(SPEC)
    prepared = engine.images.prepare("busybox", "c1", {})
    engine.images.commit(prepared, "app:1", "/")
    busybox = engine.find_image("busybox")
    engine.images.tag("app:1", "busybox")
    engine.remove(prepared)

    for tag in ("app:1", "busybox"):
        engine.images.untag(tag)

    assert busybox is not None
    assert busybox == engine.find_image(busybox)
    with pytest.raises(EngineConflictError):
        engine.images.untag(busybox)


def test_two_networks_of_one_name(engine: FakeEngine) -> None:
    """Older Engines create two networks with one name, and then start no container on it."""
    engine.unique_networks = False
    ids = [engine.create_network("torchx") for _ in range(2)]
    spec = replace(SPEC, network="torchx")

    with pytest.raises(EngineError, match="ambiguous"):
        run(engine, spec)

    assert ids == [row.id for row in engine.networks("torchx")]
    run(engine, replace(PEER, network=ids[0]))


@pytest.mark.parametrize("name", ["-app", "a", "a b"])
def test_invalid_names(engine: FakeEngine, name: str) -> None:
    """Container names that Docker does not allow are refused."""
    with pytest.raises(EngineError, match="invalid container name"):
        engine.create(replace(SPEC, name=name))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.9, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (119, "About a minute"),
        (3599, "59 minutes"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    """Durations have the format of Docker's status text."""
    assert expected == duration(seconds)


def text(log: bytes) -> bytes:
    """Return the content of a log without frame headers."""
    found = b""
    while log:
        length = int.from_bytes(log[4:8], "big")
        found, log = found + log[8 : 8 + length], log[8 + length :]
    return found
