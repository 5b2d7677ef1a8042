"""What a workspace without a ``.dockerignore`` leaves out."""

from __future__ import annotations

import logging
from importlib import resources
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx import workspace
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.workspace.recipe import SourceRoot
from airflow_torchx.core.workspace.tree import JUNK
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.dockerignore import Ignore
from airflow_torchx.workspace.left_out import is_listed
from airflow_torchx.workspace.reading import read_workspace
from airflow_torchx.workspace.source import find_filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LISTED: Final = (
    *(".git", ".hg", ".svn", "CVS", ".venv", ".venv-3.12", "venv", "node_modules", ".tox", ".nox"),
    *("__pycache__", ".cache", ".mypy_cache", ".ccache", ".ipynb_checkpoints", ".DS_Store"),
    *("airflow.db", "airflow.db-wal", "airflow.db.bak", "airflow-old.db", "airflow.cfg"),
    *(".env", ".env.local", "prod.env", ".envrc", ".netrc", ".pgpass", ".npmrc", ".aws", ".kube"),
    *("simple_auth_manager_passwords.json.generated", "standalone_admin_password.txt"),
    *("secrets.yaml", "client_secret_1.json", "credentials.json", "terraform.tfstate"),
    *("credentials.ini", "my_credentials.cfg", "secret.ini", "db-secrets.cfg", "passwords.csv"),
    *("kaggle.json", ".kaggle", ".huggingface", "hf_token", ".hf_token", ".token", "api_key.txt"),
    *(".api_key", "apikey.json", ".passwd", "rclone.conf", ".databrickscfg", ".terraform"),
    *("webserver_config.py", "airflow-webserver.pid", "pip.conf", "hf_token.txt"),
    *("id_rsa", "id_ed25519", "id_ecdsa_sk", "server.key", "key.pem", "a.p12", ".ssh", ".gnupg"),
)
KEPT: Final = (
    *("train.py", "env", "environment.yml", ".gitignore", ".github", "cache", "data", "logs"),
    *("airflow.py", "airflow", "data.db", ".env.example", ".env.template", "env.py"),
    *("secrets.py", "credentials.py", "password.py", "secrets", "tokenizer.json", "keys.json"),
    *("token.py", "tokens.txt", "special_tokens_map.json", "tokenizer_config.json", "hf_token.py"),
    *("setup.cfg", "config.ini", ".python-version", "token", "test_pip.conf", "api_key.py"),
    *("id_rsa.pub", "ca.pem", "cert.pem", "key.py", "Makefile", ".dockerignore"),
)
KEY: Final = "-----BEGIN RSA PRIVATE KEY-----\nMII="


def make(root: Path, files: Mapping[str, str]) -> Path:
    """Create files, and return the root."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def sent(parts: str | Mapping[str, str], root: Path) -> set[str]:
    """Return the files of a workspace whose relative sources start at a folder."""
    folder = SourceRoot(str(root), "x")
    read = read_workspace(
        "i", parts, Opts(), folder, filesystem=find_filesystem, should_stop=lambda: False
    )
    return {entry.path for entry in read.content.entries if entry.kind == "file"}


@pytest.mark.parametrize(("names", "expected"), [(LISTED, True), (KEPT, False)])
def test_names(names: tuple[str, ...], expected: bool) -> None:
    """Names are on the list or not, and Docker reads the list in the same way."""
    text = resources.files(workspace).joinpath("default.dockerignore").read_text()
    docker = Ignore(text)

    assert [] == [name for name in names if is_listed(name) != expected]
    assert [] == [name for name in names if docker.ignores(f"a/{name}") != expected]


def test_junk_is_listed() -> None:
    """Every junk folder is on the list."""
    assert [] == [name for name in JUNK if not is_listed(name)]


def test_what_is_left_out(tmp_path: Path) -> None:
    """Listed names are left out at every depth, and environments and caches under any name."""
    kept = {"train.py": "", "a/b.py": "", "env/__init__.py": "", "venv.py": ""}
    left_out = {
        ".env": "",
        "a/.env": "",
        "a/__pycache__/b.pyc": "",
        ".git/config": "",
        "my-env/pyvenv.cfg": "",
        "my-env/bin/python": "",
        "a/conda/conda-meta/history": "",
        "target/CACHEDIR.TAG": "",
        "target/debug/x": "",
    }
    make(tmp_path, kept | left_out)

    assert kept.keys() == sent(".", tmp_path)


def test_private_keys_are_found_by_content(tmp_path: Path) -> None:
    """A private key is left out under any name that keys have; code and large files are kept."""
    kept = {
        "ca.pem": "-----BEGIN CERTIFICATE-----",
        "keys.json": "{}",
        "tls.py": f"KEY = '''{KEY}'''",
        "large": "x" * 65536 + KEY,
    }
    left_out = {
        "deploy": KEY.replace("RSA", "OPENSSH"),
        "server.pem": f"-----BEGIN CERTIFICATE-----\n{KEY}",
        "server.crt": KEY.replace("RSA ", ""),
        "account.json": f'{{"private_key": "{KEY}"}}'.replace("\n", "\\n"),
        "pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    }
    make(tmp_path, kept | left_out)

    assert kept.keys() == sent(".", tmp_path)


@pytest.mark.parametrize("rules", ["", "# nothing\n", "!.env\n"])
def test_a_dockerignore_decides_alone(tmp_path: Path, rules: str) -> None:
    """With a .dockerignore, even an empty one, nothing else is left out."""
    make(tmp_path, {".dockerignore": rules, ".env": "", "venv/pyvenv.cfg": "", "id_rsa": KEY})

    assert {".dockerignore", ".env", "venv/pyvenv.cfg", "id_rsa"} == sent(".", tmp_path)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({".": "", ".env": ".env"}, {"train.py", ".env"}),
        ({".": "", ".env": ""}, {"train.py", ".env"}),
        ({".": "", ".env": "conf/x"}, {"train.py", "conf/x"}),
        ({".": "", ".ssh": ".ssh"}, {"train.py", ".ssh/id_rsa", ".ssh/.cache/x"}),
        ({".": "", ".ssh/id_rsa": "key"}, {"train.py", "key"}),
        ({".": "", "env": "env"}, {"train.py", "env/pyvenv.cfg"}),
        (".ssh", {"id_rsa", ".cache/x"}),
        ("env", {"pyvenv.cfg"}),
    ],
)
def test_what_a_user_lists_is_taken(
    tmp_path: Path, parts: str | Mapping[str, str], expected: set[str]
) -> None:
    """A file that is a source of its own is taken, and so is a folder, whole if it is listed."""
    make(tmp_path, {"train.py": "", ".env": "", ".ssh/id_rsa": KEY, ".ssh/.cache/x": ""})
    make(tmp_path, {"env/pyvenv.cfg": "", "env/__pycache__/x": ""})

    assert expected == sent(parts, tmp_path)


def test_one_line_names_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line names the paths in the workspace, and warns unless all of them are junk."""
    caplog.set_level(logging.INFO, "airflow_torchx")
    make(tmp_path, {"code/train.py": "", "code/.git/x": "", "code/a/__pycache__/x": ""})
    make(tmp_path, {"code/b/__pycache__/x": "", "lib/x.py": "", "lib/.env": "", "lib/my.key": ""})
    line = "left out of the workspace, which has no .dockerignore: "

    sent("code", tmp_path)
    sent({"code": "", "lib": "lib", "lib/my.key": "lib/my.key"}, tmp_path)

    after = "; an empty .dockerignore leaves out nothing"
    assert [
        ("INFO", f"{line}.git, 2 x __pycache__{after}"),
        ("WARNING", f"{line}.git, 2 x __pycache__, lib/.env{after}"),
    ] == [(record.levelname, record.getMessage()) for record in caplog.records]


def test_nothing_is_left(tmp_path: Path) -> None:
    """The error of a workspace without other files says that they are left out."""
    make(tmp_path, {".env": ""})

    with pytest.raises(WorkspaceError, match=r"has only files that are left out without \.docker"):
        sent(".", tmp_path)
