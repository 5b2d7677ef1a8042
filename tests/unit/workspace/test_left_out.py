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
    *("token.txt", "access_token.json", "github_token", "slack.token", "token.pickle", ".pypirc"),
    *("auth.json", "auth.toml", "google_oauth.json", "connections.json", "connections.yaml"),
    *("gcp-service-account.json", "kubeconfig", "dev.kubeconfig", "gcp-creds.json", "nats.creds"),
    *("credentials.toml", "aws_credentials.csv", ".smbcredentials", ".passwd-s3fs", ".docker"),
    *("airflow.keytab", "client.ovpn", "AuthKey.p8", ".bash_history", "cookies.txt", ".htpasswd"),
    *("key.txt", "service-account.yaml", "jwt_secret", "rootkey.csv", "accessKeys.csv", "sa.json"),
    *("me_accessKeys.csv", "gha-creds-123.json", "variables.json", ".env_prod", "openai_key.txt"),
    *("id_rsa", "id_ed25519", "id_ecdsa_sk", "server.key", "key.pem", "a.p12", ".ssh", ".gnupg"),
)
KEPT: Final = (
    *("train.py", "env", "environment.yml", ".gitignore", ".github", "cache", "data", "logs"),
    *("airflow.py", "airflow", "data.db", ".env.example", ".env.template", "env.py"),
    *("secrets.py", "credentials.py", "password.py", "passwords.py", "tokenizer.json", "keys.json"),
    *("auth.py", "auth", "oauth.py", "connections.py", "authors.json", "cookies.py", "creds.py"),
    *("service_account.py", "tokenizer.txt", "vocab.json", "added_tokens.json", "history.csv"),
    *("token.py", "tokens.txt", "special_tokens_map.json", "tokenizer_config.json", "hf_token.py"),
    *("setup.cfg", "config.ini", ".python-version", "test_pip.conf", "api_key.py"),
    *("accesskey.py", "variables.py", "variables.tf", "jwt_secret.py", "monkey.txt", "keys.csv"),
    *(".env_example", "notes.txt", "train.py.bak", "sa.py", "creds_test.py", "train.py~", "1.txt"),
    *("id_rsa.pub", "ca.pem", "cert.pem", "key.py", "Makefile", ".dockerignore"),
)
#: Names of secret files that a package may have, too.
FILES_ONLY: Final = ("credentials", "password", "passwd", "secrets", "token", "apikey", "hf_token")
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


@pytest.mark.parametrize("name", FILES_ONLY)
def test_a_file_is_listed_but_not_a_folder(name: str) -> None:
    """A file with such a name is on the list, but a folder is not, and Docker reads it so, too."""
    docker = Ignore(resources.files(workspace).joinpath("default.dockerignore").read_text())

    assert is_listed(name)
    assert not is_listed(name, is_folder=True)
    assert docker.ignores(f"a/{name}")
    assert not docker.ignores(f"a/{name}/x.py")
    assert docker.ignores(f".venv/{name}/x.py")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((".ENV", True), ("PASSWORD.txt", True), ("Credentials.JSON", True), ("Token.txt", True)),
        *(("Id_RSA", True), ("Kubeconfig", True), (".AWS", True), ("Server.Key", True)),
        *(("ID_RSA.PUB", False), (".ENV.EXAMPLE", False), ("Token.py", False), ("cvs", False)),
    ],
)
def test_case_of_a_name(name: str, expected: bool) -> None:
    """A name is on the list in any case, except those that the list has in upper case."""
    assert expected == is_listed(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((".env~", True), (".netrc.bak", True), ("server.key.bak", True), ("sa.json.txt", True)),
        *((".id_rsa.swp", True), (".kaggle.json.swp", True), ("#server.key#", True)),
        *((".pgpass.old", True), ("jwt_secret.txt", True), ("kaggle.json.orig", True)),
        *(("Server.KEY.BAK", True), (".aws.old", True), (".netrc.1", True), ("a.key.bak~", True)),
        *((".env.example~", True), ("token_old", True), (".#server.key", True)),
        *(("train.py.bak", False), ("token.py~", False), (".train.py.swp", False), ("~", False)),
        *(("model.old", False), ("env.py.txt", False), ("requirements.txt", False)),
        *(("tokens.txt", False), ("venv.txt", False), ("id_rsa.pub", False), (".txt", False)),
    ],
)
def test_backup_of_a_name(name: str, expected: bool) -> None:
    """A backup of a name is on the list if the name is."""
    assert expected == is_listed(name)


def test_junk_is_listed() -> None:
    """Every junk folder is on the list."""
    assert [] == [name for name in JUNK if not is_listed(name)]


def test_what_is_left_out(tmp_path: Path) -> None:
    """Listed names are left out at every depth, and environments and caches under any name."""
    kept = {"train.py": "", "a/b.py": "", "bin/run": "", "secrets/__init__.py": ""}
    left_out = {
        ".env": "",
        "a/.ENV": "",
        "secrets/credentials": "",
        "a/__pycache__/b.pyc": "",
        ".git/config": "",
        "env/bin/activate": "",
        "win/Scripts/activate": "",
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
        "notes.txt": "AGE-SECRET",
        "tls.py": f"KEY = '''{KEY}'''",
        "large": "x" * 65536 + KEY,
    }
    left_out = {
        "deploy": KEY.replace("RSA", "OPENSSH"),
        "server.pem": f"-----BEGIN CERTIFICATE-----\n{KEY}",
        "server.CRT": KEY.replace("RSA ", ""),
        "account.json": f'{{"private_key": "{KEY}"}}'.replace("\n", "\\n"),
        "a.pem.old": KEY,
        "b.json.txt": KEY,
        "c.yaml": KEY,
        "keys.txt": "# public key: age1x\nAGE-SECRET-KEY-1X",
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
    """One line, once, names the paths in the workspace, and warns unless all of them are junk."""
    caplog.set_level(logging.INFO, "airflow_torchx")
    make(tmp_path, {"code/train.py": "", "code/.git/x": "", "code/a/__pycache__/x": ""})
    make(tmp_path, {"code/b/__pycache__/x": "", "lib/x.py": "", "lib/.env": "", "lib/my.key": ""})
    line = "left out of the workspace, which has no .dockerignore: "

    for _ in range(2):
        sent("code", tmp_path)
    sent({"code": "", "lib": "lib", "lib/my.key": "lib/my.key"}, tmp_path)

    after = "; if the app needs one, list in a .dockerignore what to leave out instead"
    assert [
        ("INFO", f"{line}.git, 2 x __pycache__{after}"),
        ("WARNING", f"{line}.git, 2 x __pycache__, lib/.env{after}"),
    ] == [(record.levelname, record.getMessage()) for record in caplog.records]


def test_nothing_is_left(tmp_path: Path) -> None:
    """The error of a workspace without other files says that they are left out."""
    make(tmp_path, {".env": ""})

    with pytest.raises(WorkspaceError, match=r"has only files that are left out without \.docker"):
        sent(".", tmp_path)
