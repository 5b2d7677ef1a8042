"""Renders the templates of an operator; its texts stay texts."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Collection, Container
from contextlib import suppress
from dataclasses import fields
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from airflow.sdk import BaseOperator

from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.task.tracebacks import without_traceback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context
    from jinja2 import Environment

#: Arguments: the value, its name, and whether it is one of the texts of a list or a mapping.
_Render: TypeAlias = Callable[[Any, str, bool], Any]

#: The arguments of a function, which Airflow renders: their types are the function's own.
_FUNCTION: Final = frozenset({"op_args", "op_kwargs"})
#: Lists and mappings of texts, besides those of the run options.
_TEXTS: Final = frozenset({"args", "component_args", "config", "projects"})
#: Mappings of any values, whose keys are the user's.
_FREE: Final = frozenset({"metadata", "capabilities", "tags", "*"})
#: Mappings, which a template may also write as one Python literal.
_MAPPINGS: Final = frozenset({"app", "env", "options"})
#: Types of the objects that a template may become; all others are written as texts.
_OBJECTS: Final = (type(None), Collection)


class TemplatesMixin(BaseOperator):
    """Renders template fields, and changes no text that is not a template.

    With ``render_template_as_native_obj=True``, Airflow evaluates every rendered text as a Python
    literal: the argument ``"3"`` becomes a number, and ``""`` becomes None. Here, a template
    becomes an object only if it prints one value, like ``"{{ params.n }}"``, and is not one of the
    texts of a list or a mapping.

    A template whose text is that of a list or a mapping, where one is meant, is an error.
    """

    _field = ""
    _misread: tuple[Problem, ...] = ()

    @without_traceback
    def _do_render_template_fields(
        self,
        parent: Any,  # noqa: ANN401 - any object
        template_fields: Iterable[str],
        *args: Any,  # noqa: ANN401 - Airflow's own
        **kwargs: Any,  # noqa: ANN401 - Airflow's own
    ) -> None:
        self._misread = ()
        for self._field in template_fields:
            super()._do_render_template_fields(parent, (self._field,), *args, **kwargs)
        if self._misread:
            raise InvalidAppError(self._misread, subject=f"task {self.task_id!r}")

    def render_template(
        self,
        content: Any,  # noqa: ANN401 - any value
        context: Context,
        jinja_env: Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:  # noqa: ANN401 - any value
        """Render a template field; an `AppDef` becomes a mapping whose strings are rendered."""
        if self._field in _FUNCTION:
            return super().render_template(content, context, jinja_env, seen_oids)
        from airflow_torchx.specs.accept import as_template

        env = jinja_env or self.get_template_env()
        render = partial(self._render_leaf, context, env)
        # Airflow lists here what it has got from other tasks, which is not a template.
        return _nested(as_template(content), self._field, render, seen_oids or ())

    def render_text(self, content: object, context: Context) -> Any:  # noqa: ANN401 - any value
        """Render a template to a text, also in a DAG that renders templates to objects."""
        return self._render_leaf(context, self.get_template_env(), content, "", True)

    def _render_leaf(
        self,
        context: Context,
        env: Environment,
        value: Any,  # noqa: ANN401 - any value
        name: str,
        is_text: bool,
    ) -> Any:  # noqa: ANN401 - any value
        from jinja2.nativetypes import NativeEnvironment

        is_native = isinstance(env, NativeEnvironment)
        is_literal = is_native and name in _MAPPINGS and not is_text
        if not isinstance(value, str) or is_literal or value.endswith(tuple(self.template_ext)):
            return super().render_template(value, context, env)
        if all(kind == "data" for _, kind, _ in env.lex(value)):
            # Jinja would remove a line end after it.
            return value
        if is_native:
            found, printed = self._print(value, context)
            is_one = len(printed) == 1 and found == str(printed[0])
            if is_one and isinstance(printed[0], _OBJECTS) and not is_text:
                found = printed[0]
        else:
            found = super().render_template(value, context, env)
        if not is_text and name in _plural() and _is_object(found):
            where = name if name == self._field else f"{self._field}.{name}"
            # The text may have a secret.
            what = "its template prints a list or a dict as a text"
            self._misread += (Problem(where, what, _FIX),)
        return found

    def _print(self, template: str, context: Context) -> tuple[Any, list[object]]:
        """Return the text of a template, and the values that it printed."""
        printed: list[object] = []

        def remember(value: object) -> object:
            printed.append(value)
            return value

        native, self.render_template_as_native_obj = self.render_template_as_native_obj, False
        try:
            env = self.get_template_env()
            env = env if env.finalize else env.overlay(finalize=remember)
            return super().render_template(template, context, env), printed
        finally:
            self.render_template_as_native_obj = native


_FIX: Final = (
    "set render_template_as_native_obj=True of the DAG and write one expression, like "
    "'{{ ti.xcom_pull(…) }}', or give the output of the task without a template, like pick()"
)


@cache
def _texts() -> frozenset[str]:
    """Return the names of all fields, options and arguments whose items are texts."""
    from airflow_torchx.core.plan.options import TEXT_MAPPINGS

    return _TEXTS | TEXT_MAPPINGS


@cache
def _plural() -> frozenset[str]:
    """Return the names of all fields, options and arguments that are lists or mappings."""
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef, Resource, Role, Workspace

    kinds = (AppDef, Role, Resource, Workspace, Opts)
    described = [one for kind in kinds for one in fields(kind)]
    names = {one.name for one in described if str(one.type).startswith(("Sequence", "Mapping"))}
    return _PLURAL | names


_PLURAL: Final = frozenset(
    {"app", "component_args", "config", "docker_conn_ids", "env_conn_ids", "failed_states"}
    | {"options", "resource", "target_states", "workspace"}
)


def _is_object(text: object) -> bool:
    """Return whether a text is that of a list, a tuple, a set or a dict, in Python or in JSON."""
    if not isinstance(text, str) or not text.strip().startswith(("[", "{", "(")):
        return False
    for read in (ast.literal_eval, json.loads):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            read(text.strip())
            return True
    return False


def _nested(
    value: Any,  # noqa: ANN401 - any value
    name: str,
    render: _Render,
    rendered: Container[int],
    is_text: bool = False,
) -> Any:  # noqa: ANN401 - any value
    """Render a value and all values in it, except those with an id in ``rendered``.

    ``name`` is the field or the key of the value.
    """
    if id(value) in rendered:
        return value
    are_texts = is_text or name in _texts()
    if isinstance(value, dict):
        names = {key: "*" if name in _FREE else key for key in value}
        return {k: _nested(v, names[k], render, rendered, are_texts) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(item, name, render, rendered, are_texts) for item in value]
    return render(value, name, is_text)
