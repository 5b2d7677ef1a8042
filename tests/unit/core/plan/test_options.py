"""Tests of run options."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any, NamedTuple, cast

import pytest

from airflow_torchx.core.engine.containers import HostOptions, Ulimit
from airflow_torchx.core.plan import option_values
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import InvalidAppError, InvalidOptionsError
from airflow_torchx.specs import FrozenDict
from airflow_torchx.specs.frozen import freeze


class Option(NamedTuple):
    """The default of an option, pairs of valid and parsed values, and invalid values."""

    default: object
    good: list[tuple[object, object]]
    bad: list[object]


TEXT = Option(None, [("x", "x"), (None, None)], ["", " ", 1, ["x"]])
TEXTS = Option(
    (),
    [
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
        ("a, b;c;", ("a", "b", "c")),
        ("", ()),
        (None, ()),
    ],
    [[1], ["a", ""], {"a": "b"}, 3, b"ab"],
)
PAIRS = Option(
    {},
    [({"a": "b"}, {"a": "b"}), ({"a": 1, "b": 0.5}, {"a": "1", "b": "0.5"}), (None, {})],
    ["a=b", {"a": None}, {1: "b"}, {"": "b"}, ["a"]],
)
OFF = Option(
    False,
    [
        (True, True),
        ("True", True),
        (" yes ", True),
        ("off", False),
        ("0", False),
        (1, True),
        (None, False),
    ],
    ["maybe", "", 2, 1.0, [True]],
)
COUNT = Option(1, [(1, 1), (" 12 ", 12)], [0, -1, "0", 1.5, "many", "", True, [1]])
OPTIONS = {
    "copy_env": TEXTS,
    "env": PAIRS._replace(bad=[*PAIRS.bad, {"A=B": "c"}, {"A\0": "c"}]),
    "privileged": OFF,
    "image_repo": Option(
        None,
        [
            (name, name)
            for name in (
                "project",
                "team/project",
                "registry.example.com/team/my_project-x",
                "127.0.0.1:5000/a",
                "localhost/a",
                "host:80/a",
            )
        ],
        ["", 1, "a:tag", "host:80/a:tag", f"a@sha256:{'0' * 64}", "Team/x", "a//b", "https://a/b"],
    ),
    "quiet": OFF,
    "build_args": PAIRS._replace(bad=[*PAIRS.bad, {"A=B": "c"}]),
    "target": TEXT,
    "build_secrets": Option(
        (),
        [
            (["id=a,src=/x", "id=b,env=B"], ("id=a,src=/x", "id=b,env=B")),
            ("id=a,src=/x; id=b,env=B", ("id=a,src=/x", "id=b,env=B")),
            ("", ()),
            (None, ()),
        ],
        ["a", "src=/x", ["id=a"], ["id=a,src=/x,env=B"], ["id=a,src=/x,mode=1"], 1],
    ),
    "max_context_mb": COUNT._replace(default=1024, good=[*COUNT.good, (None, 1024)]),
    "keep_images": COUNT._replace(default=5, good=[*COUNT.good, (None, 5)]),
    "pull_policy": Option(
        "missing",
        [
            ("always", "always"),
            ("if_possible", "if_possible"),
            ("missing", "missing"),
            ("never", "never"),
            (None, "missing"),
        ],
        ["sometimes", "", 1, ["always"]],
    ),
    "network": TEXT._replace(
        default="torchx",
        good=[(name, name) for name in ("own", "host", "container:x")] + [(None, "torchx")],
        bad=[*TEXT.bad, "a/b", "service:db"],
    ),
    "stop_grace_s": Option(
        10.0,
        [(0, 0.0), (2.5, 2.5), ("30", 30.0), (None, 10.0)],
        [-1, "-0.1", "soon", "", True, float("nan"), "inf", 10**10, 10**400, [1]],
    ),
    "checkpoint": Option(
        None,
        [
            ("models", "models"),
            (" a.b-c_1 ", "a.b-c_1"),
            ("/data", "/data"),
            ("//data/../x/", "/x"),
            ("s3://conn@bucket/x/", "s3://conn@bucket/x"),
            ("gs://bucket", "gs://bucket"),
            ("file:///x", "file:///x"),
            (None, None),
        ],
        [
            *("", "/", "/..", "a", "a/b", "./a", "a b", "/a\0", 1, ["a"], "s3://", "s3:///x"),
            *(
                "file://",
                "file:///",
                "file://x",
                "s3://me:hunter2@bucket/x",
                "s3://b/x?sig=hunter2",
            ),
            *(
                "s3://b/../x",
                "s3://b/*",
                "s3://b/[a]",
                "S3://b/x",
                "s3://b/a b",
                "s3://b/x#y",
                "://b",
            ),
        ],
    ),
    "checkpoint_interval_s": Option(
        300.0,
        [(1, 1.0), (2.5, 2.5), ("60", 60.0), (None, 300.0)],
        [0, "0.9", -1, "soon", "", True, float("nan"), 10**10],
    ),
    "checkpoint_policy": Option(
        "fresh",
        [("fresh", "fresh"), ("eager", "eager"), (None, "fresh")],
        ["lazy", "", 1],
    ),
    "checkpoint_signal": Option(
        None,
        [("SIGUSR1", "SIGUSR1"), ("SIGHUP", "SIGHUP"), (None, None)],
        ["USR1", "SIGKILL", "SIGTERM", "SIGSTOP", "10", "", 10, ["SIGUSR1"]],
    ),
    "checkpoint_before_timeout_s": Option(
        None,
        [(0, 0.0), (2.5, 2.5), ("60", 60.0), (None, None)],
        [-1, "soon", "", True, float("nan"), 10**10],
    ),
    "failure_policy": Option(
        "fail_fast",
        [("fail_fast", "fail_fast"), ("wait_all", "wait_all"), (None, "fail_fast")],
        ["quorum", "", 1],
    ),
    "failure_rules": Option(
        (),
        [
            (["nfs:restart:Stale (file )?handle: x"], ("nfs:restart:Stale (file )?handle: x",)),
            ([{"name": "a", "pattern": "b", "action": "none"}], ("a:none:b",)),
            ("a:fail:x y; b:none:z", ("a:fail:x y", "b:none:z")),
            ([], ()),
            (None, ()),
        ],
        [
            1,
            {"name": "a", "pattern": "b", "action": "none"},
            ["a:fail"],
            ["a:stop:b"],
            ["a b:fail:c"],
            ["a:fail:("],
            ["a:fail:x*"],
            ["a:fail:"],
            ["a:fail:b", "a:none:c"],
            [{"name": "a", "pattern": "b"}],
            [{"name": "a", "pattern": 3, "action": "none"}],
            [{"name": "a", "pattern": "b", "action": "none", "more": 1}],
            [f"a:fail:{'x' * 1001}"],
            [f"a{i}:fail:x" for i in range(51)],
        ],
    ),
    "essential_roles": Option(
        (),
        [(["a", "b"], ("a", "b")), ("a; b", ("a", "b")), ("", ()), (None, ())],
        [1, [1], [""], {"a": "b"}],
    ),
    "auxiliary_grace_s": Option(
        None,
        [(0, 0.0), (2.5, 2.5), ("30", 30.0), (None, None)],
        [-1, "soon", "", True, float("nan"), 10**10],
    ),
    "stalled_after_s": Option(
        None,
        [(1, 1.0), (2.5, 2.5), ("3600", 3600.0), (None, None)],
        [0, "0.9", -1, "soon", "", True, float("nan"), 10**10],
    ),
    "progress_pattern": Option(
        None,
        [(r"step (?P<step>\d+)/(?P<total>\d+)",) * 2, (None, None)],
        [
            *("", 1, "(", r"step (\d+)", r"(?P<total>\d+)", r"(?P<step>(a+)+)", "(?P<step>x)" * 2),
            *("(?P<step>x)" + "x" * 990, "(?P<step>x){99999999999}"),
        ],
    ),
    "auto_set_gpus": OFF._replace(default=True, good=[("no", False), ("on", True), (None, True)]),
    "gpu_wait_timeout_s": Option(
        None,
        [(0, 0.0), (2.5, 2.5), ("3600", 3600.0), (None, None)],
        [-1, "soon", "", True, float("nan"), 10**10],
    ),
    "gpu_foreign": Option(
        "respect",
        [("respect", "respect"), ("ignore", "ignore"), (None, "respect")],
        ["kill", "", 1],
    ),
    "gpu_driver": Option(None, [("cdi", "cdi"), (None, None)], ["nvidia", "", 1]),
    "constraints": TEXTS._replace(
        good=[
            (["node.labels.gpu==a100"], ("node.labels.gpu==a100",)),
            (
                "node.role==worker; node.hostname != box1",
                ("node.role==worker", "node.hostname != box1"),
            ),
            (None, ()),
        ],
        bad=[*TEXTS.bad, "a100", "gpu=a100", "==a100", ["node.id=="]],
    ),
    "max_replicas_per_node": Option(
        None, [(1, 1), ("2", 2), (None, None)], [0, -1, 1.5, "", "one", True]
    ),
    "placement": Option(
        None, [("pack", "pack"), ("spread", "spread"), (None, None)], ["binpack", "", 1]
    ),
    "pending_timeout_s": Option(
        None,
        [(0, 0.0), (2.5, 2.5), ("3600", 3600.0), (None, None)],
        [-1, "soon", "", True, float("nan"), 10**10],
    ),
    "publish_ports": OFF,
    "user": TEXT._replace(
        good=[(name, name) for name in ("me", "0:0", ":0", "1:", "a-b:c", "2147483647")]
        + [(1000, "1000"), (None, None)],
        bad=["", True, ["me"], "-1", -1, "99999999999", "0:-1", "2147483648"],
    ),
    "ipc_mode": TEXT._replace(
        good=[(one, one) for one in ("host", "none", "private", "shareable", "container:a")],
        bad=[*TEXT.bad, "x", "HOST", "container:", "container"],
    ),
    "ulimits": Option(
        (),
        [
            (["memlock=-1", "nofile=1024:4096"], ("memlock=-1", "nofile=1024:4096")),
            ("memlock=-1;stack=1:-1", ("memlock=-1", "stack=1:-1")),
            (None, ()),
        ],
        [
            *(["nofile"], ["nofile=a"], ["nofile=2:1"], ["nofile=-1:1"], "nofile:1", 1),
            *("bogus=1", "NOFILE=1", "as=1", "=1"),
        ],
    ),
    "cap_add": TEXTS._replace(
        good=[("all,sys_ptrace; CAP_KILL", ("all", "sys_ptrace", "CAP_KILL")), (None, ())],
        bad=[*TEXTS.bad, "bogus", "CAP_X", "CAP_", ["SYS_ADMIN "], "-SYS_ADMIN"],
    ),
    "init": Option(None, [(True, True), ("false", False), (None, None)], ["maybe", 2]),
    "extra_hosts": PAIRS._replace(
        good=[
            ({"a": "10.0.0.1", "b_c.d": "::1"}, {"a": "10.0.0.1", "b_c.d": "::1"}),
            ({"a": "host-gateway"}, {"a": "host-gateway"}),
            ({"a": " 10.0.0.1"}, {"a": "10.0.0.1"}),
            (None, {}),
        ],
        bad=[
            *PAIRS.bad,
            *({"a": text} for text in ("", "b", "1.2.3", "1.2.3.4:5", 5, "[::1]", "1.2.3.04")),
            *({name: "1.2.3.4"} for name in ("a:b", "a\nb", "a b", ":")),
        ],
    ),
    "dns": TEXTS._replace(
        good=[("1.1.1.1;::1", ("1.1.1.1", "::1")), (None, ())],
        bad=[*TEXTS.bad, "a", "1.2.3", "1.2.3.4:53", "[::1]", [" 1.1.1.1"]],
    ),
    "log_config": Option(
        {},
        [
            ({"type": "local"}, {"type": "local", "config": {}}),
            (
                {"type": "json-file", "config": {"max-file": 3}},
                {"type": "json-file", "config": {"max-file": "3"}},
            ),
            ({}, {}),
            (None, {}),
            *(
                ({"type": "x", "config": {name: text}}, {"type": "x", "config": {name: text}})
                for name, text in (
                    *(("max-size", text) for text in ("10m", "1.5 GB", "3kib", "100", "-1")),
                    *(("mode", "blocking"), ("mode", "non-blocking"), ("tag", "x")),
                )
            ),
        ],
        [
            *(
                {"type": "local", "config": {name: text}}
                for name, text in (
                    *(("max-size", "x"), ("max-size", "10 MX"), ("max-buffer-size", "-2")),
                    *(("max-file", "0"), ("max-file", "x"), ("mode", "x"), ("max-size", "")),
                    *(("compress", "maybe"), ("max-sise", "1m"), ("tag", "x")),
                )
            ),
            "local",
            {"config": {}},
            {"type": 1},
            {"type": "local", "options": {}},
            {"type": "local", "config": "max-file=3"},
        ],
    ),
    "runtime": TEXT,
    "security_opt": TEXTS._replace(
        good=[
            ([one], (one,))
            for one in (
                *("seccomp=unconfined", "seccomp:unconfined", "seccomp=builtin", "seccomp={}"),
                *("no-new-privileges", "no-new-privileges:true", "no-new-privileges=false"),
                *("label=disable", "label:type:x", "apparmor=unconfined", "apparmor=mine"),
            )
        ],
        bad=[
            *(*TEXTS.bad, "bogus", "=", "x=y", "no-new-privileges=x", "seccomp=/x.json", "label="),
            *("systempaths=unconfined", "seccomp"),
        ],
    ),
    "tmpfs": PAIRS._replace(
        good=[
            ({"/a": text}, {"/a": text})
            for text in (
                *("", "size=64m", "size=50%,mode=1777", "rw,noexec,nosuid,uid=0,gid=0"),
                *("nr_inodes=10k,nr_blocks=5", "defaults", "rprivate,async,nodiratime"),
            )
        ],
        bad=[*PAIRS.bad, {"a": ""}, {"./a": ""}, {"/": ""}, {"/a/..": ""}, {"//": ""}]
        + [
            {"/a": text}
            for text in (
                *("bogus", "size", "size=", "size=lots", "size=0.5g", "size=-1", "size=1e3"),
                *("mode=999", "mode=abc", "uid=a", "a,,b", " size=1m", "SIZE=1m", "huge=always"),
            )
        ],
    ),
    "working_dir": TEXT._replace(
        good=[(path, path) for path in ("/", "/a", "/a b/../c")],
        bad=[*TEXT.bad, "app", "./app", "~", "C:\\x", " /a"],
    ),
    "trackers": PAIRS._replace(
        good=[*PAIRS.good, ({"a": None, "b.c:d": "s3://x"}, {"a": "", "b.c:d": "s3://x"})],
        bad=["a", {1: "b"}, {"": "b"}, {"a,b": ""}, {"a=b": ""}, {"a": ["b"]}, {"a\0": ""}],
    ),
    "labels": PAIRS._replace(
        bad=[*PAIRS.bad, {"torchx.pytorch.org/app-id": "x"}, {"airflow-torchx/launch-id": "x"}]
    ),
}


def refusal(cfg: dict[str, Any]) -> InvalidAppError:
    """Return the error that refuses these options."""
    with pytest.raises(InvalidAppError) as caught:
        Opts.parse(cfg)
    return caught.value


def test_every_option_has_an_entry() -> None:
    """Every option has an entry in this module."""
    assert {name: option.default for name, option in OPTIONS.items()} == {
        option.name: getattr(Opts(), option.name) for option in fields(Opts)
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_valid_values(name: str) -> None:
    """A value has the same meaning as an argument and in a mapping."""
    for written, meant in OPTIONS[name].good:
        parsed = getattr(Opts.parse({name: written}), name)

        assert (meant, type(freeze(meant))) == (parsed, type(parsed))
        assert meant == getattr(Opts(**cast("dict[str, Any]", {name: written})), name)


@pytest.mark.parametrize("name", OPTIONS)
def test_invalid_values(name: str) -> None:
    """An invalid value is one problem that names the option and says what to write."""
    for written in OPTIONS[name].bad:
        (problem,) = refusal({name: written}).problems

        assert f"options.{name}" == problem.where
        assert problem.what.endswith(" is not accepted")
        assert problem.fix


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        (
            {"privileged": "maybe"},
            "options.privileged: 'maybe' is not accepted; give True or False",
        ),
        (
            {"pull_policy": "sometimes"},
            "options.pull_policy: 'sometimes' is not accepted; choose from always, if_possible",
        ),
        (
            {"gpu_driver": "nvidia"},
            "options.gpu_driver: 'nvidia' is not accepted; choose from cdi, or leave it out",
        ),
        ({"user": ""}, "options.user: '' is not accepted; give a non-empty string"),
        (
            {"stop_grace_s": -1},
            "options.stop_grace_s: -1 is not accepted; give a number of seconds",
        ),
        ({"ulimits": "nofile=2:1"}, "is not accepted; the soft limit 2 is above the hard limit 1"),
        ({"ulimits": "nofile"}, "is not accepted; expected name=soft:hard, like nofile=1024:4096"),
        ({"ulimits": ["nofile=1", "stack=2:1"]}, "the hard limit 1 in 'stack=2:1'"),
        ({"ulimits": ["nofile=1", "core"]}, "like nofile=1024:4096 or memlock=-1, got 'core'"),
        ({"dns": [""]}, "is not accepted; give a list of non-empty strings: [0] is ''"),
        ({"copy_env": ["A", None]}, "give a list of non-empty strings: [1] is None"),
        ({"build_secrets": ["id=a,env=A", "id=b"]}, "a list is not accepted; give b as 'id=NAME,"),
        ({"build_secrets": ["id=a,env=A", "src=b"]}, "a list is not accepted; give [1] as 'id=NAM"),
        ({"tmpfs": []}, "is not accepted; give a mapping of strings to strings"),
        (
            {"log_config": "local"},
            'is not accepted; give {"type": driver, "config": {option: value}}',
        ),
        (
            {"labels": {"torchx.pytorch.org/app-id": "x"}},
            "options.labels: an entry is not accepted; the label 'torchx.pytorch.org/app-id' is",
        ),
        (
            {"env": {"A": None}},
            "options.env: an entry is not accepted; entry 'A' needs strings as its name and value",
        ),
        (
            {"labels": {**{f"l{i}": "" for i in range(40)}, "a": None, "b": []}},
            "options.labels: an entry is not accepted; each of the entries 'a', 'b' needs strings",
        ),
        (
            {"env": {"A=B": "c"}},
            "options.env: an entry is not accepted; rename 'A=…': a name cannot contain",
        ),
    ],
)
def test_problems_say_what_to_write(cfg: dict[str, Any], line: str) -> None:
    """The message says how to fix the problem."""
    assert line in str(refusal(cfg))


def test_a_value_with_a_zero_byte() -> None:
    """It is refused by the name of its variable: the error of its start would have the value."""
    with pytest.raises(InvalidOptionsError, match="correct the value of 'TOKEN'") as caught:
        Opts.parse({"env": {"TOKEN": "hidden\0", "PLAIN": "shown"}})

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "env",
    [
        "HF_TOKEN=s3cr3t",
        {"HF_TOKEN=x": "s3cr3t"},
        {"HF_TOKEN=s3cr3t": ""},
        {"HF_TOKEN": ["s3cr3t"]},
        ["s3cr3t"],
    ],
)
def test_errors_do_not_repeat_values_of_variables(env: object) -> None:
    """No error repeats the value of a variable."""
    assert "s3cr3t" not in str(refusal({"env": env, "envs": env}))


@pytest.mark.parametrize(
    "cfg", [{"build_secrets": "id=hf,value=s3cr3t"}, {"image_repo": "me:s3cr3t@h:5000/img"}]
)
def test_errors_do_not_repeat_secrets(cfg: dict[str, Any]) -> None:
    """No error repeats a secret that was given in the wrong form."""
    assert "s3cr3t" not in str(refusal(cfg))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("copyEnv", "copy_env"),
        ("stopGraceS", "stop_grace_s"),
        ("autoSetGpus", "auto_set_gpus"),
        ("imageRepo", "image_repo"),
    ],
)
def test_camel_case_is_accepted(written: str, meant: str) -> None:
    """TorchX's camelCase names are accepted."""
    value = OPTIONS[meant].good[0][0]

    assert Opts.parse({meant: value}) == Opts.parse({written: value})


@pytest.mark.parametrize("name", ["gpu_ids", "gpuIds"])
def test_a_field_of_the_connection(name: str) -> None:
    """The ids of GPUs belong to the daemon: to its connection, or its configuration."""
    (problem,) = refusal({name: "GPU-1"}).problems

    assert "a field of the connection, not a run option" == problem.what
    assert "node-generic-resources of the daemon" in problem.fix


def test_a_misspelled_option() -> None:
    """A misspelled option is an error that suggests the nearest name."""
    error = refusal({"priviledged": True})

    assert (
        "invalid run options: 1 problem\n"
        "  - options.priviledged: unknown option; did you mean 'privileged'?"
    ) == str(error)


def test_an_option_like_no_other() -> None:
    """The error lists all options if no name is similar."""
    (problem,) = refusal({"zzz": 1}).problems

    assert problem.fix.endswith(", ".join(sorted(OPTIONS)))


def test_one_error_lists_all_problems() -> None:
    """One error lists unknown names and invalid values."""
    error = refusal({"quite": True, "privileged": "maybe", "dns": 3, "network": "own"})

    assert ["options.quite", "options.privileged", "options.dns"] == [
        problem.where for problem in error.problems
    ]


@pytest.mark.parametrize(
    ("network", "fix"),
    [
        *[("HOST", "did you mean 'host'?"), (" bridge ", "did you mean 'bridge'?")],
        *[("None", "did you mean 'none'?"), ("DEFAULT", "did you mean 'default'?")],
        ("container", "did you mean 'container:NAME'?"),
        ("container:", "did you mean 'container:NAME'?"),
        ("Container:db", "did you mean 'container:db'?"),
        ("ingress", "Docker Swarm uses this name; choose another one"),
        ("docker_gwbridge", "Docker Swarm uses this name; choose another one"),
    ],
)
def test_networks_that_mean_another_one(network: str, fix: str) -> None:
    """A network that is almost one of Docker's, or one of a Swarm, is refused, not created."""
    (problem,) = refusal({"network": network}).problems

    assert ("options.network", fix) == (problem.where, problem.fix)


def test_an_unknown_name_beside_valid_options() -> None:
    """An unknown name is refused beside valid options."""
    assert ["options.quite"] == [p.where for p in refusal({"quite": True, "quiet": True}).problems]


@pytest.mark.parametrize("cfg", ["image_repo=s3cr3t", ["s3cr3t"], 5])
def test_options_are_a_mapping(cfg: Any) -> None:  # noqa: ANN401 - the point of the test
    """Another type than a mapping is refused, and the error does not repeat the value."""
    kind = type(cfg).__name__

    assert f"options: a {kind} is not accepted; give a mapping of" in str(refusal(cfg))
    assert "s3cr3t" not in str(refusal(cfg))


def test_no_options_are_the_defaults() -> None:
    """None and an empty mapping mean the defaults."""
    assert Opts() == Opts.parse(None) == Opts.parse({})


def test_parsed_options_are_returned_unchanged() -> None:
    """An `Opts` is returned unchanged."""
    opts = Opts(privileged=True)

    assert opts is Opts.parse(opts)


def test_options_copy_mappings() -> None:
    """A later change of the caller's mapping does not change the options."""
    env = {"A": "1"}
    opts = Opts(env=env)
    env["B"] = "2"

    assert {"A": "1"} == opts.env


def test_options_are_a_mapping_of_their_values() -> None:
    """Options are a mapping by name, also in camelCase, as TorchX's are."""
    opts = Opts(env={"A": "1"}, copy_env=["B*"])

    assert {"A": "1"} == opts["env"] == opts.get("env")
    assert ["B*"] == opts["copy_env"] == opts["copyEnv"]
    assert {option.name: getattr(opts, option.name) for option in fields(Opts)} == dict(opts)
    assert [*OPTIONS] == sorted([*opts], key=[*OPTIONS].index)
    assert len(OPTIONS) == len(opts)
    assert "env" in opts
    assert (None, 3) == (opts.get("parse"), opts.get("nothing", 3))
    assert [] == [name for name in ("parse", "", 7, None) if name in opts]
    with pytest.raises(KeyError, match="nothing"):
        opts["nothing"]
    assert dict(opts) | {"env": {}} == opts | {"env": {}}
    assert opts == Opts.parse(dict(opts)) == Opts.from_cfg({**opts})


@pytest.mark.parametrize("name", ["env", "log_config", "trackers", "labels"])
def test_options_cannot_change(name: str) -> None:
    """No option can change, and no mapping in it."""
    opts = Opts(env={"A": "1"}, log_config={"type": "local", "config": {"max-file": "3"}})

    with pytest.raises(TypeError, match="read-only"):
        opts[name]["x"] = "y"
    with pytest.raises(TypeError, match="read-only"):
        opts.log_config["config"].clear()
    with pytest.raises(FrozenInstanceError):
        opts.env = {}  # type: ignore[misc]
    assert isinstance(opts.env, FrozenDict)


def test_error_of_an_option_names_it() -> None:
    """The error of an option has its own type and the name of the option."""
    error = refusal({"privileged": "maybe", "quite": 1})

    assert isinstance(error, InvalidOptionsError)
    assert "quite" == error.cfg_key


def test_options_can_be_copied_and_pickled() -> None:
    """Options can be copied and pickled."""
    opts = Opts.parse({"env": {"A": "1"}, "ulimits": "memlock=-1", "log_config": {"type": "local"}})

    assert opts == copy.deepcopy(opts) == pickle.loads(pickle.dumps(opts))  # noqa: S301 - our own bytes


def test_the_engine_gets_its_own_defaults() -> None:
    """The default options are the Engine's defaults."""
    assert HostOptions() == Opts().host_options()


def test_the_engine_gets_every_host_option() -> None:
    """Every host option is passed on, with limits and log driver parsed."""
    opts = Opts.parse(
        {
            "privileged": True,
            "user": "1000:1000",
            "ipc_mode": "host",
            "ulimits": "memlock=-1;nofile=1024:4096",
            "cap_add": ["SYS_PTRACE"],
            "init": True,
            "extra_hosts": {"db": "10.0.0.1"},
            "dns": "1.1.1.1",
            "log_config": {"type": "json-file", "config": {"max-file": 3}},
            "runtime": "nvidia",
            "security_opt": ["seccomp=unconfined"],
            "tmpfs": {"/scratch": "size=1g"},
            "working_dir": "/job",
        }
    )

    assert (
        HostOptions(
            privileged=True,
            user="1000:1000",
            ipc_mode="host",
            ulimits=(
                Ulimit(name="memlock", soft=-1, hard=-1),
                Ulimit(name="nofile", soft=1024, hard=4096),
            ),
            cap_add=("SYS_PTRACE",),
            init=True,
            extra_hosts={"db": "10.0.0.1"},
            dns=("1.1.1.1",),
            log_driver="json-file",
            log_options={"max-file": "3"},
            runtime="nvidia",
            security_opt=("seccomp=unconfined",),
            tmpfs={"/scratch": "size=1g"},
            working_dir="/job",
        )
        == opts.host_options()
    )


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        ("nofile=1024:4096", 1024, 4096),
        ("nofile=1024:1024", 1024, 1024),
        ("nofile=1024:-1", 1024, -1),
        ("nofile=-1:-1", -1, -1),
        (" nofile=0 ", 0, 0),
    ],
)
def test_one_number_sets_both_limits(text: str, soft: int, hard: int) -> None:
    """One number sets both limits, and -1 is above every number."""
    assert Ulimit(name="nofile", soft=soft, hard=hard) == option_values.parse_ulimit(text)


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_invalid_names_of_variables(name: str) -> None:
    """A variable's name cannot be empty, or contain ``=`` or a zero byte."""
    assert not option_values.is_env_name(name)
    assert option_values.is_env_name("a.b-c")


def test_an_option_in_two_spellings_is_refused() -> None:
    """An option in two spellings with different values is refused."""
    (problem,) = refusal({"copyEnv": ["A"], "copy_env": ["B"]}).problems

    assert ("options.copy_env", "use only 'copy_env'") == (problem.where, problem.fix)


@pytest.mark.parametrize(
    ("one", "other"),
    [("A;B", ["A", "B"]), (None, None), (["A"], "A"), (["A", "B"], ["A", "B"])],
)
def test_an_option_in_two_spellings_with_one_value(one: object, other: object) -> None:
    """An option in two spellings is accepted if both values mean the same."""
    opts = Opts.parse({"copyEnv": one, "copy_env": other})

    assert Opts.parse({"copy_env": other}) == opts


def test_two_spellings_with_a_default() -> None:
    """Defaults do not make two equal values different."""
    both = {"extraHosts": {"a": "::1"}, "extra_hosts": {"a": "::1"}}

    assert {"a": "::1", "b": "::2"} == Opts.parse(both, {"extra_hosts": {"b": "::2"}}).extra_hosts


@pytest.mark.parametrize(
    "cfg",
    [
        {"copy_env": {"HF_TOKEN": "s3cr3t"}},
        {"log_config": {"type": "x", "opt": "s3cr3t"}},
        {"log_config": {"type": "x", "config": {"mode": "s3cr3t"}}},
        {"extra_hosts": {"a": "s3cr3t"}},
        {"tmpfs": {"/a": "s3cr3t"}},
    ],
)
def test_errors_do_not_repeat_mappings(cfg: dict[str, Any]) -> None:
    """No error repeats a mapping, because it may have secrets."""
    assert "s3cr3t" not in str(refusal(cfg))


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (None, {"user": "me", "network": "lan", "env": {"A": "1", "B": "2"}}),
        ({"user": "you"}, {"user": "you", "network": "lan", "env": {"A": "1", "B": "2"}}),
        (
            {"user": None, "env": None},
            {"user": "me", "network": "lan", "env": {"A": "1", "B": "2"}},
        ),
        ({"env": {"B": 3}}, {"user": "me", "network": "lan", "env": {"A": "1", "B": "3"}}),
        ({"env": {}}, {"user": "me", "network": "lan", "env": {"A": "1", "B": "2"}}),
    ],
)
def test_defaults(cfg: dict[str, object] | None, expected: dict[str, object]) -> None:
    """Defaults apply to options that are not given, and mappings are merged."""
    defaults = {"user": "me", "network": "lan", "env": {"A": "1", "B": "2"}, "init": None}

    assert Opts(**cast("dict[str, Any]", expected)) == Opts.parse(cfg, defaults)


def test_defaults_in_other_spellings() -> None:
    """A default and an option match in any spelling."""
    assert ("a",) == Opts.parse({"copyEnv": ["a"]}, {"copy_env": ["b"]}).copy_env
    assert ("b",) == Opts.parse({"copyEnv": None}, {"copy_env": ["b"]}).copy_env
    assert ("a",) == Opts.parse({"copy_env": ["a"]}, {"copyEnv": ["b"]}).copy_env


def test_a_log_driver_is_not_merged() -> None:
    """The options of a log driver are not merged with those of another."""
    own, other = {"type": "journald"}, {"type": "local", "config": {"max-size": "1m"}}

    assert "local" == Opts.parse({}, {"log_config": other}).log_config["type"]
    assert {"type": "journald", "config": {}} == Opts.parse(
        {"log_config": own}, {"log_config": other}
    ).log_config


def test_defaults_do_not_hide_mistakes() -> None:
    """Defaults do not hide unknown names and invalid values, and do not apply to an `Opts`."""
    with pytest.raises(InvalidAppError, match=r"options\.netwrok: unknown option"):
        Opts.parse({"netwrok": None}, {"network": "lan"})
    with pytest.raises(InvalidAppError, match=r"options\.env: a str is not accepted"):
        Opts.parse({"env": "A=1"}, {"env": {"A": "1"}})

    assert "torchx" == Opts.parse(Opts(), {"network": "lan"}).network


@pytest.mark.parametrize("url", ["s3://me:hunter2@bucket/x", "s3://c@b/x?sig=hunter2"])
def test_a_url_of_checkpoints_has_no_secret(url: str) -> None:
    """A password or a signature in the URL is refused, and not shown."""
    assert "hunter2" not in str(refusal({"checkpoint": url}))
