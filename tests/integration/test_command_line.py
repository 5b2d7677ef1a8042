"""The command line on a real daemon, as a person at a terminal uses it."""

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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.cli import main
from airflow_torchx.specs import app_id_of
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
_LOSS: Final = re.compile(r"^(train/\d) \[\d\]:rank (\d) epoch (\d) loss (\d\.\d+)$", re.MULTILINE)
#: Says that it is ready, and when it is told to stop; then it ends well.
LOOP: Final = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give the command line a home and a folder of its own, and take back what it logs to."""
    logger = logging.getLogger("airflow_torchx")
    before = logger.level, logger.handlers, logger.propagate
    home = tmp_path / "home"
    home.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("TORCHXCONFIG", "NO_COLOR", "FORCE_COLOR", "LOGLEVEL"):
        monkeypatch.delenv(name, raising=False)
    # A terminal of the tests finds the package, wherever it is installed.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(home))

    yield

    logger.level, logger.handlers, logger.propagate = before


@pytest.fixture
def run_words(docker_engine: DockerEngine, app_id: str) -> Iterator[list[str]]:
    """Return the beginning of a command line that launches a shell in two replicas.

    What it launches carries the name of the test, and is removed.
    """
    cfg = f"stop_grace_s=2,labels=of-test:{app_id}"
    words = ["run", "-s", "docker", "-cfg", cfg, "utils.sh"]

    yield [*words, "--image", BUSYBOX, "--num_replicas", "2", "--", "sh", "-c"]

    for row in docker_engine.rows({"of-test": app_id}):
        docker_engine.remove(row.id)


@pytest.fixture
def states(docker_engine: DockerEngine, app_id: str) -> Callable[[], list[str]]:
    """Return what tells the states of the containers that the test has launched."""
    return lambda: [row.state for row in docker_engine.rows({"of-test": app_id})]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return what runs a command line, and returns its exit code and what it wrote."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        return (code, *capsys.readouterr())

    return call


def on_terminal(*words: str) -> Terminal:
    """Run a command line on a terminal."""
    return Terminal([*CLI, *words], cwd=Path.cwd())


def test_an_app_from_launch_to_removal(
    cli: Callable[..., tuple[int, str, str]], run_words: list[str]
) -> None:
    """Every command, on one app that fails: the words of TorchX, answers for people and JSON."""
    script = "sleep 0.$TORCHX_TEST; echo hello; exit 3"
    code, handle, told = cli(*run_words, script.replace("$TORCHX_TEST", "5"))
    handle = handle.strip()
    app = app_id_of(handle)

    assert (1, f"local_docker://torchx/{app}") == (code, handle)
    assert "sh/0 hello\n" in told
    assert f"app '{app}' FAILED: sh/" in told
    assert re.search(r"^sh/1 +\w+ +\d+ ", told, re.MULTILINE)

    code, listed, _ = cli("list")
    assert 0 == code
    assert re.search(rf"^{handle} +sh +FAILED$", listed, re.MULTILINE)
    mine = [one for one in json.loads(cli("list", "--json")[1]) if one["app_id"] == app]
    row = {"handle": handle, "app_id": app, "name": "sh", "scheduler": "local_docker"}
    assert [row | {"state": "FAILED"}] == mine

    # A handle of either name, an id, or its beginning.
    for word in (handle, f"docker:///{app}", app, app[:-1]):
        code, told, _ = cli("status", word)
        assert (0, f"{handle} is FAILED") == (code, told.splitlines()[0])
    status = json.loads(cli("status", "--json", "--roles", "sh", app)[1])
    assert ("FAILED", handle, "local_docker", 2) == (
        status["state"],
        status["handle"],
        status["scheduler"],
        len(status["roles"][0]["replicas"]),
    )
    code, _, told = cli("status", "--roles", "x", app)
    assert (2, True) == (code, "use one of sh" in told)

    _is_described_and_removed(cli, app)


def _is_described_and_removed(cli: Callable[..., tuple[int, str, str]], app: str) -> None:
    described = json.loads(cli("describe", "--json", app)[1])
    role = described["roles"][0]
    assert ("sh", BUSYBOX, 2) == (role["name"], role["image"], role["num_replicas"])
    assert f"image: {BUSYBOX}" in cli("describe", app)[1]

    assert (0, "", f"app {app} has ended before: FAILED\n") == cli("cancel", app)
    assert (0, "", f"app {app} is removed\n") == cli("delete", app)
    code, out, told = cli("status", app)
    assert (1, "") == (code, out)
    assert f"there is no app '{app}'" in told


def test_logs_of_roles_replicas_and_times(
    cli: Callable[..., tuple[int, str, str]], run_words: list[str]
) -> None:
    """All lines in the order of time, or those that are asked for."""
    script = "echo out $HOSTNAME; sleep 0.3; echo err >&2; sleep 0.3; echo end"
    app = app_id_of(cli(*run_words, script)[1].strip())
    handle = f"local_docker://torchx/{app}"

    lines = cli("log", handle)[1].splitlines()
    assert 6 == len(lines)
    assert [{"out"}, {"err"}, {"end"}] == [
        {line.split()[1] for line in lines[at : at + 2]} for at in (0, 2, 4)
    ]
    assert ["sh/1 err"] == cli("log", "--streams", "stderr", f"{handle}/sh/1")[1].splitlines()
    told = cli("log", "--regex", "e.d", f"{app}/sh")[1]
    assert ["sh/0 end", "sh/1 end"] == sorted(told.splitlines())
    assert 6 == len(cli("log", "--tail", "--since", "10m", app)[1].splitlines())
    assert (0, "") == cli("log", "--since", "2031-01-01", app)[:2]
    for wrong, code, reason in (("/x", 1, "no role 'x'"), ("/sh/7", 1, "sh/0, sh/1")):
        answer = cli("log", app + wrong)
        assert (code, "") == answer[:2]
        assert reason in answer[2]


def test_json_is_one_object_and_nothing_else(
    cli: Callable[..., tuple[int, str, str]], run_words: list[str]
) -> None:
    """TorchX's keys; also of an app that is left running, and cancelled by another command."""
    code, out, _ = cli("run", "--json", *run_words[1:], "true")
    told = json.loads(out)
    assert (0, "SUCCEEDED") == (code, told["state"])
    assert {"handle", "app_id", "scheduler", "state", "ui_url"} == set(told)

    code, out, said = cli("run", "--json", "--detach", *run_words[1:], "sleep 600")
    app = json.loads(out)["app_id"]
    assert 0 == code
    assert f"airflow-torchx log -t {app}" in said
    assert "RUNNING" in cli("status", app)[1]
    code, _, said = cli("cancel", app)
    assert (0, True) == (code, f"app {app} is CANCELLED" in said)


def test_a_dry_run_creates_nothing_and_shows_no_secret(
    cli: Callable[..., tuple[int, str, str]],
    run_words: list[str],
    states: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As YAML and as JSON, wherever the secret comes from."""
    monkeypatch.setenv("SHELL_TOKEN", "s3cret-1")
    Path(".torchxconfig").write_text("[docker]\ncopy_env = SHELL_*\nenv = API_KEY:s3cret-2\n")
    words = ["--env", "DB_PASSWORD=s3cret-3,URL=http://me:s3cret-4@db", "--", "echo", "s3cret-1"]
    command = [*run_words[: run_words.index("--")], *words]

    code, plan, _ = cli("run", "--dryrun", *command[1:])
    same, data, _ = cli("run", "--dryrun", "--json", *command[1:])

    assert (0, 0) == (code, same)
    assert "s3cret" not in plan + data
    told: dict[str, Any] = json.loads(data)
    assert {"scheduler", "cfg", "app", "request"} == set(told)
    assert ("sh", 2) == (told["app"]["roles"][0]["entrypoint"], len(told["request"]["containers"]))
    assert "***" == told["request"]["containers"][0]["env"]["SHELL_TOKEN"]
    assert [] == states()


def test_a_component_that_prints_and_goes_elsewhere(
    cli: Callable[..., tuple[int, str, str]],
) -> None:
    """Standard output is for the answer, and the workspace is the folder of the command."""
    Path("sub").mkdir()
    Path("train.sh").write_text("true")
    Path("mine.py").write_text(
        "import os\nfrom airflow_torchx.specs import AppDef, Role\n"
        "def fn() -> AppDef:\n    print('noise')\n    os.chdir('sub')\n"
        f"    return AppDef('a', [Role('r', '{BUSYBOX}', entrypoint='true')])\n"
    )
    here = Path.cwd()

    code, plan, told = cli("run", "--dryrun", "mine.py:fn")

    assert 0 == code, told
    assert "noise" in told
    assert "noise" not in plan
    files = re.search(r"\((\d+) files", plan)
    assert files is not None, plan
    assert 1 < int(files[1])
    assert here / "sub" == Path.cwd()


def test_errors_are_one_block_and_usage_has_its_own_code(
    cli: Callable[..., tuple[int, str, str]],
    run_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What, why and what to do, on standard error; nothing is created."""
    shell = run_words[-2:]
    Path("data.bin").write_bytes(b"x" * (1 << 21))
    words_without_room = ["-cfg", "max_context_mb=1", *run_words[5:], "true"]
    too_much = ["--image", BUSYBOX, "--cpu", "100000", "--", *shell, "true"]
    cases = [
        (["run"], 2, "no component"),
        (["run", "utils.shh"], 2, "'utils.sh'"),
        (["run", "-cfg", "nework=x", "utils.sh"], 2, "'network'"),
        (["run", "utils.sh", "--imag", "x", "--nope", "1"], 2, "--nope"),
        (["run", "-d", "--wait", "utils.sh", "ls"], 2, "--detach"),
        (["run", *words_without_room], 1, '--workspace ""'),
        (["run", "--workspace", str(tmp_path / "nope"), *run_words[5:], "true"], 1, "nope"),
        (["run", "--workspace", "", "utils.sh", *too_much], 1, "resource.cpu"),
        (["log", "--since", "soon", "x"], 2, "10m"),
        (["log", "--regex", "(", "x"], 2, "regular expression"),
        (["cancel", "local_cwd://x/y"], 2, "local_docker://"),
        (["delete", "there-is-no-such-app"], 1, "airflow-torchx list"),
    ]
    for words, code, told in cases:
        answer = cli(*words)

        assert (code, "") == answer[:2], (words, answer)
        assert answer[2].startswith("error: ")
        assert told in answer[2]
        assert "Traceback" not in answer[2]
    monkeypatch.chdir("/")
    code, _, told = cli("run", *run_words[5:], "true")
    assert (2, True) == (code, "/ is no workspace" in told)


def test_the_configuration_of_the_user_and_of_the_folder(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's own is believed first, TORCHXCONFIG alone; what is unknown is told."""
    home, here = Path("~").expanduser() / ".torchxconfig", Path(".torchxconfig")
    home.write_text(f"[component:utils.sh]\nimage = {BUSYBOX}\n[local_docker]\ntypo = 1\n")
    here.write_text(
        "[cli:run]\ncomponent = utils.sh\nworkspace =\n"
        "[component:utils.sh]\nimage = other\nnum_replicas = 3\nargs = echo from the file\n"
    )

    code, out, said = cli("run", "--dryrun", "--json")
    request = json.loads(out)["request"]

    assert 0 == code
    assert "no run option 'typo'" in said
    assert [BUSYBOX] * 3 == [one["image"] for one in request["containers"]]
    assert ["-c", "echo from the file"] == request["containers"][0]["args"]
    assert "workspaces" not in request

    monkeypatch.setenv("TORCHXCONFIG", str(tmp_path / "nope"))
    code, _, said = cli("run", "--dryrun")
    assert (2, True) == (code, "nope cannot be read" in said)
    monkeypatch.setenv("TORCHXCONFIG", "")
    code, _, said = cli("run", "--dryrun")
    assert (2, True) == (code, "no component" in said)


@pytest.mark.usefixtures("no_images_left")
def test_ctrl_c_asks_once_and_cancels(run_words: list[str], docker_engine: DockerEngine) -> None:
    """With a colour for each replica, the folder as workspace, and no line lost or repeated."""
    Path("loop.sh").write_text(LOOP)
    with on_terminal(*run_words[:-1], "loop.sh") as terminal:
        for replica in (0, 1):
            terminal.wait_for(f"sh/{replica} ready")
        terminal.type(CTRL_C)
        terminal.wait_for("[Y/n]")
        terminal.type("n\n")
        terminal.wait_for("goes on")
        terminal.type(CTRL_C)
        terminal.wait_for("[Y/n]", times=2)
        terminal.type("nope\n")
        terminal.wait_for("[Y/n]", times=3)
        terminal.type("\n")
        code = terminal.end()

    app = _launched(terminal)
    assert 1 == code
    assert "\033[36msh/0\033[0m ready" in terminal.raw
    assert "built workspace image" in terminal.text
    assert f"app '{app}' CANCELLED" in terminal.text
    for line in ("sh/0 ready", "sh/1 ready", "sh/0 bye", "sh/1 bye"):
        assert 1 == terminal.text.count(line)
    rows = docker_engine.rows({"torchx.pytorch.org/app-id": app})
    assert ["exited"] * 2 == [row.state for row in rows]


@contextlib.contextmanager
def asked(run_words: list[str]) -> Iterator[Terminal]:
    """Run an app on a terminal, and press Ctrl-C there."""
    words = [*run_words[:1], "--workspace", "", *run_words[1:], LOOP]
    with on_terminal(*words) as terminal:
        terminal.wait_for("ready")
        terminal.type(CTRL_C)
        terminal.wait_for("leaves it running) ")
        yield terminal


def _launched(terminal: Terminal) -> str:
    match = re.search(r"launched app (\S+):", terminal.text)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("keys", [CTRL_C, CTRL_D])
def test_a_second_ctrl_c_leaves_the_app(
    run_words: list[str], states: Callable[[], list[str]], keys: str
) -> None:
    """It goes on, and the way to it is told."""
    with asked(run_words) as terminal:
        terminal.type(keys)
        code = terminal.end()

    app = _launched(terminal)
    assert 130 == code
    assert f"airflow-torchx log -t {app}" in terminal.text
    assert f"airflow-torchx cancel {app}" in terminal.text
    assert ["running"] * 2 == states()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_cancels(
    run_words: list[str], states: Callable[[], list[str]], number: signal.Signals
) -> None:
    """Nobody can be asked; replicas get their grace, and the end is shown."""
    words = [*run_words[:1], "--workspace", "", *run_words[1:], LOOP]
    with subprocess.Popen(
        [*CLI, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "ready" not in process.stderr.readline():
            pass
        process.send_signal(number)
        _, told = process.communicate(timeout=60)

    assert 1 == process.returncode
    assert "bye" in told
    assert "CANCELLED" in told
    assert "\033[" not in told
    assert ["exited"] * 2 == states()


def test_another_ctrl_c_does_not_break_a_cancel_off(
    run_words: list[str], states: Callable[[], list[str]]
) -> None:
    """It is answered, and the end is shown."""
    deaf = LOOP.replace("exit 0", "")
    words = [*run_words[:1], "--workspace", "", *run_words[1:], deaf]
    with on_terminal(*words) as terminal:
        terminal.wait_for("ready")
        terminal.type(CTRL_C)
        terminal.wait_for("[Y/n]")
        terminal.type("y\n")
        terminal.wait_for("stopping app")
        terminal.type(CTRL_C)
        terminal.wait_for("is being stopped already")
        code = terminal.end()

    assert 1 == code
    assert "CANCELLED" in terminal.text
    assert ["exited"] * 2 == states()


def test_sigterm_is_no_answer_to_the_question(
    run_words: list[str], states: Callable[[], list[str]]
) -> None:
    """It cancels the app, as it does where nothing was asked."""
    with asked(run_words) as terminal:
        terminal.process.send_signal(signal.SIGTERM)
        code = terminal.end()

    assert 1 == code
    assert "CANCELLED" in terminal.text
    assert ["exited"] * 2 == states()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_launch_that_is_ended_leaves_nothing(
    run_words: list[str], states: Callable[[], list[str]], number: signal.Signals, times: int
) -> None:
    """Also where the terminal goes away in the middle, and by somebody who is in a hurry."""
    words = [*CLI, *run_words[:1], "--workspace", "", *run_words[1:], "sleep 600"]
    words[words.index("2")] = "12"
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        until(states, "a container", tick_s=0.01)
        for _ in range(times):
            process.send_signal(number)
            # Two at once are one.
            time.sleep(0.05)
        _, told = process.communicate(timeout=60)

    assert 128 + number == process.returncode, told
    assert [] == states()


def test_no_output_to_write_to(run_words: list[str], states: Callable[[], list[str]]) -> None:
    """The app runs to its end; a list is no traceback."""
    words = [*run_words[:1], "--workspace", "", *run_words[1:]]
    command = ["bash", "-c", '"$@" >&- 2>&-; echo "$?"', "bash", *CLI, *words, "true"]

    ran = subprocess.run(command, check=True, capture_output=True, text=True)

    assert ("0\n", "") == (ran.stdout, ran.stderr)
    assert ["exited"] * 2 == states()


@pytest.mark.usefixtures("no_images_left")
def test_ctrl_c_while_an_image_is_built(
    run_words: list[str], states: Callable[[], list[str]]
) -> None:
    """Nothing is launched, and there is nothing to ask."""
    Path("Dockerfile.torchx").write_text("ARG IMAGE\nFROM $IMAGE\nRUN echo begun; sleep 60\n")
    with on_terminal(*run_words, "true") as terminal:
        terminal.wait_for("building:")
        terminal.type(CTRL_C)
        code = terminal.end()

    assert 130 == code
    assert "was told to stop before it was launched." in terminal.text
    assert "Traceback" not in terminal.text
    assert [] == states()


def test_a_reader_that_goes_is_no_error(run_words: list[str]) -> None:
    """`| head` ends the command quietly; the app goes on, as with the docker command line."""
    words = [*run_words[:1], "--workspace", "", *run_words[1:], LOOP]
    script = (
        "{ trap '' PIPE; } 2>/dev/null; "
        '"$@" 2>&1 | head -n 1; echo "${PIPESTATUS[0]}"; '
        # What is written only at the end, because it is short.
        f"{' '.join(CLI)} builtins | true; "
        'echo "${PIPESTATUS[0]}"'
    )

    environ = {k: text for k, text in os.environ.items() if k != "PYTHONUNBUFFERED"}

    ran = subprocess.run(
        ["bash", "-c", script, "bash", *CLI, *words],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
    )

    assert "" == ran.stderr
    assert ["141", "141"] == ran.stdout.splitlines()[1:]


@pytest.mark.usefixtures("no_images_left")
@pytest.mark.timeout(600)
def test_it_trains_for_real(docker_engine: DockerEngine, app_id: str) -> None:
    """In a folder with a script, on one node of two processes; the README has two nodes of one."""
    shutil.copy(ROOT / "dags/workspace/train.py", "train.py")
    Path(".torchxconfig").write_text(
        f"[component:dist.ddp]\nimage = {BASE}\nenv = OMP_NUM_THREADS=1,PYTHONUNBUFFERED=1\n"
        f"[docker]\nlabels = of-test:{app_id}\n"
    )
    words = ["dist.ddp", "-j", "1x2", "--script", "train.py", "--", "--epochs", "2"]
    command = [*CLI, "run", "-s", "docker", *words]
    try:
        run = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        for row in docker_engine.rows({"of-test": app_id}):
            docker_engine.remove(row.id)

    assert 0 == run.returncode, run.stderr
    found = re.findall(
        r"^train/0 \[\d\]:rank (\d) epoch (\d) loss (\d\.\d+)$", run.stderr, re.MULTILINE
    )
    losses = {(rank, epoch): float(loss) for rank, epoch, loss in found}
    assert {("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")} == losses.keys()
    assert losses["0", "2"] < losses["0", "1"]
    assert "SUCCEEDED" in run.stderr
