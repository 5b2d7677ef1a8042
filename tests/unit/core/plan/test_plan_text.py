"""Tests of a plan as YAML, with secrets masked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.core.engine.containers import GpuRequest, HostOptions
from airflow_torchx.core.plan.job_plan import JobPlan, LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.plan_text import (
    is_sensitive,
    render,
    secret_values,
    shown_app,
    shown_options,
)
from airflow_torchx.core.plan.plan_text import shown as shown_plan
from airflow_torchx.core.plan.redact import proxy_secrets
from airflow_torchx.specs import AppDef, BindMount, Resource, Role

MARK = "s3cr3t-value"


def planned(
    cfg: dict[str, Any] | None = None,
    *,
    environ: dict[str, str] | None = None,
    private_env: dict[str, str] | None = None,
    **role: object,
) -> JobPlan:
    """Return the plan of an app with one role."""
    fields: dict[str, Any] = {"name": "trainer", "image": "img:1", "entrypoint": "python", **role}
    launch = LaunchContext(
        app_id="train-x1",
        handle="local_docker://torchx/train-x1",
        launch_id="word",
        environ=environ or {},
        private_env=private_env or {},
    )
    return plan(AppDef("train", [Role(**fields)]), Opts.parse(cfg), launch)


def read(job: JobPlan) -> dict[str, Any]:
    """Return the parsed text of a plan."""
    return cast("dict[str, Any]", yaml.safe_load(render(job)))


def container(job: JobPlan) -> dict[str, Any]:
    """Return the first container in the text of a plan."""
    return cast("dict[str, Any]", read(job)["containers"][0])


def test_a_plan_as_text() -> None:
    """The text has the app and each container, without defaults."""
    job = planned(
        {"privileged": True, "ulimits": "nofile=1024:4096"},
        args=["main.py"],
        resource=Resource(cpu=0.5, gpu=1, memMB=512, devices={"acme.com/npu": 1}),
        mounts=[BindMount("/data", "/data", read_only=True)],
        port_map={"c10d": 29500},
    )
    expected = {
        "app_id": "train-x1",
        "handle": "local_docker://torchx/train-x1",
        "network": "torchx",
        "pull_policy": "missing",
        "gpus": "1 in total; the launch chooses their ids",
        "warnings": list(job.warnings),
        "containers": [
            {
                "role": "trainer",
                "replica": 0,
                "name": "train-x1-trainer-0",
                "image": "img:1",
                "entrypoint": "python",
                "args": ["main.py"],
                "env": job.containers[0].env,
                "labels": job.containers[0].labels,
                "network": "torchx",
                "mounts": [{"src_path": "/data", "dst_path": "/data", "read_only": True}],
                "nano_cpus": 500_000_000,
                "memory_mib": 512,
                "gpus": {"count": 1},
                "host": {
                    "privileged": True,
                    "ulimits": [{"name": "nofile", "soft": 1024, "hard": 4096}],
                },
            }
        ],
    }

    assert expected == read(job)
    assert list(expected) == list(read(job))
    assert GpuRequest(count=1) == job.containers[0].gpus
    assert HostOptions() != job.containers[0].host


def test_replicas_are_shown_by_what_differs() -> None:
    """Of a role's first replica everything is shown, of each other one what differs from it."""
    job = planned(
        {"publish_ports": True},
        args=["--rank=${replica_id}"],
        env={"SEED": "1${replica_id}", "LR": "0.1"},
        port_map={"c10d": 29500},
        num_replicas=3,
    )
    first, *others = read(job)["containers"]

    assert {"LR", "SEED", "TORCHX_IMAGE", "TORCHX_NUM_REPLICAS"} < first["env"].keys()
    assert [
        {
            "role": "trainer",
            "replica": index,
            "like": "trainer/0",
            "name": f"train-x1-trainer-{index}",
            "args": [f"--rank={index}"],
            "env": {"TORCHX_REPLICA_IDX": str(index), "SEED": f"1{index}"},
            "labels": {"torchx.pytorch.org/replica-id": str(index)},
            "ports": [{"container_port": 29500, "host_port": 0}],
        }
        for index in (1, 2)
    ] == others


@pytest.mark.parametrize(("count", "rest"), [(3, 2), (4, "2 to 3"), (64, "2 to 63")])
def test_replicas_that_differ_by_their_index_are_one_entry(count: int, rest: object) -> None:
    """Of replicas that differ only by their index, one is shown, and which others are like it."""
    job = planned(args=["--rank=${replica_id}"], num_replicas=count)
    _, second, others = read(job)["containers"]

    assert ("trainer/0", ["--rank=1"]) == (second["like"], second["args"])
    assert {"role": "trainer", "replica": rest, "like": "trainer/1, but for the index"} == others


def test_a_replica_of_its_own_is_shown_among_others() -> None:
    """A replica that differs by more than its index is shown, and so is the one after it."""
    job = planned(num_replicas=6)
    odd = replace(job.containers[3], memory_mib=7)

    found = read(replace(job, containers=(*job.containers[:3], odd, *job.containers[4:])))

    assert [0, 1, 2, 3, 4, 5] == [one["replica"] for one in found["containers"]]
    assert 7 == found["containers"][3]["memory_mib"]
    likes = [one.get("like", "") for one in found["containers"]]
    assert ["trainer/1, but for the index", "trainer/0", "trainer/0"] == likes[2:5]
    assert "trainer/4, but for the index" == likes[5]


def test_what_a_replica_lacks_is_shown() -> None:
    """A value of the first replica that another one does not have is null there."""
    job = planned(env={"A": "1"}, num_replicas=2, resource=Resource(cpu=1, gpu=0, memMB=64))
    first, second = job.containers
    bare = replace(second, env={name: second.env[name] for name in second.env if name != "A"})

    found = read(replace(job, containers=(first, replace(bare, memory_mib=None))))

    assert {"TORCHX_REPLICA_IDX": "1", "A": None} == found["containers"][1]["env"]
    assert found["containers"][1]["memory_mib"] is None


def test_each_role_is_shown_whole() -> None:
    """The first replica of every role is shown with all that it has."""
    launch = LaunchContext(app_id="a", handle="h", launch_id="l", environ={})
    roles = [Role(name, "img:1", entrypoint="sh") for name in ("ps", "trainer")]

    found = read(plan(AppDef("train", roles), Opts(), launch))["containers"]

    assert ["img:1", "img:1"] == [one["image"] for one in found]


def test_json_shows_every_container_whole() -> None:
    """As JSON data, a plan has all that each container has."""
    job = planned(num_replicas=2)

    assert ["img:1", "img:1"] == [one["image"] for one in shown_plan(job)["containers"]]


def test_a_plan_without_warnings() -> None:
    """A plan without warnings has no key for them."""
    assert "warnings" not in read(planned())


def test_a_dry_run_shows_no_secret_of_the_environment() -> None:
    """A copied variable is masked, whatever its name is."""
    job = planned({"copy_env": ["WANDB_*"]}, environ={"WANDB_X": MARK})

    assert "***" == container(job)["env"]["WANDB_X"]
    assert MARK not in render(job)


def test_a_long_variable_is_cut() -> None:
    """A long value is cut after it was masked."""
    env = {"SHORT": "x" * 1000, "LONG": "y" * 995 + MARK, "MY_TOKEN": MARK}
    shown = container(planned(env=env))["env"]

    assert "x" * 1000 == shown["SHORT"]
    assert "y" * 995 + "***" == shown["LONG"]
    assert (
        "z" * 1000 + "… (1001 characters)"
        == (container(planned(env={"LONG": "z" * 1001}))["env"]["LONG"])
    )


def test_private_variables_are_masked() -> None:
    """A private variable is masked, whatever its name is."""
    job = planned(private_env={"A": MARK, "B": "pw"}, args=[MARK])
    shown = container(job)["env"]

    assert ("***", "***") == (shown["A"], shown["B"])
    assert MARK not in render(job)


def test_sensitive_variables_are_masked() -> None:
    """A password in the env of a role or of the options is masked by its name."""
    job = planned({"env": {"DB_PASSWORD": MARK}}, env={"HF_TOKEN": MARK, "LR": "0.1"})
    shown = container(job)["env"]

    assert ("***", "***", "0.1") == (shown["DB_PASSWORD"], shown["HF_TOKEN"], shown["LR"])
    assert MARK not in render(job)


def test_secrets_are_masked_wherever_they_occur() -> None:
    """A secret in an argument, a label, another variable or an option is masked there, too."""
    job = planned(
        {"labels": {"team": f"a-{MARK}"}, "log_config": {"type": "splunk", "config": {"t": MARK}}},
        args=["--key", MARK, f"--url=https://me:{MARK}@host"],
        env={"API_KEY": MARK, "URL": f"https://{MARK}@host"},
    )
    shown = container(job)

    assert ["--key", "***", "--url=https://me:***@host"] == shown["args"]
    assert "a-***" == shown["labels"]["team"]
    assert "https://***@host" == shown["env"]["URL"]
    assert {"t": "***"} == shown["host"]["log_options"]
    assert MARK not in render(job)


def test_sensitive_options_are_masked() -> None:
    """A secret in an option of the log driver or in a label is masked."""
    job = planned(
        {
            "labels": {"acme.com/api-key": MARK},
            "log_config": {"type": "splunk", "config": {"splunk-token": MARK, "splunk-url": "u"}},
        }
    )
    shown = container(job)

    assert "***" == shown["labels"]["acme.com/api-key"]
    assert {"splunk-token": "***", "splunk-url": "u"} == shown["host"]["log_options"]
    assert MARK not in render(job)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"postgresql+psycopg2://me:{MARK}@h:5432/db", "postgresql+psycopg2://me:***@h:5432/db"),
        (f"redis://:{MARK}@h/0", "redis://:***@h/0"),
        (f"a=http://u:{MARK}@p:1 b", "a=http://u:***@p:1 b"),
        ("http://h:5000/a@b:c", "http://h:5000/a@b:c"),
        ("git@h:me/repo", "git@h:me/repo"),
    ],
)
def test_the_password_of_a_url_is_masked(value: str, expected: str) -> None:
    """A password in a URL is masked in every variable, and in arguments that repeat it."""
    shown = container(planned(env={"DATABASE": value}, args=[value]))

    assert (expected, [expected]) == (shown["env"]["DATABASE"], shown["args"])


def test_a_secret_with_lines_and_quotes_is_masked() -> None:
    """A secret is masked before YAML quotes it."""
    key = '-----BEGIN KEY-----\n"ab\\c"\n\té-----END KEY-----\n'
    job = planned(args=[f"cat <<E\n{key}E"], env={"SSH_PRIVATE_KEY": key})

    assert ["cat <<E\n***E"] == container(job)["args"]
    assert "BEGIN" not in render(job)


@pytest.mark.parametrize(
    ("url", "secrets", "shown"),
    [
        ("http://me:s3cr3t@proxy:3128", {"me:s3cr3t", "s3cr3t"}, "http://***@proxy:3128"),
        ("me:s3cr3t@proxy", {"me:s3cr3t", "s3cr3t"}, "***@proxy"),
        ("http://me:a/b#c@d?e@proxy", {"me:a/b#c@d?e", "a/b#c@d?e"}, "http://***@proxy"),
        (
            "http://me:s%40cret@proxy",
            {"me:s%40cret", "me:s@cret", "s%40cret", "s@cret"},
            "http://***@proxy",
        ),
        ("http://trainer@proxy", {"//trainer@"}, "http:***proxy"),
        ("http://u:p@proxy", {"//u:p@", "p"}, "http:***proxy"),
        ("socks5h://:s3cr3t@proxy", {":s3cr3t", "s3cr3t"}, "socks5h://***@proxy"),
        ("http://proxy:3128", set(), "http://proxy:3128"),
        ("proxy", set(), "proxy"),
        ("", set(), ""),
    ],
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_passwords_of_proxies_are_masked(
    name: str, url: str, secrets: set[str], shown: str
) -> None:
    """User and password of a proxy are secret in every form, its host is not."""
    assert secrets == proxy_secrets({name: url, "NO_PROXY": "me:s3cr3t@h", "MY_PROXY": "a:b@h"})
    assert shown == container(planned(env={name: url}))["env"][name]


def test_short_values_are_masked_only_in_their_variable() -> None:
    """A secret of four characters is masked in its variable only."""
    shown = container(planned(args=["main.py"], env={"PASS": "main"}))

    assert ("***", ["main.py"]) == (shown["env"]["PASS"], shown["args"])


def test_every_replica_is_masked() -> None:
    """A secret that differs between replicas is masked in all of them."""
    job = planned(env={"TOKEN": "word-${replica_id}-${app_id}"}, num_replicas=2)

    assert {"word-0-train-x1", "word-1-train-x1"} == secret_values(job)
    assert ["***", "***"] == [spec["env"]["TOKEN"] for spec in shown_plan(job)["containers"]]
    assert "word-" not in render(job)


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "token",
        "TOKENS",
        "API_KEY",
        "OPENAI_API_KEY",
        "APIKEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "SSH_PRIVATE_KEY",
        "MYSQL_PASS",
        "DB_PASSWORD",
        "PGPASSWORD",
        "KEY_PASSPHRASE",
        "FTP_PASSWD",
        "CLIENT_SECRET",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "HTTP_AUTHORIZATION",
        "DB_PWD",
        "AIRFLOW_CONN_WAREHOUSE",
        "AIRFLOW__CORE__FERNET_KEY",
        "splunk-token",
        "acme.com/api-key",
    ],
)
def test_names_of_secrets(name: str) -> None:
    """These names are sensitive."""
    assert is_sensitive(name)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "TOKENIZER",
        "KEY",
        "PRIMARY_KEY",
        "PASSES",
        "BYPASS",
        "COMPASS_DIR",
        "SECRETARY",
        "AUTHOR",
        "PWD",
        "OLDPWD",
        "CUDA_VISIBLE_DEVICES",
        "",
    ],
)
def test_names_that_are_not_sensitive(name: str) -> None:
    """These names are not sensitive."""
    assert not is_sensitive(name)


def test_tokenizers_parallelism_is_shown() -> None:
    """TOKENIZERS_PARALLELISM is shown, and so is ``false`` elsewhere."""
    shown = container(planned(args=["--x=false"], env={"TOKENIZERS_PARALLELISM": "false"}))

    assert "false" == shown["env"]["TOKENIZERS_PARALLELISM"]
    assert ["--x=false"] == shown["args"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text("ab:-#\"'\n{} é\x07\U0001f600", max_size=12), max_size=4))
def test_text_parses_back(args: list[str]) -> None:
    """YAML returns any arguments unchanged."""
    assert args == container(planned(args=args)).get("args")


@pytest.mark.parametrize("text", ["x", "x:", "a://", "://a:"])
def test_a_large_value_is_searched_fast(text: str) -> None:
    """A value of a megabyte is searched in linear time."""
    value = text * (1_000_000 // len(text))
    job = planned(env={"DATA": value, "HTTP_PROXY": value})

    assert frozenset() == secret_values(job)


def test_the_app_and_its_options_are_shown_without_secrets() -> None:
    """The app and its options are complete, with secrets masked everywhere."""
    app_env = {"API_TOKEN": "t0ken-1", "PLAIN": f"x {MARK}"}
    cfg = {"env": {"DB_PASSWORD": "passw0rd", "LR": "0.1"}, "copy_env": ["MINE"], "init": True}
    role = Role("trainer", "img:1", entrypoint="python", args=[f"--key={MARK}"], env=app_env)
    job = planned(cfg, environ={"MINE": MARK}, env=app_env, args=[f"--key={MARK}"])

    app = shown_app(AppDef("train", [role], {"about": MARK}), job)
    options = shown_options(Opts.parse(cfg), job)

    assert {"API_TOKEN": "***", "PLAIN": "x ***"} == app["roles"][0]["env"]
    assert (["--key=***"], {"about": "***"}) == (app["roles"][0]["args"], app["metadata"])
    assert {"DB_PASSWORD": "***", "LR": "0.1"} == options["env"]
    assert (True, None, 1024) == (options["init"], options["user"], options["max_context_mb"])
    assert ["MINE"] == options["copy_env"]
