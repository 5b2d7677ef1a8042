"""Tests the command line on a real daemon, partly on a terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.cli import main
from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.core.state.app_ref import app_ref
from tests.airflow.gate import Gate, Hold, Kind, daemon_socket
from tests.airflow.processes import until
from tests.conftest import BUSYBOX
from tests.integration.terminal import CTRL_C, CTRL_D, Terminal
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ROOT: Final = Path(__file__).parents[2]
CLI: Final = (sys.executable, "-W", "ignore", "-m", "airflow_torchx.cli")
#: Prints ready, and exits with 0 on SIGTERM.
LOOP: Final = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
#: Prints a line again and again, and exits with 0 on SIGTERM.
TICKS: Final = "trap 'exit 0' TERM; while true; do echo tick; sleep 0.1; done"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Set up a home and a current folder, and restore the logger afterwards."""
    logger = logging.getLogger("airflow_torchx")
    before = logger.level, logger.handlers, logger.propagate
    home = tmp_path / "home"
    home.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("TORCHXCONFIG", "NO_COLOR", "FORCE_COLOR", "LOGLEVEL"):
        monkeypatch.delenv(name, raising=False)
    # Child processes import this checkout.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(home))

    yield

    logger.level, logger.handlers, logger.propagate = before


@pytest.fixture
def run_argv(docker_engine: DockerEngine, app_id: str) -> Iterator[list[str]]:
    """Return arguments that launch a shell in two replicas, except for its script.

    The containers have the test's label and are removed at its end.
    """
    cfg = f"stop_grace_s=2,labels=of-test:{app_id}"
    argv = ["run", "-s", "docker", "-cfg", cfg, "utils.sh"]

    yield [*argv, "--image", BUSYBOX, "--num_replicas", "2", "--", "sh", "-c"]

    for row in docker_engine.rows({"of-test": app_id}):
        docker_engine.remove(row.id)


def with_longer_grace(argv: list[str]) -> list[str]:
    """Return the arguments with so long a grace period that no replica is killed."""
    return [one.replace("stop_grace_s=2", "stop_grace_s=200") for one in argv]


@pytest.fixture
def states(docker_engine: DockerEngine, app_id: str) -> Callable[[], list[str]]:
    """Return a function that returns the states of the test's containers."""
    return lambda: [row.state for row in docker_engine.rows({"of-test": app_id})]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command line and returns exit code, output and errors."""

    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(argv)
        return (code, *capsys.readouterr())

    return call


def on_terminal(*argv: str) -> Terminal:
    """Run a command line on a terminal."""
    return Terminal([*CLI, *argv], cwd=Path.cwd())


def check_list(cli: Callable[..., tuple[int, str, str]], handle: str, app: str) -> None:
    """Check what the list says of an app that failed."""
    code, listed, _ = cli("list")
    assert 0 == code
    why = r"sh/\d: exit code \d+"
    assert re.search(rf"^{handle} +sh +FAILED +\d+ (s|min) +{why}", listed, re.MULTILINE)
    mine = [one for one in json.loads(cli("list", "--json")[1]) if one["app_id"] == app]
    row = {"handle": handle, "app_id": app, "name": "sh", "scheduler": "local_docker"}
    assert datetime.fromisoformat(mine[0].pop("created_at")).tzinfo
    failure = mine[0].pop("failure")
    assert re.fullmatch(why, f"{failure['replica']}: exit code {failure['exit_code']}")
    assert [row | {"state": "FAILED", "progress": None}] == mine


def test_an_app_from_launch_to_removal(
    cli: Callable[..., tuple[int, str, str]], run_argv: list[str]
) -> None:
    """Every command works on a failed app, with text and with JSON output."""
    # If both fail, one may stop the other before that has written anything.
    script = f"[ $TORCHX_REPLICA_IDX = 0 ] || {{ {LOOP}; }}; echo hello; exit 3"
    code, handle, errors = cli(*run_argv, script)
    handle = handle.strip()
    app = app_ref(handle).app_id

    assert (1, f"local_docker://torchx/{app}") == (code, handle)
    assert "sh/0 hello\n" in errors
    assert f"app '{app}' FAILED: sh/" in errors
    assert re.search(r"^sh/1 +\w+ +\d+ ", errors, re.MULTILINE)

    check_list(cli, handle, app)
    for name in (handle, f"docker:///{app}", app, app[:-1]):
        code, output, _ = cli("status", name)
        assert (0, f"{handle} is FAILED") == (code, output.splitlines()[0])
    status = json.loads(cli("status", "--json", "--roles", "sh", app)[1])
    assert ("FAILED", handle, "local_docker", 2) == (
        status["state"],
        status["handle"],
        status["scheduler"],
        len(status["roles"][0]["replicas"]),
    )
    replicas = status["roles"][0]["replicas"]
    assert (5, "FAILED") in [(one["state"], one["state_name"]) for one in replicas]
    code, _, errors = cli("status", "--roles", "x", app)
    assert (2, True) == (code, "use one of sh" in errors)

    _check_describe_and_delete(cli, app)


def _check_describe_and_delete(cli: Callable[..., tuple[int, str, str]], app: str) -> None:
    described = json.loads(cli("describe", "--json", app)[1])
    role = described["roles"][0]
    assert ("sh", BUSYBOX, 2) == (role["name"], role["image"], role["num_replicas"])
    assert f"image: {BUSYBOX}" in cli("describe", app)[1]

    assert (0, "", f"app {app} is already FAILED\n") == cli("cancel", app)
    assert (0, "", f"deleted app {app}\n") == cli("delete", app)
    code, output, errors = cli("status", app)
    assert (1, "") == (code, output)
    assert f"no app '{app}'" in errors


def test_a_failed_app_is_cancelled_if_a_replica_still_runs(
    cli: Callable[..., tuple[int, str, str]],
    run_argv: list[str],
    states: Callable[[], list[str]],
) -> None:
    """The command cancel stops replicas that outlive a failed peer, and says that it does."""
    run_argv[run_argv.index("-cfg") + 1] += ",failure_policy=wait_all"
    script = f"if [ $TORCHX_REPLICA_IDX = 1 ]; then exit 1; fi; {LOOP}"
    _, handle, _ = cli("run", "--detach", *run_argv[1:], script)
    app = app_ref(handle.strip()).app_id
    until(lambda: sorted(states()) == ["exited", "running"], "a failed and a running replica")

    code, _, errors = cli("cancel", app)

    said = f"stopping app {app}; this may take 2 s\napp {app} is FAILED\n"
    assert (0, True, ["exited"] * 2) == (code, errors.startswith(said), states())


def test_logs_of_roles_replicas_and_times(
    cli: Callable[..., tuple[int, str, str]], run_argv: list[str], tmp_path: Path
) -> None:
    """The log command prints all lines in the order of time, or the selected ones."""
    gate = "read line < /gates/$TORCHX_REPLICA_IDX"
    script = f"echo out; {gate}-err; echo err >&2; {gate}-end; echo end"
    for replica in (0, 1):
        os.mkfifo(tmp_path / f"{replica}-err")
        os.mkfifo(tmp_path / f"{replica}-end")
    mount = f"type=bind,src={tmp_path},dst=/gates"
    argv = [*run_argv[:1], "--detach", *run_argv[1:]]
    argv[argv.index("--") : argv.index("--")] = ["--mounts", mount]
    app = app_ref(cli(*argv, script)[1].strip()).app_id
    handle = f"local_docker://torchx/{app}"

    def lines() -> list[str]:
        return [line.split()[1] for line in cli("log", handle)[1].splitlines()]

    def has_lines(count: int) -> bool:
        return len(lines()) == count

    for count, word in ((2, "err"), (4, "end")):
        until(partial(has_lines, count), f"{count} lines")
        for replica in (0, 1):
            (tmp_path / f"{replica}-{word}").write_text("go\n")
    until(partial(has_lines, 6), "6 lines")

    assert ["out", "out", "err", "err", "end", "end"] == lines()
    assert ["sh/1 err"] == cli("log", "--streams", "stderr", f"{handle}/sh/1")[1].splitlines()
    matching = cli("log", "--regex", "e.d", f"{app}/sh")[1]
    assert ["sh/0 end", "sh/1 end"] == sorted(matching.splitlines())
    assert 6 == len(cli("log", "--tail", "--since", "10m", app)[1].splitlines())
    assert (0, "") == cli("log", "--since", "2031-01-01", app)[:2]
    for wrong, code, reason in (("/x", 1, "no role 'x'"), ("/sh/7", 1, "sh/0, sh/1")):
        answer = cli("log", app + wrong)
        assert (code, "") == answer[:2]
        assert reason in answer[2]


def test_gpus_of_a_daemon_that_reports_none(
    cli: Callable[..., tuple[int, str, str]],
) -> None:
    """The command gpus says how to name GPUs, and changes nothing; a connection can name them."""
    code, _, errors = cli("gpus")
    data = json.loads(cli("gpus", "--json")[1])

    assert 0 == code
    assert "reports no ids of GPUs, so only what holds some is listed\n" in errors
    assert {"host", "url", "ids_known", "gpus", "waiting", "requested_all", "unlisted"} == set(data)
    assert data["ids_known"] is False

    connection = {"conn_type": "torchx_docker", "extra": {"gpu_ids": ["GPU-7e57"]}}
    ran = subprocess.run(
        [*CLI, "gpus", "--json", "--conn", "gpu_host"],
        check=True,
        env={**os.environ, "AIRFLOW_CONN_GPU_HOST": json.dumps(connection)},
        capture_output=True,
        text=True,
    )
    (gpu,) = json.loads(ran.stdout)["gpus"]
    assert ("GPU-7e57", "free") == (gpu["id"], gpu["state"])


def test_json_output(cli: Callable[..., tuple[int, str, str]], run_argv: list[str]) -> None:
    """The command run --json prints one object and nothing else, even with --detach."""
    code, output, _ = cli("run", "--json", *run_argv[1:], "true")
    result = json.loads(output)
    assert (0, "SUCCEEDED") == (code, result["state"])
    assert {"handle", "app_id", "scheduler", "state", "ui_url"} == set(result)

    report = """echo '{"step": 7, "total": 9}' >$TORCHX_PROGRESS_FILE; sleep 600"""
    code, output, errors = cli("run", "--json", "--detach", *run_argv[1:], report)
    app = json.loads(output)["app_id"]
    assert 0 == code
    assert f"airflow-torchx log -t {app}" in errors
    until(lambda: "step 7/9\n" in cli("status", app)[1], "the step of the program")
    assert (7, 9) == tuple(json.loads(cli("status", app, "--json")[1])["progress"].values())[:2]
    assert re.search(rf"{app} +sh +RUNNING +\d+ (s|min) +step 7/9$", cli("list")[1], re.MULTILINE)
    code, _, errors = cli("cancel", app)
    assert (0, True) == (code, f"app {app} is CANCELLED" in errors)


def test_dry_run_creates_nothing_and_shows_no_secret(
    cli: Callable[..., tuple[int, str, str]],
    run_argv: list[str],
    states: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dry run creates no container, and masks secrets of any source in text and JSON."""
    monkeypatch.setenv("SHELL_TOKEN", "s3cret-1")
    Path(".torchxconfig").write_text("[docker]\ncopy_env = SHELL_*\nenv = API_KEY:s3cret-2\n")
    env = ["--env", "DB_PASSWORD=s3cret-3,URL=http://me:s3cret-4@db"]
    command = [*run_argv[: run_argv.index("--")], *env, "--", "echo", "s3cret-1"]

    code, plan, _ = cli("run", "--dryrun", *command[1:])
    same, data, _ = cli("run", "--dryrun", "--json", *command[1:])

    assert (0, 0) == (code, same)
    assert "s3cret" not in plan + data
    shown: dict[str, Any] = json.loads(data)
    containers = shown["request"]["containers"]
    assert {"scheduler", "cfg", "app", "request"} == set(shown)
    assert ("sh", 2) == (shown["app"]["roles"][0]["entrypoint"], len(containers))
    assert "***" == containers[0]["env"]["SHELL_TOKEN"]
    assert [] == states()


def test_status_names_the_worker_that_failed(
    cli: Callable[..., tuple[int, str, str]], run_argv: list[str]
) -> None:
    """The table of a failed app has the worker by the log, and `--json` has all that is known."""
    block = "Root Cause (first observed failure):\\n[0]:\\n  rank      : 5 (local_rank: 1)\\n"
    block += "  exitcode  : -11 (pid: 10)  (SIGSEGV)\\n====\\n"
    script = (
        f"test $TORCHX_REPLICA_IDX = 0 || {{ printf '{block}No space left on device'; exit 1; }}"
    )
    code, handle, card = cli(*run_argv, script)

    assert 1 == code
    assert "failed first: rank 5: exit code 139 (SIGSEGV)\nfailure rule: no_space_left\n" in card
    app_id = handle.strip().rpartition("/")[2]
    assert "failed first, rank 5: exit code 139 (SIGSEGV)" in cli("status", app_id)[1]
    data = json.loads(cli("status", "--json", app_id)[1])
    (failed,) = [one for one in data["roles"][0]["replicas"] if one["worker"]]
    assert (139, "no_space_left") == (failed["worker"]["exit_code"], failed["rule"])


@pytest.mark.usefixtures("own_modules")
def test_component_that_prints_and_changes_the_folder(
    cli: Callable[..., tuple[int, str, str]],
) -> None:
    """A component's output goes to standard error, and its chdir does not move the workspace."""
    Path("sub").mkdir()
    Path("train.sh").write_text("true")
    Path("mine.py").write_text(
        "import os\nfrom airflow_torchx.specs import AppDef, Role\n"
        "def fn() -> AppDef:\n    print('noise')\n    os.chdir('sub')\n"
        f"    return AppDef('a', [Role('r', '{BUSYBOX}', entrypoint='true')])\n"
    )
    here = Path.cwd()

    code, plan, errors = cli("run", "--dryrun", "mine.py:fn")

    assert 0 == code, errors
    assert "noise" in errors
    assert "noise" not in plan
    files = re.search(r"\((\d+) files", plan)
    assert files is not None, plan
    assert 1 < int(files[1])
    assert here / "sub" == Path.cwd()


def test_errors_and_their_exit_codes(
    cli: Callable[..., tuple[int, str, str]],
    run_argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Errors go to standard error without a traceback, and usage errors exit with 2."""
    shell = run_argv[-2:]
    Path("data.bin").write_bytes(b"x" * (1 << 21))
    too_large = ["-cfg", "max_context_mb=1", *run_argv[5:], "true"]
    too_much = ["--image", BUSYBOX, "--cpu", "100000", "--", *shell, "true"]
    cases = [
        (["run"], 2, "no component"),
        (["run", "utils.shh"], 2, "'utils.sh'"),
        (["run", "-cfg", "nework=x", "utils.sh"], 2, "'network'"),
        (["run", "utils.sh", "--imag", "x", "--nope", "1"], 2, "--nope"),
        (["run", "-d", "--wait", "utils.sh", "ls"], 2, "--detach"),
        (["run", *too_large], 1, '--workspace ""'),
        (["run", "--workspace", str(tmp_path / "nope"), *run_argv[5:], "true"], 1, "nope"),
        (["run", "--workspace", "", "utils.sh", *too_much], 1, "resource.cpu"),
        (["log", "--since", "soon", "x"], 2, "10m"),
        (["log", "--regex", "(", "x"], 2, "invalid --regex"),
        (["cancel", "local_cwd://x/y"], 2, "local_docker://"),
        (["delete", "there-is-no-such-app"], 1, "airflow-torchx list"),
    ]
    for argv, code, text in cases:
        answer = cli(*argv)

        assert (code, "") == answer[:2], (argv, answer)
        assert answer[2].startswith("error: ")
        assert text in answer[2]
        assert "Traceback" not in answer[2]
    monkeypatch.chdir("/")
    code, _, errors = cli("run", *run_argv[5:], "true")
    assert (2, True) == (code, "/ cannot be the workspace" in errors)


def test_configuration_of_the_home_and_the_current_folder(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The home folder's configuration wins, TORCHXCONFIG replaces both, unknown options warn."""
    home, here = Path("~").expanduser() / ".torchxconfig", Path(".torchxconfig")
    home.write_text(f"[component:utils.sh]\nimage = {BUSYBOX}\n[local_docker]\ntypo = 1\n")
    here.write_text(
        "[cli:run]\ncomponent = utils.sh\nworkspace =\n"
        "[component:utils.sh]\nimage = other\nnum_replicas = 3\nargs = echo from the file\n"
    )

    code, output, errors = cli("run", "--dryrun", "--json")
    request = json.loads(output)["request"]

    assert 0 == code
    assert "unknown run option 'typo'" in errors
    assert [BUSYBOX] * 3 == [one["image"] for one in request["containers"]]
    assert ["-c", "echo from the file"] == request["containers"][0]["args"]
    assert "workspaces" not in request

    monkeypatch.setenv("TORCHXCONFIG", str(tmp_path / "nope"))
    code, _, errors = cli("run", "--dryrun")
    assert (2, True) == (code, f"cannot read {tmp_path}/nope: " in errors)
    monkeypatch.setenv("TORCHXCONFIG", "")
    code, _, errors = cli("run", "--dryrun")
    assert (2, True) == (code, "no component" in errors)


@pytest.mark.usefixtures("no_images_left")
def test_ctrl_c_asks_once_and_cancels(run_argv: list[str], docker_engine: DockerEngine) -> None:
    """Ctrl-C asks once and cancels, and each replica's lines are printed once, in its colour."""
    Path("loop.sh").write_text(LOOP)
    with on_terminal(*with_longer_grace(run_argv[:-1]), "loop.sh") as terminal:
        for replica in (0, 1):
            terminal.wait_for(f"sh/{replica} ready")
        terminal.type(CTRL_C)
        terminal.wait_for("[Y/n]")
        terminal.type("n\n")
        terminal.wait_for("keeps running")
        terminal.type(CTRL_C)
        terminal.wait_for("[Y/n]", times=2)
        terminal.type("nope\n")
        terminal.wait_for("[Y/n]", times=3)
        terminal.type("\n")
        code = terminal.end()

    app = _launched_app(terminal)
    assert 1 == code
    assert "\033[36msh/0\033[0m ready" in terminal.raw
    assert "built workspace image" in terminal.text
    assert f"app '{app}' CANCELLED" in terminal.text
    for line in ("sh/0 ready", "sh/1 ready", "sh/0 bye", "sh/1 bye"):
        assert 1 == terminal.text.count(line)
    rows = docker_engine.rows({"torchx.pytorch.org/app-id": app})
    assert ["exited"] * 2 == [row.state for row in rows]


@contextlib.contextmanager
def interrupted(run_argv: list[str]) -> Iterator[Terminal]:
    """Run an app on a terminal, and type Ctrl-C."""
    argv = [*run_argv[:1], "--workspace", "", *run_argv[1:], LOOP]
    with on_terminal(*argv) as terminal:
        terminal.wait_for("ready")
        terminal.type(CTRL_C)
        terminal.wait_for("leaves it running) ")
        yield terminal


def _launched_app(terminal: Terminal) -> str:
    match = re.search(r"launched app (\S+):", terminal.text)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("keys", [CTRL_C, CTRL_D])
def test_second_ctrl_c_leaves_the_app_running(
    run_argv: list[str], states: Callable[[], list[str]], keys: str
) -> None:
    """A second Ctrl-C leaves the app running and prints the commands to reach it."""
    with interrupted(run_argv) as terminal:
        terminal.type(keys)
        code = terminal.end()

    app = _launched_app(terminal)
    assert 130 == code
    assert f"airflow-torchx log -t {app}" in terminal.text
    assert f"airflow-torchx cancel {app}" in terminal.text
    assert ["running"] * 2 == states()


@pytest.mark.parametrize(
    ("number", "shell"),
    [
        (signal.SIGINT, 'exec "$@"'),
        (signal.SIGTERM, 'exec "$@"'),
        (signal.SIGINT, 'exec "$@" <&-'),
    ],
    ids=["ctrl-c", "sigterm", "closed-stdin"],
)
def test_without_a_terminal_a_signal_cancels(
    run_argv: list[str], states: Callable[[], list[str]], number: signal.Signals, shell: str
) -> None:
    """A signal without a terminal cancels the app within its grace period, and prints the end."""
    argv = with_longer_grace([*run_argv[:1], "--workspace", "", *run_argv[1:], LOOP])
    with subprocess.Popen(
        ["bash", "-c", shell, "bash", *CLI, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "ready" not in process.stderr.readline():
            pass
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)

    assert 1 == process.returncode
    assert "bye" in errors
    assert "CANCELLED" in errors
    assert "\033[" not in errors
    assert ["exited"] * 2 == states()


def test_ctrl_c_does_not_interrupt_a_cancel(
    run_argv: list[str], states: Callable[[], list[str]], docker_engine: DockerEngine, app_id: str
) -> None:
    """Ctrl-C during a cancel prints a message, and the cancel completes."""
    ignoring = LOOP.replace("exit 0", "")
    argv = [*run_argv[:1], "--workspace", "", *run_argv[1:], ignoring]
    with on_terminal(*with_longer_grace(argv)) as terminal:
        terminal.wait_for("ready")
        terminal.type(CTRL_C)
        terminal.wait_for("[Y/n]")
        terminal.type("y\n")
        terminal.wait_for("stopping app")
        terminal.type(CTRL_C)
        terminal.wait_for("is already being stopped")
        for row in docker_engine.rows({"of-test": app_id}):
            docker_engine.signal(row.id, "SIGKILL")
        code = terminal.end()

    assert 1 == code
    assert "CANCELLED" in terminal.text
    assert ["exited"] * 2 == states()


def test_sigterm_at_the_question_cancels(
    run_argv: list[str], states: Callable[[], list[str]]
) -> None:
    """SIGTERM while Ctrl-C's question is open cancels the app."""
    with interrupted(run_argv) as terminal:
        terminal.process.send_signal(signal.SIGTERM)
        code = terminal.end()

    assert 1 == code
    assert "CANCELLED" in terminal.text
    assert ["exited"] * 2 == states()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_interrupted_launch_leaves_nothing(
    run_argv: list[str], states: Callable[[], list[str]], number: signal.Signals, times: int
) -> None:
    """One or two signals during a launch leave no container, a hangup included."""
    argv = [*CLI, *run_argv[:1], "--workspace", "", *run_argv[1:], "sleep 600"]
    argv[argv.index("2")] = "12"
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory() as folder, Gate(Path(folder) / "d", daemon_socket()) as gate:
        held = gate.hold(Hold(Kind.CREATE, nth=2))
        env = os.environ | {"DOCKER_HOST": f"unix://{gate.path}"}
        with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as process:
            held.wait()
            for _ in range(times):
                process.send_signal(number)
                # Linux merges two pending signals into one.
                time.sleep(0.05)
            held.release()
            _, errors = process.communicate(timeout=60)

    assert 128 + number == process.returncode, errors
    assert [] == states()


def test_closed_output(run_argv: list[str], states: Callable[[], list[str]]) -> None:
    """An app runs to its end although standard output and error are closed."""
    argv = [*run_argv[:1], "--workspace", "", *run_argv[1:]]
    command = ["bash", "-c", '"$@" >&- 2>&-; echo "$?"', "bash", *CLI, *argv, "true"]

    ran = subprocess.run(command, check=True, capture_output=True, text=True)

    assert ("0\n", "") == (ran.stdout, ran.stderr)
    assert ["exited"] * 2 == states()


@pytest.mark.usefixtures("no_images_left")
def test_ctrl_c_while_an_image_is_built(
    run_argv: list[str], states: Callable[[], list[str]]
) -> None:
    """Ctrl-C during a build asks nothing and launches nothing."""
    Path("Dockerfile.torchx").write_text("ARG IMAGE\nFROM $IMAGE\nRUN echo begun; sleep 60\n")
    with on_terminal(*run_argv, "true") as terminal:
        terminal.wait_for("building:")
        terminal.type(CTRL_C)
        code = terminal.end()

    assert 130 == code
    assert "was stopped before a container was created." in terminal.text
    assert "Traceback" not in terminal.text
    assert [] == states()


def test_closed_pipe(run_argv: list[str], states: Callable[[], list[str]]) -> None:
    """A closed pipe ends the command without an error and leaves the app running."""
    argv = [*run_argv[:1], "--workspace", "", *run_argv[1:], TICKS]
    script = (
        "{ trap '' PIPE; } 2>/dev/null; "
        # The command finds the pipe closed at its next write, and a reader may be slow to close it,
        # as this one is: so the app writes again and again.
        '"$@" 2>&1 | grep -m 2 tick; echo "${PIPESTATUS[0]}"; '
        # Short output is written only at exit.
        f"{' '.join(CLI)} builtins | true; "
        'echo "${PIPESTATUS[0]}"'
    )

    environ = {k: text for k, text in os.environ.items() if k != "PYTHONUNBUFFERED"}

    ran = subprocess.run(
        ["bash", "-c", script, "bash", *CLI, *argv],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
    )

    assert "" == ran.stderr
    assert ["141", "141"] == ran.stdout.splitlines()[2:]
    assert ["running"] * 2 == states()


@pytest.mark.usefixtures("no_images_left")
@pytest.mark.timeout(600)
def test_training(docker_engine: DockerEngine, app_id: str) -> None:
    """The command line trains the example's script with two processes on one node."""
    shutil.copy(ROOT / "dags/workspace/train.py", "train.py")
    Path(".torchxconfig").write_text(
        f"[component:dist.ddp]\nimage = {BASE}\nenv = OMP_NUM_THREADS=1,PYTHONUNBUFFERED=1\n"
        f"[docker]\nlabels = of-test:{app_id}\n"
    )
    component = ["dist.ddp", "-j", "1x2", "--script", "train.py", "--", "--epochs", "2"]
    command = [*CLI, "run", "-s", "docker", *component]
    try:
        run = subprocess.run(command, check=False, capture_output=True, text=True)
        (row,) = docker_engine.rows({"of-test": app_id})
        reported = docker_engine.read_file(row.id, PROGRESS_PATH, 1_000).decode()
    finally:
        for row in docker_engine.rows({"of-test": app_id}):
            docker_engine.remove(row.id)

    assert 0 == run.returncode, run.stderr
    reports = [json.loads(line) for line in reported.splitlines()]
    assert [(1, 2), (2, 2)] == [(one["step"], one["total"]) for one in reports]
    found = re.findall(
        r"^train/0 \[\d\]:rank (\d) epoch (\d) loss (\d\.\d+)$", run.stderr, re.MULTILINE
    )
    losses = {(rank, epoch): float(loss) for rank, epoch, loss in found}
    assert {("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")} == losses.keys()
    assert losses["0", "2"] < losses["0", "1"]
    assert "SUCCEEDED" in run.stderr
