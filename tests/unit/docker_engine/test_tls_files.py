"""Temporary files for TLS material."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import pytest

from airflow_torchx.core.connection.endpoint import TLS_FIELDS, Endpoint
from airflow_torchx.core.connection.pem import Pem
from airflow_torchx.docker_engine.tls_files import on_disk
from airflow_torchx.errors import EngineUnreachableError

TEXTS: Final = {name: Pem(f"text of {name}") for name in TLS_FIELDS}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_only_this_user_can_read_them(folder: Path) -> None:
    """TLS files and their folder are readable by this user only."""
    with on_disk(Endpoint(url="tcp://h", **TEXTS)) as endpoint:  # type: ignore[arg-type]
        (own,) = folder.iterdir()
        paths = {name: Path(getattr(endpoint, name)) for name in TLS_FIELDS}

        assert {own} == {path.parent for path in paths.values()}
        assert {name: f"text of {name}" for name in TLS_FIELDS} == {
            name: path.read_text() for name, path in paths.items()
        }
        modes = [path.stat().st_mode & 0o777 for path in (own, *paths.values())]
        assert [0o700, 0o600, 0o600, 0o600] == modes


def test_files_are_deleted(folder: Path) -> None:
    """TLS files are deleted even if the block raises an error."""
    with pytest.raises(ZeroDivisionError), on_disk(Endpoint(url="tcp://h", tls_ca=TEXTS["tls_ca"])):
        _ = 1 / 0

    assert [] == list(folder.iterdir())


def test_paths_are_kept(folder: Path) -> None:
    """Paths stay as they are, with or without PEM text in the other fields."""
    paths = Endpoint(url="tcp://h", tls_ca="/ca.pem")
    with on_disk(paths) as same:
        assert [] == list(folder.iterdir())
    with on_disk(Endpoint(url="tcp://h", tls_ca="/ca.pem", tls_cert=Pem("c"))) as mixed:
        assert ("/ca.pem", True) == (mixed.tls_ca, isinstance(mixed.tls_cert, str))

    assert same is paths


def test_folder_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what the files need, and does not quote their content."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "gone"))

    with (
        pytest.raises(
            EngineUnreachableError, match=r"cannot be written: No such.*\nFree space in"
        ) as no,
        on_disk(Endpoint(url="tcp://h", **TEXTS)),  # type: ignore[arg-type]
    ):
        pass

    assert "text of" not in str(no.value)
