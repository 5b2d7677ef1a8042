"""Tests of the parsers of operator arguments."""

from __future__ import annotations

import pytest
from airflow.sdk import literal

from airflow_torchx.core.task.arguments import check_result_path, with_own_options
from airflow_torchx.errors import UsageError


@pytest.mark.parametrize(
    "path",
    [
        *(5, True, b"/x", ["/a"], {"/a": 1}, 0, (), object()),
        *(
            "",
            "r.json",
            "~/r.json",
            "./r",
            " /r",
            "/a\0b",
            "/a\udc80",
            "/",
            "/data/",
            "/a/.",
            "/..",
        ),
    ],
)
@pytest.mark.parametrize("is_rendered", [False, True])
def test_a_result_path_that_no_file_has(path: object, is_rendered: bool) -> None:
    """A value that cannot be the path of a file in a container is refused."""
    with pytest.raises(UsageError, match=r"^result_path=.*: give the absolute path of a file$"):
        check_result_path(path, is_rendered=is_rendered)


@pytest.mark.parametrize("path", [None, "/r", "/a b/é", "//r", "/a/../b", "/r-${app_id}", "/\n"])
@pytest.mark.parametrize("is_rendered", [False, True])
def test_a_result_path(path: object, is_rendered: bool) -> None:
    """Any other absolute path is accepted, with macros, too."""
    check_result_path(path, is_rendered=is_rendered)


@pytest.mark.parametrize("path", ["{{ 'r' }}", "{% if a %}/r{% endif %}", literal("r")])
def test_a_result_path_that_is_a_template(path: object) -> None:
    """A template, or the output of another task, is accepted only before it is rendered."""
    check_result_path(path, is_rendered=False)

    with pytest.raises(ValueError, match="give the absolute path of a file"):
        check_result_path(path)


def test_options_that_are_arguments_of_their_own() -> None:
    """An argument wins over the run option of its name; without one, options stay."""
    options = {"checkpoint": "old", "network": "host"}

    own = {"checkpoint": "models", "checkpoint_policy": None}
    assert {"checkpoint": "models", "network": "host"} == with_own_options(options, own)
    assert {"checkpoint": "models"} == with_own_options(None, own)
    assert options is with_own_options(options, {"checkpoint": None})
