"""Tests of app ids and container names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import (
    MAX_REPLICAS,
    TaskAttempt,
    cancelled_name,
    container_name,
    first_name,
    is_cancelled_name,
    is_ending_name,
    is_marked,
    is_stopped_name,
    legal,
    random_app_id,
    restarting_name,
)

# Valid names of containers and hosts, and the alphabet of TorchX's ids.
DOCKER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
MAX_HOST_NAME = 63
TORCHX_WORD = re.compile(r"[bcdfghjklmnpqrstvwxz][bcdfghjklmnpqrstvwxz012345679]*")

# Any code point, including lone surrogates; Hypothesis's table of Unicode takes seconds to load.
ANY_TEXT = st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=70).map("".join)
# Names that differ only slightly, to provoke collisions.
LIKELY_TEXT = st.text("ab-._/ 0é", max_size=70)
NAMES = ANY_TEXT | LIKELY_TEXT
APP_IDS = NAMES | st.from_regex(
    r"[a-z_.-]{1,50}-[a-z2-7]{10}-m[0-9]{1,4}-t[0-9]{1,4}", fullmatch=True
)
NORMAL_NAMES = st.from_regex(r"\A[a-zA-Z0-9][a-zA-Z0-9_.-]{0,26}\Z").filter(
    lambda name: not re.search(r"-[0-9a-f]{8}$", name)
)
REPLICAS = st.integers(0, MAX_REPLICAS - 1)
ENTROPY = st.integers(0, 2**64 - 1)

quick = settings(max_examples=40, deadline=None)


def torchx_name(app_id: str, role: str, replica: int) -> str:
    """Return the name that TorchX gives a container."""
    return re.sub("^[^a-zA-Z0-9]+", "", f"{app_id[-30:]}-{role[:30]}-{replica}")


def attempt(**changes: object) -> TaskAttempt:
    """Return a first attempt of an unmapped task."""
    fields: dict[str, Any] = {
        "dag_id": "train_daily",
        "run_id": "scheduled__2026-01-31T00:00:00+00:00",
        "task_id": "fit.model",
        "map_index": -1,
        "max_tries": 0,
        "try_number": 1,
        **changes,
    }
    return TaskAttempt(**fields)


@pytest.mark.parametrize(
    ("entropy", "app_id"),
    [
        (0x1, "trainer-c"),
        (0x13, "trainer-z"),
        (0x14, "trainer-bc"),
        (0x0123456789ABCDEF, "trainer-t4rcs9x6sv1m"),
        (2**63, "trainer-ljk1ssxp5ch3lc"),
        (2**64 - 1, "trainer-tqsrbbl31fnwwd"),
    ],
)
def test_random_ids_are_torchx(entropy: int, app_id: str) -> None:
    """The same 64 bits make the same id as in TorchX."""
    assert app_id == random_app_id("trainer", entropy)


@quick
@given(NAMES, ENTROPY)
def test_random_ids_are_legal(name: str, entropy: int) -> None:
    """Every id is valid in Docker's names and ends in TorchX's alphabet."""
    app_id = random_app_id(name, entropy)

    assert DOCKER_NAME.fullmatch(app_id)
    assert TORCHX_WORD.fullmatch(app_id.rpartition("-")[2])


def test_invalid_characters_in_app_names() -> None:
    """Characters that Docker does not allow become dashes, and an empty name becomes ``app``."""
    assert "my-exp-run-c" == random_app_id("/my exp/run", 1)
    assert "app-c" == random_app_id("/", 1)
    assert "app-b" == random_app_id("", 0)


def test_an_attempt_has_one_id() -> None:
    """The id depends only on the attempt, so every worker finds the app."""
    assert "train_daily-fit.model-zbsc7l5snv-m0-t1" == attempt().app_id


@pytest.mark.parametrize(
    ("dag_id", "task_id", "expected"),
    [
        ("train_daily", "fit", "train_daily-fit"),
        ("customer_churn_retraining", "train", "customer_churn_retraining-train"),
        ("customer_churn_prediction_retraining", "train", "customer_churn_prediction_r-train"),
        ("customer_churn.", "prediction.fit_model", "customer_churn-diction.fit_model"),
        ("etl", "training.search.evaluate_the_candidates", "etl-earch.evaluate_the_candidates"),
        ("d" * 250, "t" * 250, f"{'d' * 16}-{'t' * 16}"),
        ("träin", "_fit", "tr-in-fit"),
        ("é", "fit", "fit"),
        ("t" * 250, "é", "t" * 33),
    ],
)
def test_containers_of_a_task_name_dag_and_task(dag_id: str, task_id: str, expected: str) -> None:
    """The names keep the start of a long DAG's name and the end of a long task's."""
    of = attempt(dag_id=dag_id, task_id=task_id)
    _, digest, clear, retry = of.app_id.rsplit("-", 3)

    name = container_name(of.app_id, "trainer", 9999)

    assert f"{expected}-{digest}-{clear}-{retry}-trainer-9999" == name
    assert len(name) <= MAX_HOST_NAME


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("r", "retraining_of_reg-train_the_model-XX-m0-t1-r-0"),
        ("trainer", "retraining_of_reg-train_the_model-XX-m0-t1-trainer-0"),
        ("parameter-server", "retraining-in_the_model-XX-m0-t1-parameter-server-0"),
        ("r" * 20, f"retrainin-the_model-XX-m0-t1-{'r' * 20}-0"),
        ("r" * 21, f"retrainin-the_model-XX-m0-t1-{'r' * 11}-b506d175-0"),
    ],
)
def test_a_role_beside_dag_and_task(role: str, expected: str) -> None:
    """A role of up to 20 characters is kept whole; DAG and task get the space that it leaves."""
    app_id = attempt(dag_id="retraining_of_regions", task_id="train_the_model").app_id
    digest = app_id.split("-")[-3]

    assert expected.replace("XX", digest) == container_name(app_id, role, 0)


def test_a_long_role_beside_a_short_task() -> None:
    """A longer role is kept whole if DAG and task leave space for it."""
    app_id = attempt(dag_id="d", task_id="t").app_id
    room = MAX_HOST_NAME - len(f"{app_id}--9999")

    assert f"{app_id}-{'r' * room}-9999" == container_name(app_id, "r" * room, 9999)
    assert len(container_name(app_id, "r" * (room + 1), 9999)) < MAX_HOST_NAME


def test_the_index_of_a_mapped_task_is_in_its_names() -> None:
    """The app id of a mapped task instance has its map index after the name of the task."""
    assert attempt(map_index=12).app_id.startswith("train_daily-fit.model-12-")


def test_an_app_of_an_earlier_scheme_keeps_its_names() -> None:
    """An id whose digest has twelve hexadecimal digits has the names of its launch."""
    app_id = "workspace-cleared-train-955179c2d5e1-m1-t1"

    assert "eared-train-955179c2d5e1-m1-t1-trainer-0" == container_name(app_id, "trainer", 0)


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "train_hourly"},
        {"run_id": "manual__2026-01-31T00:00:00+00:00"},
        {"task_id": "fit.models"},
        {"map_index": 0},
        {"max_tries": 1},
        {"try_number": 2},
    ],
)
def test_every_part_of_an_attempt_changes_the_id(other: dict[str, Any]) -> None:
    """Another DAG, run, task, map index, ``max_tries`` or try has another app id."""
    first, second = attempt().app_id, attempt(**other).app_id

    assert first != second
    assert container_name(first, "trainer", 0) != container_name(second, "trainer", 0)


def test_the_parts_of_an_attempt_do_not_run_into_each_other() -> None:
    """The parts ``ab`` and ``c`` make another id than ``a`` and ``bc``."""
    assert attempt(dag_id="a-b", task_id="c").app_id != attempt(dag_id="a", task_id="b-c").app_id
    assert attempt(run_id="r1", map_index=1).app_id != attempt(run_id="r", map_index=11).app_id


@quick
@given(NAMES, NAMES, NAMES, st.integers(-1, 2000), st.integers(0, 99), st.integers(1, 99))
def test_ids_of_attempts_are_legal(
    dag_id: str, run_id: str, task_id: str, map_index: int, max_tries: int, try_number: int
) -> None:
    """The ids of all attempts are valid and end in a digest of the task and in the try."""
    app_id = TaskAttempt(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        max_tries=max_tries,
        try_number=try_number,
    ).app_id

    assert DOCKER_NAME.fullmatch(app_id)
    assert re.search(rf"-[a-z2-7]{{10}}-m{max_tries}-t{try_number}$", app_id)


def test_an_attempt_without_valid_characters() -> None:
    """A DAG and a task without a valid character have an id."""
    assert attempt(dag_id="é", task_id="ß").app_id.startswith("app-")


def test_labels_of_an_attempt() -> None:
    """The labels have the full names of DAG, run and task."""
    assert {
        labels.DAG_ID: "train_daily",
        labels.RUN_ID: "scheduled__2026-01-31T00:00:00+00:00",
        labels.TASK_ID: "fit.model",
        labels.MAP_INDEX: "-1",
        labels.MAX_TRIES: "0",
        labels.TRY_NUMBER: "1",
    } == attempt().labels


@quick
@given(APP_IDS, NAMES, REPLICAS)
@example("", "", 0)
@example("-" * 40, "." * 40, 9999)
@example("\ud800" * 40, "\ud800", 0)
def test_container_names_are_legal(app_id: str, role: str, replica: int) -> None:
    """Every name is valid for a container and a host."""
    name = container_name(app_id, role, replica)

    assert DOCKER_NAME.fullmatch(name)
    assert len(name) <= MAX_HOST_NAME
    assert not is_cancelled_name(name)


@quick
@given(
    APP_IDS,
    st.lists(NAMES, min_size=1, max_size=6, unique=True),
    st.sets(REPLICAS | st.sampled_from([0, 1, 9, 10, 99, 100, 999, 1000, 9999]), min_size=1),
)
@example("a", ["\ud800", "\ud801", "?"], {0})
@example("a", ["b", "b-1"], {0, 1})
def test_container_names_are_unique(app_id: str, roles: list[str], replicas: set[int]) -> None:
    """The replicas of an app have different names."""
    names = {container_name(app_id, role, replica) for role in roles for replica in replicas}

    assert len(roles) * len(replicas) == len(names)


def test_ten_thousand_replicas_have_names() -> None:
    """A role of the maximum size has as many names."""
    names = {container_name("trainer-x1y2", "t" * 40, index) for index in range(MAX_REPLICAS)}

    assert MAX_REPLICAS == len(names)
    assert max(map(len, names)) <= MAX_HOST_NAME


@quick
@given(NORMAL_NAMES, ENTROPY, NORMAL_NAMES, REPLICAS)
def test_normal_container_names_are_torchx(app: str, entropy: int, role: str, replica: int) -> None:
    """A valid role of at most 27 characters gets the same name as in TorchX."""
    app_id = random_app_id(app, entropy)

    assert torchx_name(app_id, role, replica) == container_name(app_id, role, replica)


@pytest.mark.parametrize(("app_length", "role_length"), [(1, 30), (27, 30), (28, 29), (30, 27)])
def test_roles_beside_a_short_app_id(app_length: int, role_length: int) -> None:
    """Beside a short app id, 30 characters of a role are kept, as in TorchX."""
    app_id, role = "a" * app_length, "r" * role_length

    assert torchx_name(app_id, role, 9999) == container_name(app_id, role, 9999)
    assert torchx_name(app_id, f"{role}r", 0) != container_name(app_id, f"{role}r", 0)


def test_roles_that_start_alike() -> None:
    """Roles that share their first 30 characters get different names."""
    stem = "parameter-server-of-the-region-"
    names = {container_name("app-x", f"{stem}{place}", 0) for place in ("east", "west")}

    assert {
        "app-x-parameter-server-o-73351dbd-0",
        "app-x-parameter-server-o-d3bf166d-0",
    } == names


def test_a_role_named_like_a_shortened_one() -> None:
    """A role named like the shortened name of another gets a different name."""
    long = "parameter-server-of-the-region-east"
    shortened = container_name("app-x", long, 0).removeprefix("app-x-").removesuffix("-0")

    assert container_name("app-x", shortened, 0) != container_name("app-x", long, 0)


@pytest.mark.parametrize("role", ["my role", "exp/run", "trainér", ""])
def test_invalid_role_names(role: str) -> None:
    """A role with invalid characters or no name gets a name with a digest."""
    assert re.fullmatch(
        r"app-x-(my-role|exp-run|train-r|)-[0-9a-f]{8}-3", container_name("app-x", role, 3)
    )


def test_replica_9999_of_a_long_name_has_a_host_name() -> None:
    """The longest name is exactly as long as a host name may be."""
    assert 63 == len(container_name("a" * 99, "r" * 99, 9999))
    assert f"{'a' * 30}-{'r' * 27}-9999" == container_name("a" * 99, "r" * 27, 9999)


def test_an_app_id_cut_before_punctuation() -> None:
    """Punctuation at the start of an id's last 30 characters is removed, as in TorchX."""
    app_id = "123.-_application-t4rcs9x6sv1mbcdf"

    assert "_application-t4rcs9x6sv1mbcdf" == app_id[-29:]
    assert "application-t4rcs9x6sv1mbcdf-trainer-0" == container_name(app_id, "trainer", 0)


def test_an_app_id_without_valid_characters() -> None:
    """An app id without a valid character is replaced by a digest."""
    assert re.fullmatch(r"[0-9a-f]{8}-trainer-0", container_name("---", "trainer", 0))
    assert container_name("---", "trainer", 0) != container_name("--", "trainer", 0)


def test_the_cancelled_suffix_is_added_once() -> None:
    """The suffix of a cancelled container is added once."""
    marked = cancelled_name("app-x-trainer-0")

    assert "app-x-trainer-0.cancelled" == marked == cancelled_name(marked)
    assert is_cancelled_name(marked)
    assert not is_cancelled_name("app-x-trainer-0")


def test_legal_text_is_kept() -> None:
    """Valid text is kept, other characters become one dash, and names start alphanumerically."""
    assert "a_B.9-" == legal("a_B.9-")
    assert "a-b" == legal(" /é a é /b")
    assert "" == legal("._-")


@pytest.mark.parametrize(
    ("suffix", "is_stopped", "is_ending", "is_final"),
    [
        ("", False, False, False),
        (".starting-0a", False, False, False),
        (".cancelled", True, True, True),
        (".saving", False, False, True),
        (".saving.cancelled", True, False, True),
        (".stalled", True, True, True),
        (".failed", False, False, True),
        (".restarting", True, True, False),
    ],
)
def test_suffixes(suffix: str, *, is_stopped: bool, is_ending: bool, is_final: bool) -> None:
    """A suffix says how a container is stopped; a restart replaces only the mark of a start."""
    name = f"x1-trainer-0{suffix}"

    assert (is_stopped, is_ending, is_final) == (
        is_stopped_name(name),
        is_ending_name(name),
        is_marked(name),
    )
    assert "x1-trainer-0" == first_name(name)
    kept = is_stopped or is_final
    assert restarting_name(name) == (name if kept else "x1-trainer-0.restarting")
