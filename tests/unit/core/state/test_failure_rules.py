"""Tests of the failure rules: what matches, which one counts, and what follows."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.logs.cursor import Cursor
from airflow_torchx.core.logs.lines import LogLine
from airflow_torchx.core.plan.failure_rule import FailureRule, label_of, parse_rule
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.failure_rules import (
    BUILT_IN,
    failure_action,
    rule_line,
    rule_name,
    rules_of,
)
from airflow_torchx.core.state.report import failure_card, replica_table
from airflow_torchx.core.state.rule_matches import RuleMatches
from airflow_torchx.core.state.rule_search import RuleSearch
from airflow_torchx.errors import InvalidOptionsError
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ReplicaStatus,
    RoleStatus,
    WorkerFailure,
)

LINES = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total "
    "capacity of 79.11 GiB of which 1.21 GiB is free.": "cuda_out_of_memory",
    "RuntimeError: CUDA error: out of memory": "cuda_out_of_memory",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2 GiB": "cuda_out_of_memory",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": (
        "cuda_out_of_memory"
    ),
    "RuntimeError: CUDA error: uncorrectable ECC error encountered": "gpu_hardware",
    "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.": "gpu_hardware",
    "Failed to initialize NVML: Unknown Error": "gpu_lost",
    "RuntimeError: CUDA error: no CUDA-capable device is detected": "gpu_lost",
    "[rank1]:[E1129 ProcessGroupNCCL.cpp:632] [Rank 1] Watchdog caught collective operation "
    "timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600012 "
    "milliseconds before timing out.": "nccl_timeout",
    "OSError: [Errno 28] No space left on device: '/tmp/x'": "no_space_left",
    "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1)": (
        "hugging_face_401"
    ),
    "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: "
    "https://huggingface.co/api/whoami-v2": "hugging_face_401",
    "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the "
    "C10d store has failed. See inner exception for details.": "rendezvous_refused",
    "torch.distributed.DistNetworkError: The client socket has failed to connect to any network "
    "address of (app-trainer-0, 29500).": "rendezvous_refused",
    "step 1 loss 401": "",
    "killed, out of memory": "",
    "ValueError: loss is NaN": "",
}


def app(rule: str = "", rules: str | None = None, **fields: AppState) -> DescribeAppResponse:
    """Return an app with one replica that failed."""
    replica = ReplicaStatus(0, AppState.FAILED, "trainer", "h", rule=rule)
    metadata = {} if rules is None else {"failure_rules": rules}
    given: dict[str, AppState] = {"state": AppState.FAILED, **fields}
    return DescribeAppResponse(
        "x1", given["state"], metadata=metadata, roles_statuses=[RoleStatus("trainer", [replica])]
    )


def own(*texts: str) -> str:
    """Return the label of an app's own rules."""
    return label_of(texts)


@pytest.mark.parametrize(("line", "expected"), LINES.items())
def test_built_in_rules(line: str, expected: str) -> None:
    """Errors as PyTorch, NCCL, NVIDIA's driver and Hugging Face print them have these rules."""
    assert expected == RuleSearch(BUILT_IN).first_match(f"step 1\n{line}\nstep 2")


def test_hints_lose_no_match() -> None:
    """The texts that are searched for first are in every line that a pattern matches."""
    for line in LINES:
        for rule in BUILT_IN:
            bare = FailureRule(name=rule.name, pattern=rule.pattern, action=rule.action)
            assert bool(bare.search(line)) == bool(rule.search(line))


# Of a set like "[[" or "[0||", whose meaning a later Python may change.
@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(
    st.text("abc .*+?|()[]{}^$\\01", min_size=1, max_size=8),
    st.text("abc .*+|01", max_size=30),
)
def test_a_pattern_is_found_as_by_re(pattern: str, text: str) -> None:
    """A pattern whose beginning is searched for first matches as it would alone."""
    try:
        rule = parse_rule({"name": "a", "pattern": pattern, "action": "none"})
    except ValueError:
        return
    assert bool(re.search(pattern, text, re.MULTILINE)) == bool(rule.search(text))


@pytest.mark.parametrize("pattern", ["CUDA errors?: x", "abcd*", "abcd{0}e", "abc(?i:D)", "abc?|d"])
def test_an_optional_character_is_not_searched_for(pattern: str) -> None:
    """The last character before a quantifier is not part of the text that must be there."""
    rule = parse_rule({"name": "a", "pattern": pattern, "action": "none"})

    text = {"CUDA errors?: x": "CUDA error: x", "abc(?i:D)": "abcd", "abc?|d": "d"}
    assert rule.search(text.get(pattern, "abce"))


@pytest.mark.parametrize("prefix", ["", "[0]:", "[trainer12]:", "[0]:[rank1]: "])
def test_an_anchor_stands_for_the_begin_of_a_line_of_the_program(prefix: str) -> None:
    """``^`` also matches after what torchrun and PyTorch write before the line of a worker."""
    rule = parse_rule({"name": "a", "pattern": "^DataError: ", "action": "fail"})

    assert rule.search(f"step 1\n{prefix}DataError: no rows\nstep 2")
    assert not rule.search(f"{prefix}a DataError: no rows")


def test_a_rule_that_every_app_would_match() -> None:
    """The error about a pattern that matches an empty line says what to give."""
    with pytest.raises(ValueError, match="empty line; give a text that only such a failure has"):
        parse_rule({"name": "a", "pattern": ".*", "action": "fail"})


def test_all_wrong_rules_are_in_one_error() -> None:
    """The error about rules names each one that is wrong, and what is wrong with it."""
    given = ["a b:fail:x", "ok:fail:y", "b:stop:z", "c:fail:(", "d:fail:x", "d:none:y", 7]
    with pytest.raises(InvalidOptionsError) as caught:
        Opts.parse({"failure_rules": given})

    (problem,) = caught.value.problems
    expected = (
        r"\(1\) the name 'a b' .*\. \(2\) rule 'b' has the action 'stop'.*\. "
        r"\(3\) rule 'c' has '\(', which is not a regular .*\. \(4\) give .*, not 7\. "
        r"\(5\) 2 rules are named 'd'; rename all but one\."
    )
    assert re.fullmatch(expected, problem.fix)


def test_rules_of_an_app_come_first() -> None:
    """An app's own rules come before the built-in ones, and replace those of the same name."""
    label = own("mine:restart:loss is NaN", "no_space_left:restart:No space left on device")
    names = [rule.name for rule in rules_of(app(rules=label))]

    assert ["mine", "no_space_left"] == names[:2]
    assert len(BUILT_IN) + 1 == len(names)
    assert "restart" == failure_action(app("no_space_left", label))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("cuda_out_of_memory", "fail"),
        ("gpu_hardware", "restart"),
        ("gpu_lost", "restart"),
        ("nccl_timeout", "restart"),
        ("no_space_left", "fail"),
        ("hugging_face_401", "fail"),
        ("rendezvous_refused", "restart"),
        ("named", None),
        ("gone", None),
        ("", None),
    ],
)
def test_what_follows_from_a_rule(rule: str, expected: str | None) -> None:
    """A rule fails the task, restarts the app, or only names the failure."""
    found = app(rule, own("named:none:x"))

    assert expected == failure_action(found)
    assert rule == rule_name(found)


@pytest.mark.parametrize("rule", BUILT_IN, ids=lambda rule: rule.name)
def test_each_built_in_rule_says_what_to_do(rule: FailureRule) -> None:
    """The card has the name of the rule and below it one sentence of advice."""
    card = failure_card(app(rule.name), [])

    assert re.fullmatch(r"[A-Z].*\.", rule.advice)
    assert f"\nfailure rule: {rule.name}\n{rule.advice}\n" in card


def test_an_own_rule_has_no_advice() -> None:
    """A rule that replaces a built-in one may mean something else, so its advice does not count."""
    card = failure_card(app("gpu_lost", own("gpu_lost:none:x")), [])

    assert "\nfailure rule: gpu_lost\n\nreplica" in card


@pytest.mark.parametrize(
    "label",
    ["", "{", "3", '["a"]', '[{"name": "a"}]', "[" * 100_000, '[{"name":"a","pattern":"("}]'],
)
def test_a_label_that_is_not_valid(label: str) -> None:
    """Any client can write a label; entries that are not valid are ignored."""
    assert BUILT_IN == rules_of(app(rules=label))


def test_a_label_keeps_rules() -> None:
    """The label is JSON with name, action and pattern, as every client reads it."""
    assert [{"name": "a", "action": "fail", "pattern": "b:c"}] == json.loads(own("a:fail:b:c"))


def test_the_rules_of_a_connection_are_added() -> None:
    """Rules of a task come before those of its connection; of one name, the task's counts."""
    opts = Opts.parse(
        {"failure_rules": ["b:fail:x"]}, {"failure_rules": ["a:none:y", "b:restart:z"]}
    )

    assert ("b:fail:x", "a:none:y") == opts.failure_rules
    assert ("a:none:y",) == Opts.parse({}, {"failure_rules": ["a:none:y"]}).failure_rules


def test_lines_are_searched_while_they_pass() -> None:
    """A replica that failed has the first of its rules that a line has matched."""
    matches = RuleMatches(RuleSearch(BUILT_IN))
    found = app()
    (replica,) = found.roles_statuses[0].replicas

    matches.search(replica, [LogLine("stdout", "a"), LogLine("stdout", "No space left on device")])
    matches.search(replica, [LogLine("stdout", "CUDA out of memory")])

    assert "cuda_out_of_memory" == rule_name(matches.mark(found))


def test_what_an_earlier_writer_has_found_counts() -> None:
    """The cursor of a log has the rules that its lines match, for the next writer."""
    found = app()
    (replica,) = found.roles_statuses[0].replicas
    first = RuleMatches(RuleSearch(BUILT_IN))
    first.search(replica, [LogLine("stdout", "No space left on device")])
    cursors = first.kept_in({"trainer/0": Cursor(5, 1), "trainer/1": Cursor(6, 1)})

    assert {"trainer/0": Cursor(5, 1, rules="no_space_left"), "trainer/1": Cursor(6, 1)} == cursors
    assert "no_space_left" == rule_name(RuleMatches(RuleSearch(BUILT_IN), cursors).mark(found))


def test_a_line_of_an_earlier_round_does_not_count() -> None:
    """A restart makes new containers: what earlier ones wrote does not explain their failure."""
    matches = RuleMatches(RuleSearch(BUILT_IN))
    found = app()
    (replica,) = found.roles_statuses[0].replicas
    matches.search(replace(replica, round=1), [LogLine("stdout", "No space left on device")])

    assert "" == rule_name(matches.mark(found))


def test_a_rule_does_not_explain_a_success() -> None:
    """An app that succeeded, and a replica that did, have no rule."""
    matches = RuleMatches(RuleSearch(BUILT_IN))
    replica = ReplicaStatus(0, AppState.SUCCEEDED, "trainer", "h")
    roles = [RoleStatus("trainer", [replica])]
    done = DescribeAppResponse("train-x1", AppState.SUCCEEDED, roles_statuses=roles)
    matches.search(replica, [LogLine("stdout", "CUDA out of memory")])

    assert done == matches.mark(done)


def test_an_auxiliary_replica_that_failed_is_explained() -> None:
    """The table of an app that succeeded names the rule that its lines matched."""
    trainer = ReplicaStatus(0, AppState.SUCCEEDED, "trainer", "h")
    data = ReplicaStatus(0, AppState.FAILED, "data", "h", exit_code=1, container_id="c")
    matches = RuleMatches(RuleSearch(BUILT_IN))
    matches.search(data, [LogLine("stdout", "No space left on device")])

    found = matches.mark(
        DescribeAppResponse(
            "train-x1",
            AppState.SUCCEEDED,
            metadata={"essential_roles": '["trainer"]'},
            roles_statuses=[RoleStatus("trainer", [trainer]), RoleStatus("data", [data])],
        )
    )

    assert "auxiliary, failure rule no_space_left" in replica_table(found)
    assert failure_action(found) is None


def test_replicas_that_were_stopped_are_explained_with_their_app() -> None:
    """A peer that was stopped has the rule of its lines, if the app has failed."""
    peer = ReplicaStatus(1, AppState.CANCELLED, "trainer", "h", container_id="c")
    roles = [RoleStatus("trainer", [peer])]
    matches = RuleMatches(RuleSearch(BUILT_IN))
    matches.search(peer, [LogLine("stdout", "No space left on device")])

    for state, rule in ((AppState.FAILED, "no_space_left"), (AppState.CANCELLED, "")):
        found = matches.mark(DescribeAppResponse("x", state, roles_statuses=roles))
        assert rule == found.roles_statuses[0].replicas[0].rule


def line_of(lines: list[str], worker: WorkerFailure | None = None, rule: str = "bad") -> str:
    """Return the line that the rule of a failed app matches."""
    failed = app(rule, own("bad:fail:corrupt \\d"))
    replica = replace(failed.roles_statuses[0].replicas[0], worker=worker)
    failed = replace(failed, roles_statuses=[RoleStatus("trainer", [replica])])
    return rule_line(failed, lines, RuleSearch(rules_of(failed)))


def test_the_line_of_an_own_rule() -> None:
    """It is the first one of the worker's error, else the last one of the log."""
    lines = ["corrupt 1", "corrupt 2 ", "corrupt x"]
    worker = WorkerFailure(message="ValueError", traceback="raise\n  corrupt 3\ncorrupt 4")

    assert "corrupt 2" == line_of(lines)
    assert "corrupt 3" == line_of(lines, worker)
    assert "corrupt 2" == line_of(lines, WorkerFailure(message="killed"))
    assert "" == line_of(["x" * 2000 + "corrupt 1"])
    assert "" == line_of(["No space left on device"], rule="no_space_left")
    assert "" == line_of(lines, rule="")


def test_the_line_of_a_slow_rule() -> None:
    """The search for the line ends when it has taken too long: a line can take 0.7 s."""
    failed = app("slow", own("slow:none:b+.*x"))
    times = iter(range(0, 100, 2))
    search = RuleSearch(rules_of(failed), lambda: float(next(times)))

    assert "bx" == rule_line(failed, ["bx", "x"], RuleSearch(rules_of(failed)))
    assert "" == rule_line(failed, ["bx", "x", "x", "x"], search)
