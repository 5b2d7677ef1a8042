"""TorchX's scheduler on the fake engine."""

from __future__ import annotations

import copy
import inspect
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import (
    ConditionError,
    EngineUnreachableError,
    InvalidAppError,
    InvalidOptionsError,
    LaunchError,
    Problem,
)
from airflow_torchx.schedulers import docker_scheduler as module
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler, create_scheduler
from airflow_torchx.specs import AppDef, AppState, Resource, Role, Workspace
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app

if TYPE_CHECKING:
    from pathlib import Path

GPUS = ("0", "1", "2")


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with the image of the tests."""
    return FakeEngine(images=["busybox"], programs=Program(lines=["hello"]))


@pytest.fixture
def scheduler(engine: FakeEngine) -> DockerScheduler:
    """Return a scheduler on it."""
    return create_scheduler("mine", engine=engine, unknown_setting="ignored")


def test_an_app_goes_through_its_life(scheduler: DockerScheduler) -> None:
    """TorchX's verbs work in the order in which its users call them."""
    app_id = scheduler.submit(app(2), {"stop_grace_s": 1})

    ended = scheduler.wait(app_id, timeout_s=60)

    assert app_id.startswith("app-")
    assert ended == scheduler.describe(app_id)
    assert ended.state is AppState.SUCCEEDED
    assert ["hello\n"] == list(scheduler.log_iter(app_id, "trainer", 1, should_tail=True))
    assert [app_id] == [row.app_id for row in scheduler.list()]
    assert scheduler.exists(app_id)
    scheduler.cancel(app_id)
    scheduler.delete(app_id)
    assert not scheduler.exists(app_id)


def test_a_second_schedule_does_not_undo_the_first(
    scheduler: DockerScheduler, engine: FakeEngine
) -> None:
    """A failed second schedule of one dry run leaves the containers of the first."""
    info = scheduler.prepare(app(2))
    scheduler.schedule(info)
    engine.fail_next("create", EngineUnreachableError("connection reset"))

    with pytest.raises(LaunchError):
        scheduler.schedule(info)

    assert 2 == len(engine.rows({}))


def test_an_image_removed_after_the_dry_run_is_pulled_again() -> None:
    """An image that was removed between dry run and launch is pulled."""
    engine = FakeEngine(images=["busybox"], pullable=["busybox"])
    scheduler = DockerScheduler("mine", engine)
    info = scheduler.prepare(app(2))
    engine.images.untag("busybox")

    scheduler.schedule(info)

    assert 2 == len(engine.rows({}))


def test_handles_name_scheduler_session_and_app(
    scheduler: DockerScheduler, engine: FakeEngine
) -> None:
    """A handle names scheduler, session and app, and is on the containers."""
    app_id = scheduler.submit(app(1))

    (spec,) = engine.specs().values()

    handle = f"local_docker://mine/{app_id}"
    assert handle == spec.env["TORCHX_JOB_ID"] == spec.labels[labels.HANDLE]


def test_a_dry_run_changes_nothing(scheduler: DockerScheduler, engine: FakeEngine) -> None:
    """A dry run only looks, and leaves the caller's app as it is; printed, it is YAML."""
    given = app(2)
    before = copy.deepcopy(given)

    info = scheduler.submit_dryrun(given, Opts(stop_grace_s=3))

    assert ["info", "image_inspect"] == engine.calls
    assert before == given
    assert f"app_id: {info.request.app_id}" in str(info)
    assert repr(info) == str(info)


def test_a_launch_asks_the_daemon_for_each_thing_once(
    scheduler: DockerScheduler, engine: FakeEngine
) -> None:
    """A launch asks once for the daemon, each image, the network and the containers."""
    module.ensure_network(engine)
    engine.calls.clear()
    roles = [app(2).roles[0], Role("reader", "busybox", entrypoint="run")]

    scheduler.submit(AppDef("app", roles))

    looks = [verb for verb in engine.calls if verb not in {"create", "start"}]
    assert ["info", "image_inspect", "networks", "rows"] == looks


@pytest.mark.parametrize("is_built", [False, True])
def test_a_launch_with_a_workspace_asks_for_each_thing_once(
    scheduler: DockerScheduler, engine: FakeEngine, tmp_path: Path, *, is_built: bool
) -> None:
    """A workspace costs one look at its image, however many roles share it.

    Only the process that builds the image looks again, under the lock of the build.
    """
    (tmp_path / "train.py").write_text("1")
    roles = [app(2).roles[0], Role("reader", "busybox", entrypoint="run")]
    if is_built:
        scheduler.submit(AppDef("app", roles), workspace=str(tmp_path))
        engine.calls.clear()
    module.ensure_network(engine)
    asked: list[str] = []
    engine.before = lambda verb, name: asked.append(f"{verb} {name}".strip())

    scheduler.submit(AppDef("app", roles), workspace=str(tmp_path))

    (image,) = {spec.image for spec in engine.specs().values()}
    own = f"image_inspect {image}"
    verbs = {"info", "image_inspect", "rows"}
    looks = [one for one in asked if one.split()[0] in verbs and one != own]
    assert ["info", "image_inspect busybox", "rows"] == looks
    # Besides, a build looks twice: under its lock, and before it gives the name.
    assert (1 if is_built else 3) == asked.count(own)


def test_scheduling_asks_the_daemon_that_did_not_answer_a_dry_run(
    scheduler: DockerScheduler, engine: FakeEngine
) -> None:
    """What the daemon cannot do is found before anything is created."""
    engine.down = True
    info = scheduler.submit_dryrun(app(1))
    greedy = scheduler.submit_dryrun(app(1, resource=Resource(cpu=65, gpu=0, memMB=64)))
    engine.down = False

    assert info.request.app_id == scheduler.schedule(info)
    with pytest.raises(InvalidAppError, match="65 CPUs are more than"):
        scheduler.schedule(greedy)
    assert 1 == len(engine.specs())


def test_what_a_dry_run_decided_can_be_scheduled(scheduler: DockerScheduler) -> None:
    """A dry run can be scheduled under its app id."""
    info = scheduler.submit_dryrun(app(1), {})

    assert info.request.app_id == scheduler.schedule(info)


def test_proxies_reach_every_replica(engine: FakeEngine) -> None:
    """Replicas get the proxies of the docker configuration; the plan hides their passwords."""
    engine.proxy_env = {"HTTP_PROXY": "http://me:hidden-word@proxy", "no_proxy": "own.example"}
    scheduler = DockerScheduler("mine", engine)

    info = scheduler.prepare(app(2, env={"no_proxy": "mine.example"}))
    scheduler.schedule(info)

    expected = {"HTTP_PROXY": "http://me:hidden-word@proxy", "no_proxy": "mine.example"}
    assert [True, True] == [
        expected.items() <= spec.env.items() for spec in engine.specs().values()
    ]
    assert "HTTP_PROXY: http://***@proxy" in repr(info)
    assert "hidden-word" not in repr(info) + repr(info.context)


def test_replicas_get_gpus_of_their_own(engine: FakeEngine) -> None:
    """No GPU is given to two replicas of an app; a plan has only their number."""
    engine.engine_info = replace(engine.engine_info, gpu_ids=GPUS)
    scheduler = DockerScheduler("mine", engine)

    info = scheduler.submit_dryrun(app(3, resource=Resource(cpu=1, gpu=1, memMB=64)), {})
    app_id = scheduler.schedule(info)

    assert [GpuRequest(count=1)] * 3 == [spec.gpus for spec in info.request.containers]
    assert {("0",), ("1",), ("2",)} == {
        spec.gpus.device_ids for spec in engine.specs().values() if spec.gpus
    }
    described = scheduler.describe(app_id)
    assert described is not None
    assert [("0",), ("1",), ("2",)] == [
        replica.gpus for role in described.roles_statuses for replica in role.replicas
    ]


def test_gpus_can_be_chosen(engine: FakeEngine) -> None:
    """A scheduler uses the GPUs that it was given, and none that the daemon does not have."""
    engine.engine_info = replace(engine.engine_info, gpu_ids=GPUS)
    wanted = app(1, resource=Resource(cpu=1, gpu=1, memMB=64))

    DockerScheduler("mine", engine, gpu_ids=["2", "1"]).submit(wanted)

    assert [("2",)] == [spec.gpus.device_ids for spec in engine.specs().values() if spec.gpus]
    with pytest.raises(InvalidAppError, match="gpu_ids: fake://engine has no GPU 7"):
        DockerScheduler("mine", engine, gpu_ids=["0", "7"]).submit(wanted)


def test_more_gpus_than_there_are_is_told(engine: FakeEngine) -> None:
    """Asking for more GPUs than the host has is an error before anything is created."""
    engine.engine_info = replace(engine.engine_info, gpu_ids=GPUS)
    greedy = app(2, resource=Resource(cpu=1, gpu=2, memMB=64))

    with pytest.raises(InvalidAppError, match="request 4 GPUs, but fake://engine has 3"):
        DockerScheduler("mine", engine).submit(greedy)

    assert {} == engine.specs()


def test_a_workspace_becomes_the_image_of_every_role_without_one(
    engine: FakeEngine, tmp_path: Path
) -> None:
    """A workspace applies to every role without its own, as the plan showed."""
    own, given = tmp_path / "own", tmp_path / "given"
    for folder in (own, given):
        folder.mkdir()
        folder.joinpath("train.py").write_text(folder.name)
    roles = [
        Role("first", "busybox", entrypoint="run"),
        Role("second", "busybox", entrypoint="run", workspace=Workspace({str(own): ""})),
    ]
    scheduler = DockerScheduler("mine", engine)

    scheduler.submit(AppDef("app", roles), {}, str(given))

    images = {spec.role: spec.image for spec in engine.specs().values()}
    for role, folder in (("first", given), ("second", own)):
        held = engine.images.prepare(images[role], role, {})
        assert folder.name.encode() == engine.read_file(held, "/workspace/train.py", 99)


def test_a_dry_run_foresees_the_image_and_builds_nothing(
    engine: FakeEngine, tmp_path: Path
) -> None:
    """A dry run names the image and says whether it must be built."""
    tmp_path.joinpath("a/b").mkdir(parents=True)
    tmp_path.joinpath("a/b/train.py").write_text("12")
    scheduler = DockerScheduler("mine", engine)
    wanted = app(1, workspace=Workspace({str(tmp_path): ""}))

    before = scheduler.submit_dryrun(wanted)
    assert () == engine.images.rows({labels.WORKSPACE_ID: None})
    scheduler.schedule(before)
    after = scheduler.submit_dryrun(wanted)

    assert "to be built on busybox (1 file, 2 bytes)" in str(before)
    assert "up to date" in str(after)
    (launched,) = engine.specs().values()
    assert before.request.images == after.request.images == (launched.image,)
    assert launched.image == launched.env["TORCHX_IMAGE"]


def test_a_dry_run_without_the_base_says_that_the_image_is_not_known(
    engine: FakeEngine, tmp_path: Path
) -> None:
    """Without the base image or a daemon a dry run says that the image is unknown."""
    tmp_path.joinpath("train.py").write_text("1")
    scheduler = DockerScheduler("mine", engine)
    role = Role("a", "pullable", entrypoint="run", workspace=Workspace({str(tmp_path): ""}))
    wanted = AppDef("app", [role])

    unpulled = str(scheduler.submit_dryrun(wanted))
    engine.down = True
    unreachable = str(scheduler.submit_dryrun(wanted))

    assert "not known until pullable is pulled" in unpulled
    assert "unknown workspace image: no daemon answers" in unreachable


def test_the_mistakes_of_app_and_daemon_come_in_one_error(scheduler: DockerScheduler) -> None:
    """Problems of app and daemon are in one error."""
    wrong = app(0, resource=Resource(cpu=65, gpu=0, memMB=3))

    with pytest.raises(InvalidAppError) as caught:
        scheduler.submit(wrong)

    assert [
        "roles[0].num_replicas",
        "roles[0].resource.memMB",
        "roles[0].resource.cpu",
    ] == [problem.where for problem in caught.value.problems]


@pytest.mark.parametrize("pattern", ["key hunter.22 refused", r"key hunter\.22", "aHVudGVyLjIy"])
@pytest.mark.parametrize("variable", ["API_TOKEN", "PLAIN"])
def test_a_failure_rule_with_a_secret(
    scheduler: DockerScheduler, engine: FakeEngine, pattern: str, variable: str
) -> None:
    """Rules are kept in a label, so one with a secret is refused, by an error without it."""
    own = app(env={variable: "hunter.22"}) if variable == "API_TOKEN" else app()
    context = scheduler.new_context("a-1", private_env={"PLAIN": "hunter.22"})
    rules = ["one:fail:NaN", f"two:fail:{pattern}"]

    with pytest.raises(InvalidOptionsError) as caught:
        scheduler.prepare(own, {"failure_rules": rules}, None if own.roles[0].env else context)

    assert ["options.failure_rules[1]"] == [one.where for one in caught.value.problems]
    assert pattern not in str(caught.value)
    assert () == engine.rows({})


def test_a_handle_does_where_an_app_id_does(scheduler: DockerScheduler) -> None:
    """Every verb accepts a handle in place of an app id."""
    app_id = scheduler.submit(app(1))
    handle = f"local_docker://mine/{app_id}"

    ended = scheduler.wait(handle, timeout_s=60)

    assert app_id == ended.app_id
    assert ended == scheduler.describe(handle)
    assert ["hello\n"] == list(scheduler.log_iter(handle, "trainer"))
    scheduler.cancel(handle)
    scheduler.delete(handle)
    assert not scheduler.exists(handle)


@pytest.mark.parametrize(
    "handle", ["kubernetes://x/{}", "slurm:///{}", "x/ y://{}", "local_docker://{}", "", None, 3]
)
def test_other_handles_are_refused(scheduler: DockerScheduler, handle: Any) -> None:  # noqa: ANN401
    """A handle of another scheduler, and what is not a handle, is refused by every verb."""
    app_id = scheduler.submit(app(1))
    name = handle.format(app_id) if isinstance(handle, str) else handle
    verbs = (scheduler.describe, scheduler.exists, scheduler.wait, scheduler.cancel)

    for verb in (*verbs, scheduler.delete, lambda app: scheduler.log_iter(app, "trainer")):
        with pytest.raises(ConditionError, match="handle"):
            verb(name)
    assert scheduler.exists(app_id)


@pytest.mark.parametrize("name", ["gone-x1", "local_docker://mine/gone-x1"])
def test_cancel_and_delete_of_a_gone_app_do_nothing(scheduler: DockerScheduler, name: str) -> None:
    """An app that is gone is neither cancelled nor deleted, without an error, as in TorchX."""
    scheduler.cancel(name)
    scheduler.delete(name)

    assert [] == scheduler.list()


def test_cancel_and_delete_report_other_errors(
    scheduler: DockerScheduler, engine: FakeEngine
) -> None:
    """A daemon that does not answer is an error, because its apps are not known to be gone."""
    for verb in (scheduler.cancel, scheduler.delete):
        engine.fail_next("rows", EngineUnreachableError("connection reset"))
        with pytest.raises(EngineUnreachableError):
            verb("gone-x1")


def test_run_opts(scheduler: DockerScheduler) -> None:
    """The run options are listed with type, default and meaning, as TorchX lists its own."""
    opts = scheduler.run_opts()
    env, quiet, policy = (opts.get(name) for name in ("env", "quiet", "pullPolicy"))
    assert env
    assert quiet
    assert policy

    assert [option.name for option in fields(Opts)] == [name for name, _ in opts]
    assert len(fields(Opts)) == len(opts)
    assert ({}, dict[str, str], False) == (env.default, env.opt_type, env.is_required)
    assert (False, bool) == (quiet.default, quiet.opt_type)
    assert ("missing", str) == (policy.default, policy.opt_type)
    assert list[str] == dict(opts)["copy_env"].opt_type
    assert "environment variables of every replica" in env.help
    assert opts.get("nothing") is None
    assert "\nquiet=true|false\n    print one line" in str(opts)


def test_resolved_run_opts(scheduler: DockerScheduler) -> None:
    """Options are resolved to all values, and parsed from TorchX's text."""
    opts = scheduler.run_opts()

    assert dict(Opts(env={"A": "1"})) == opts.resolve({"env": {"A": "1"}})
    text = "env=A:1;B:2,privileged=True,copyEnv=X*;Y"
    parsed = {"env": {"A": "1", "B": "2"}, "privileged": True, "copy_env": ["X*", "Y"]}
    assert parsed == opts.cfg_from_str(text)
    assert {} == opts.cfg_from_str("")
    for wrong in ("env", "env=A", "nothing=1", "privileged=maybe"):
        with pytest.raises(InvalidOptionsError):
            opts.cfg_from_str(wrong)
    with pytest.raises(InvalidOptionsError):
        opts.resolve({"nothing": 1})


def test_run_opts_from_json(scheduler: DockerScheduler) -> None:
    """Options are read from JSON, without defaults; unknown ones are errors, or are ignored."""
    opts = scheduler.run_opts()
    text = '{"env": {"A": 1}, "copyEnv": ["X*"], "image_repo": null}'
    parsed = {"env": {"A": "1"}, "copy_env": ["X*"], "image_repo": None}

    assert parsed == opts.cfg_from_json_repr(text)
    unknown = text.replace("{", '{"nothing": 1, ', 1)
    assert parsed == opts.cfg_from_json_repr(unknown, ignore_unknown=True)
    assert {"nothing": 1, **Opts()} == opts.resolve({"nothing": 1}, ignore_unknown=True)
    for wrong in ("", "[]", "1", unknown, '{"env": 1}', '{"copy_env": [1], "copyEnv": [2]}'):
        with pytest.raises(InvalidOptionsError):
            opts.cfg_from_json_repr(wrong)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not JSON"),
        ("null", "not a JSON object"),
        ('{"env": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"env": ' + "[" * 900 + "]" * 900 + "}", "nested too deeply"),
    ],
    ids=["open", "null", "very deep", "deep"],
)
def test_bad_json_of_run_opts(scheduler: DockerScheduler, text: str, what: str) -> None:
    """An error of a text that has no options says what it is, and the form."""
    with pytest.raises(InvalidOptionsError) as caught:
        scheduler.run_opts().cfg_from_json_repr(text)

    fix = 'write {"NAME": VALUE, "NAME2": VALUE2}'
    assert (Problem("options", what, fix),) == caught.value.problems


def test_a_part_of_the_run_opts_resolves_only_its_own(scheduler: DockerScheduler) -> None:
    """An option that is not in a list of options is unknown to it, whatever else is wrong."""
    some = scheduler.workspace_opts()

    with pytest.raises(InvalidOptionsError) as caught:
        some.resolve({"network": "n", "imageRepo": "a:b", "nothing": 1})

    found = {problem.where: problem.what for problem in caught.value.problems}
    assert "unknown option" == found["options.network"] == found["options.nothing"]
    assert {"options.network", "options.nothing", "options.image_repo"} == found.keys()
    assert "n" == some.resolve({"network": "n"}, ignore_unknown=True)["network"]


def test_lists_of_run_opts_are_merged(scheduler: DockerScheduler) -> None:
    """A list of options is updated with another, or both are merged to a new one."""
    both, own = scheduler.workspace_opts(), scheduler.workspace_opts()
    merged = own | scheduler.run_opts()
    both.update(scheduler.run_opts())

    assert {name for name, _ in scheduler.run_opts()} == {*dict(both)} == {*dict(merged)}
    assert len(scheduler.workspace_opts()) == len(own)
    assert ("env", None) == (both.canonical_key("env"), own.canonical_key("env"))
    assert "copy_env" == both.canonical_key("copyEnv")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        *((1, int, True), ("1", int, False), ("", str, True), (None, str, False)),
        *((["a"], list[str], True), ([1], list[str], False), ("a", list[str], False)),
        *(({"a": "b"}, dict[str, str], True), ({"a": 1}, dict[str, str], False)),
        *(([], dict[str, str], False), (Opts().env, dict[str, str], True)),
        *((Opts().copy_env, list[str], True), ({}, list, False)),
    ],
)
def test_is_type(scheduler: DockerScheduler, value: object, kind: object, expected: bool) -> None:
    """A value has a type as in `isinstance`; lists and dicts hold texts."""
    assert expected == scheduler.run_opts().is_type(value, kind)


def test_workspace_opts(scheduler: DockerScheduler) -> None:
    """The options of workspace images are TorchX's two, and ours."""
    opts = scheduler.workspace_opts()

    assert {"image_repo", "quiet"} < {name for name, _ in opts}
    assert opts.get("privileged") is None
    assert "h/x" == opts.resolve({"imageRepo": "h/x"})["image_repo"]


def test_members_of_torchx(scheduler: DockerScheduler) -> None:
    """The scheduler has TorchX's backend and label, and reads nothing native back."""
    app_id = scheduler.submit(app(1))

    assert "docker" == scheduler.backend
    assert labels.VERSION == scheduler.LABEL_VERSION
    assert scheduler.describe_native(app_id) is None


def test_images_to_push_are_a_dict(scheduler: DockerScheduler) -> None:
    """The images to push equal TorchX's dict, with an app or without one."""
    built = AppDef("app", [Role("a", "sha256:abc"), Role("b", "public")])
    expected = {"sha256:abc": ("h/x", "abc")}

    images = scheduler.dryrun_push_images(built, {"image_repo": "h/x"})

    assert images == expected
    assert expected == images
    assert images != {}
    assert scheduler.dryrun_push_images(AppDef("app", []), {}) == {}
    assert ["h/x:abc", "public"] == [role.image for role in images.app.roles]


def test_a_scheduler_is_a_context_manager(engine: FakeEngine) -> None:
    """Leaving the context closes the connection and stops no app."""
    engine.programs = Program(runs_for_s=None)
    with DockerScheduler("mine", engine) as scheduler:
        app_id = scheduler.submit(app(1))

    assert engine.closed
    found = scheduler.describe(app_id)
    assert found is not None
    assert found.state is AppState.RUNNING


def test_closing_a_scheduler_that_never_connected_does_nothing() -> None:
    """Closing an unused scheduler needs no daemon."""
    DockerScheduler("mine").close()


def test_the_network_is_ensured_on_a_given_engine(engine: FakeEngine) -> None:
    """TorchX's function accepts a client."""
    module.ensure_network(engine)

    assert 1 == len(engine.networks(module.NETWORK))


def test_log_iter_has_torchx_arguments_in_torchx_order() -> None:
    """Positional calls written for TorchX work."""
    names = list(inspect.signature(DockerScheduler.log_iter).parameters)

    wanted = [
        "self",
        "app_id",
        "role_name",
        "k",
        "regex",
        "since",
        "until",
        "should_tail",
        "streams",
    ]
    assert wanted == names


def test_a_log_can_be_cut_in_time(scheduler: DockerScheduler) -> None:
    """A log accepts a time span."""
    app_id = scheduler.submit(app(1))

    assert [] == list(scheduler.log_iter(app_id, "trainer", until=datetime(1999, 1, 1)))  # noqa: DTZ001 - naive is local, as in TorchX


def test_defaults_of_the_daemon(engine: FakeEngine, tmp_path: Path) -> None:
    """The connection's options are the defaults of every verb that takes options."""
    (tmp_path / "train.sh").write_text("true")
    defaults = {"network": "lan", "env": {"A": "1", "B": "1"}, "image_repo": "h:1/team"}
    scheduler = DockerScheduler("mine", engine, defaults=defaults)
    own = {"env": {"B": "2"}}

    dry = scheduler.submit_dryrun(app(1), own)
    scheduler.submit(app(1), own)
    with_code = replace(app(1).roles[0], workspace=Workspace({str(tmp_path): ""}))
    (built,) = scheduler.build_workspaces([with_code], {"keep_images": 1})
    push = scheduler.dryrun_push_images(AppDef("app", [built]), own)
    (pushed,) = scheduler.build(AppDef("app", [with_code]), own).roles

    (submitted,) = [spec for spec in engine.specs().values() if spec.role == "trainer"]
    for spec in (dry.request.containers[0], submitted):
        assert ("1", "2", "lan") == (spec.env["A"], spec.env["B"], spec.network)
    assert ["h:1/team"] == [repo for repo, _ in push.values()]
    assert pushed.image.startswith("h:1/team:")
