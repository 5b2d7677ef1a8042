"""Tests what Airflow renders from the arguments of our operators, in both kinds of DAG."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any, Final

import pytest
from airflow.sdk import DAG, BaseOperator, literal

from airflow_torchx.core.plan.options import Opts
from airflow_torchx.decorators import torchx_task
from airflow_torchx.errors import ComponentError, FunctionError, InvalidAppError
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.specs import AppDef, BindMount, Resource, Role, VolumeMount, to_dict

#: What Python reads as something else than a text, or as another text, and what Jinja shortens.
TEXTS: Final = [
    *("3", "-1", "1e-3", "1.50", "0x10", "1_000", "007", "None", "True", ""),
    *("[64, 128]", "(1,)", "1,2", "{'a': 1}", "'quoted'", '"a" "b"', " 3", "3\n", "\r\n", "é", "{"),
]
PARAMS: Final[dict[str, Any]] = {
    "n": 3,
    "yes": True,
    "lr": 1e-05,
    "digits": "007",
    "sizes": [64, 128],
    "none": None,
    "states": ["RUNNING", "PENDING"],
    "args": ["--msg", "3"],
    "app": to_dict(AppDef("a", [Role("r", "i", args=["1e-3"])])),
    "options": {"env": {"A": "1e-3"}},
    "env": {"A": "1e-3"},
}

both_kinds = pytest.mark.parametrize("native", [False, True], ids=["texts", "native"])


def rendered(task: Any, native: bool, **arguments: Any) -> Any:  # noqa: ANN401 - operators
    """Return a task of a DAG after Airflow has rendered its template fields."""
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        operator: Any = task(task_id="task", **arguments)
    operator.render_template_fields({"params": PARAMS})
    return operator


def run(native: bool, **arguments: Any) -> TorchXDockerOperator:  # noqa: ANN401 - the operator's
    """Return an operator whose template fields are rendered."""
    operator: TorchXDockerOperator = rendered(TorchXDockerOperator, native, **arguments)
    return operator


@both_kinds
@pytest.mark.parametrize("as_mapping", [False, True])
def test_texts_of_an_app_stay(native: bool, as_mapping: bool) -> None:
    """Every text of an app stays the text that it was, whatever it looks like."""
    env = {f"V{number}": text for number, text in enumerate(TEXTS)}
    role = Role("1", "2", entrypoint="3", args=TEXTS, env=env, metadata={"a": ["1", "None"]})
    app = AppDef("7", [role], metadata={"b": "1"})

    assert app == run(native, app=to_dict(app) if as_mapping else app).app_def()


@both_kinds
def test_arguments_of_a_component_stay(native: bool) -> None:
    """Every argument of a component stays the text that it was, whatever it looks like."""
    app = run(native, component="utils.sh", component_args=["--image", "4", "--", *TEXTS]).app_def()

    assert "4" == app.roles[0].image
    assert TEXTS == shlex.split(app.roles[0].args[1])


@both_kinds
@pytest.mark.parametrize("args", ["3", "-- 3", "'1e-3'", "[1, 2]", "None", ""])
def test_one_string_of_arguments_stays(native: bool, args: str) -> None:
    """One string of arguments is split as a shell does, and not read as Python."""
    app = run(native, component="utils.sh", component_args=args).app_def()

    assert [one for one in shlex.split(args) if one != "--"] == shlex.split(app.roles[0].args[1])


@both_kinds
def test_other_texts_stay(native: bool) -> None:
    """An image, options and an environment keep their texts, too."""
    options = {"user": "1000", "env": {"A": "1e-3"}, "labels": {"b": "None"}}

    made = run(
        native, app=AppDef("a", [Role("r", "i")]), image="1.0", env={"C": "[]"}, options=options
    )

    assert ("1.0", {"C": "[]"}, options) == (made.image, made.env, made.options)


@both_kinds
def test_a_template_in_a_text_becomes_a_text(native: bool) -> None:
    """A template among texts becomes what it prints, whatever the type of its value."""
    written = ["{{ params.n }}", "{{ params.lr }}", "{{ params.digits }}", "{{ params.sizes }}"]
    app = AppDef(
        "a", [Role("r", "i", args=[*written, "a{{ params.none }}"], env={"S": written[3]})]
    )

    (role,) = run(native, app=app).app_def().roles
    made = run(native, component="utils.sh", component_args=["--", *written]).app_def()

    expected = ["3", "1e-05", "007", "[64, 128]"]
    assert ([*expected, "aNone"], "[64, 128]") == ([*role.args], role.env["S"])
    assert expected == shlex.split(made.roles[0].args[1])


@both_kinds
def test_numbers_of_other_tasks_are_arguments(native: bool) -> None:
    """A number that another task returns is taken as an argument of a component."""
    args = ["--num_replicas", literal(2), "--", literal(0.001), literal(1e-05), literal(True)]

    (role,) = run(native, component="utils.sh", component_args=args).app_def().roles

    assert 2 == role.num_replicas
    assert ["0.001", "1e-05", "True"] == shlex.split(role.args[1])


@both_kinds
def test_numbers_in_a_mapping(native: bool) -> None:
    """A mapping takes numbers as numbers and as texts, wherever a number or a text is meant."""
    n = "{{ params.n }}"
    role = {
        "name": "r",
        "image": "i",
        "args": ["--lr", literal(0.1)],
        "env": {"LR": literal(0.1), "N": n},
        "num_replicas": n,
        "min_replicas": literal(2.0),
        "max_retries": "1",
        "port_map": {"p": "80{{ params.n }}0"},
        "resource": {"cpu": "{{ params.n / 2 }}", "gpu": literal(0), "memMB": "{{ params.n }}00"},
        "mounts": [
            {"type": "bind", "src_path": "/a", "dst_path": "/b", "read_only": "{{ params.n > 1 }}"}
        ],
    }

    made = run(native, app={"name": "a", "roles": [role]}).app_def().roles[0]

    assert ["--lr", "0.1"] == [*made.args]
    assert {"LR": "0.1", "N": "3"} == made.env
    assert (3, 2, 1) == (made.num_replicas, made.min_replicas, made.max_retries)
    assert {"p": 8030} == made.port_map
    assert Resource(cpu=1.5, gpu=0, memMB=300) == made.resource
    assert [BindMount("/a", "/b", read_only=True)] == [*made.mounts]


@both_kinds
@pytest.mark.parametrize(
    "value",
    [
        *(literal(True), literal(1), literal("True"), literal("true"), literal("1")),
        *("{{ params.yes }}", "{{ params.yes | lower }}", "{{ params.yes | int }}", " {{ 1 }} "),
        *("yes", "{{ 'on' }}"),
    ],
)
def test_booleans(native: bool, value: object) -> None:
    """A boolean is taken as a boolean, a number or a text, in an app and in options."""
    mount = {"type": "volume", "src": "a", "dst_path": "/b", "read_only": value}
    role = {"name": "r", "image": "i", "mounts": [mount]}
    options = {"privileged": value, "init": value}

    made = run(native, app={"name": "a", "roles": [role]}, options=options)

    opts = Opts.parse(made.options)
    assert [VolumeMount("a", "/b", read_only=True)] == [*made.app_def().roles[0].mounts]
    assert (True, True) == (opts.privileged, opts.init)


@both_kinds
@pytest.mark.parametrize("value", [literal(True), "{{ params.yes }}"])
def test_booleans_are_texts(native: bool, value: object) -> None:
    """A boolean is written as a template writes it, wherever a text is meant."""
    texts = {"args": [value], "env": {"A": value}, "entrypoint": value}

    made = run(native, app={"name": "a", "roles": [{"name": "r", "image": "i", **texts}]})

    (role,) = made.app_def().roles
    assert (["True"], {"A": "True"}, "True") == ([*role.args], role.env, role.entrypoint)


@pytest.mark.parametrize("value", [2, "maybe", "", 1.0, [True], None])
def test_not_a_boolean(value: object) -> None:
    """Nothing else is taken as a boolean."""
    mount = {"type": "volume", "src": "a", "dst_path": "/b", "read_only": literal(value)}
    role = {"name": "r", "image": "i", "mounts": [mount]}

    made = run(native=False, app={"name": "a", "roles": [role]})

    with pytest.raises(InvalidAppError, match=r"read_only: expected true or false, got"):
        made.app_def()


@both_kinds
def test_numbers_in_an_app(native: bool) -> None:
    """An AppDef takes templates for its numbers, too."""
    resource = Resource(cpu="{{ params.n }}", gpu="0", memMB="{{ params.n }}00")  # type: ignore[arg-type]
    role = Role("r", "i", num_replicas="{{ params.n }}", resource=resource)  # type: ignore[arg-type]

    made = run(native, app=AppDef("a", [role])).app_def().roles[0]

    assert (3, Resource(3, 0, 300)) == (made.num_replicas, made.resource)


def test_an_app_with_outputs_of_other_tasks() -> None:
    """An AppDef takes outputs of other tasks, which then run before it."""
    with DAG("dag", schedule=None):
        pick = BaseOperator(task_id="pick")
        args: Any = ["--lr", pick.output]
        number: Any = literal(2)
        role = Role("r", "i", args=args, env={"N": number}, num_replicas=number)
        operator = TorchXDockerOperator(task_id="task", app=AppDef("a", [role]))
    upstream = operator.upstream_task_ids
    args[1] = literal(0.1)

    made = run(native=False, app=AppDef("a", [replace(role, args=args)])).app_def().roles[0]

    assert {"pick"} == upstream
    assert (2, ["--lr", "0.1"], {"N": "2"}) == (made.num_replicas, [*made.args], made.env)


@pytest.mark.parametrize(
    ("field", "template", "expected"),
    [
        ("app", "{{ params.app }}", PARAMS["app"]),
        ("app", "{'name': 'a', 'roles': []}", {"name": "a", "roles": []}),
        ("component_args", "{{ params.args }}", ["--msg", "3"]),
        ("component_args", "{{ params.n }},{{ params.n }}", "3,3"),
        ("options", "{{ params.options }}", {"env": {"A": "1e-3"}}),
        ("options", {"env": "{{ params.env }}"}, {"env": {"A": "1e-3"}}),
        ("options", {"env": "{'A': '{{ params.n }}'}"}, {"env": {"A": "3"}}),
        ("options", {"user": "{{ params.n }}"}, {"user": "3"}),
        ("env", "{{ params.env }}", {"A": "1e-3"}),
        ("env", "{'A': '{{ params.digits }}'}", {"A": "007"}),
        ("image", "{{ params.none }}", None),
        ("image", "{{ params.digits }}", "007"),
        ("image", "{% if params.n %}{{ params.none }}{% endif %}", None),
        ("workspace", "{{ params.env }}", {"A": "1e-3"}),
        ("workspace", "64", "64"),
        ("env_conn_ids", "{{ params.sizes }}", [64, 128]),
    ],
)
def test_native_templates_become_objects(field: str, template: object, expected: object) -> None:
    """In a DAG with native templates, one expression becomes its value where that can be meant."""
    other = {} if field == "app" else {"component": "utils.echo"}

    assert expected == getattr(run(native=True, **{field: template}, **other), field)


ROLE: Final[dict[str, Any]] = {"name": "r", "image": "i"}


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"component_args": "{{ params.args }}"}, "component_args"),
        ({"component_args": "['--n', '{{ params.n }}']"}, "component_args"),
        ({"env": "{{ params.env }}"}, "env"),
        ({"env_conn_ids": "{{ params.args }}"}, "env_conn_ids"),
        ({"docker_conn_ids": " {{ params.args }}"}, "docker_conn_ids"),
        ({"workspace": "{{ params.env }}"}, "workspace"),
        ({"options": "{{ params.options }}"}, "options"),
        ({"options": {"env": "{{ params.env }}"}}, "options.env"),
        ({"options": {"copy_env": "{{ params.args }}"}}, "options.copy_env"),
        ({"options": {"dns": ["{{ params.args }}"]}}, "options.dns"),
        ({"options": {"labels": "{'a': '{{ params.n }}'}"}}, "options.labels"),
        ({"options": {"log_config": {"config": "{{ params.env }}"}}}, "options.config"),
        ({"app": "{{ params.app }}"}, "app"),
        ({"app": {"name": "a", "roles": "{{ params.args }}"}}, "app.roles"),
        ({"app": {"name": "a", "roles": ["{{ params.env }}"]}}, "app.roles"),
        ({"app": {"name": "a", "roles": [{**ROLE, "args": "{{ params.args }}"}]}}, "app.args"),
        ({"app": {"name": "a", "roles": [{**ROLE, "env": "{{ params.env }}"}]}}, "app.env"),
        ({"app": {"name": "a", "roles": [{**ROLE, "mounts": ["{{ params.env }}"]}]}}, "app.mounts"),
        ({"app": {"name": "a", "roles": [{**ROLE, "resource": "{{ params.env }}"}]}}, "app.resour"),
        ({"app": {"name": "a", "metadata": "{{ params.env }}"}}, "app.metadata"),
    ],
)
def test_an_object_without_native_templates(arguments: dict[str, Any], where: str) -> None:
    """A list or a mapping that became a text is an error that names the DAG's argument."""
    component = {} if "app" in arguments else {"component": "utils.echo"}

    with pytest.raises(InvalidAppError) as caught:
        run(native=False, **component, **arguments)

    (problem,) = caught.value.problems
    assert problem.where.startswith(where)
    assert "set render_template_as_native_obj=True of the DAG" in problem.fix
    assert "1e-3" not in str(caught.value)


def test_an_object_that_native_templates_print_as_a_text() -> None:
    """A template that is more than one expression prints a text in any DAG, which is an error."""
    with pytest.raises(InvalidAppError, match=r"component_args: .* write one expression"):
        run(native=True, component="utils.echo", component_args="{{ params.args | tojson }}")


def test_states_without_native_templates() -> None:
    """The states of a sensor are a list, too."""
    with pytest.raises(InvalidAppError, match=r"target_states: .*render_template_as_native_obj"):
        rendered(TorchXDockerSensor, False, app_id="a", target_states="{{ params.states }}")


@both_kinds
def test_texts_that_look_like_objects(native: bool) -> None:
    """A text may look like a list or a mapping wherever a text is meant."""
    sizes = "{{ params.sizes }}"
    role = {**ROLE, "args": [sizes], "env": {"options": sizes}, "metadata": {"args": f"{sizes} "}}
    options = {
        "labels": {"env": sizes},
        "copy_env": "[{{ params.n }}-9]*",
        "trackers": {"t": sizes},
    }

    made = run(native, app={"name": "a", "roles": [role]}, options=options, env={"A": sizes})

    (found,) = made.app_def().roles
    shown = "[64, 128]"
    assert [shown] == [*found.args]
    assert {"options": shown, "A": shown} == found.env
    assert f"{shown} " == found.metadata["args"]
    copied = {"labels": {"env": shown}, "copy_env": "[3-9]*", "trackers": {"t": shown}}
    assert copied == made.options


def test_a_finalizer_of_the_dag_is_kept() -> None:
    """A DAG's own `finalize` for Jinja is applied."""
    kwargs = {"finalize": lambda value: "-" if value is None else value}
    with DAG(
        "dag", schedule=None, render_template_as_native_obj=True, jinja_environment_kwargs=kwargs
    ):
        operator = TorchXDockerOperator(
            task_id="task", component="utils.echo", component_args=["--msg", "{{ params.none }}"]
        )

    operator.render_template_fields({"params": PARAMS})

    assert ["--msg", "-"] == operator.component_args


def test_values_of_other_tasks_are_not_templates() -> None:
    """A value that Airflow got from another task is not rendered."""
    args = ["--msg", "{{ params.n }}"]
    operator = TorchXDockerOperator(task_id="task", component="utils.echo", component_args=args)

    assert args == operator.render_template(args, {}, None, {id(args)})


@both_kinds
def test_a_secret_stays(native: bool) -> None:
    """A secret variable is rendered to a text, and a text without a template stays as it is."""
    secrets = {"A": "1e5", "B": "[1, 2]", "C": "key\n", "D": "{{ params.sizes }}", "E": "007"}
    operator = run(native, component="utils.echo", private_env=secrets)

    assert {**secrets, "D": "[64, 128]"} == operator._secrets(  # noqa: SLF001
        {"params": PARAMS}
    )


@pytest.mark.parametrize("args", [None, {"msg": "a"}, [None], [["a"]], [{"a": 1}]])
def test_arguments_of_another_type(args: object) -> None:
    """An argument that is neither a string nor a number is named."""
    made = run(native=False, component="utils.echo", component_args=literal(args))

    with pytest.raises(
        ComponentError, match=r"^component_args(\[0\])?: expected a string or a num"
    ):
        made.app_def()


@both_kinds
def test_numbers_of_a_function(native: bool) -> None:
    """The decorator's own arguments take templated numbers; Airflow renders the function's."""

    def train(epochs: object, sizes: object) -> None:
        """Do nothing."""

    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        decorated: Any = torchx_task(
            train, image="i", num_replicas="{{ params.n }}", memMB="300", cpu="{{ params.n / 2 }}"
        )
        made = decorated("3", sizes="{{ params.sizes }}").operator
    made.render_template_fields({"params": PARAMS})

    (role,) = made.app_def().roles
    assert (3, Resource(1.5, 0, 300)) == (role.num_replicas, role.resource)
    function = ([3], {"sizes": [64, 128]}) if native else (["3"], {"sizes": "[64, 128]"})
    assert function == ([*made.op_args], made.op_kwargs)


@pytest.mark.parametrize("value", ["2.5", 1.5, None, "", "nan"])
def test_replicas_are_whole(value: object) -> None:
    """A number of replicas that is not a whole number is refused, and not rounded."""

    def train() -> None:
        """Do nothing."""

    with DAG("dag", schedule=None):
        decorated: Any = torchx_task(train, image="i", num_replicas=value)
        made = decorated().operator

    with pytest.raises(FunctionError, match=r"^num_replicas=.* is not a (whole )?number"):
        made.app_def()


@both_kinds
def test_a_sensor_keeps_its_texts(native: bool) -> None:
    """A sensor takes an app id and a role as texts, and states as a list."""
    states = "{{ params.states }}" if native else "{{ params.states | join(',') }}"

    made = rendered(
        TorchXDockerSensor, native, app_id="123", role="{{ params.digits }}", target_states=states
    )

    expected = ["RUNNING", "PENDING"] if native else "RUNNING,PENDING"
    assert ("123", "007", expected) == (made.app_id, made.role, made.target_states)
