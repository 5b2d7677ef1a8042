"""`TorchXDockerHook`: from an Airflow connection to a scheduler on its daemon."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowRuntimeError

from airflow_torchx.airflow_compat import mask, mask_file
from airflow_torchx.errors import AirflowTorchXError, InvalidAppError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Connection

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.connection.settings import Settings
    from airflow_torchx.core.engine.docker_cli import DockerCli
    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

#: The connection type of Airflow's own Docker provider, which need not be installed.
REGISTRY_CONN_TYPE: Final = "docker"


def default_conn_id() -> str | None:
    """Return the id of the default connection; None if none is configured."""
    return conf.get("torchx", "default_conn_id", fallback="").strip() or None


def object_storage(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path on it; ``s3://conn_id@bucket`` has a login."""
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(url)
    return path.fs, path.path


def get_connection(conn_id: str, argument: str, fix: str) -> Connection:
    """Return an Airflow connection.

    Raises:
        InvalidAppError: it does not exist; the message has the ``argument`` that names it.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        problem = Problem(argument, f"there is no connection {conn_id!r}", fix)
        raise InvalidAppError([problem], subject=f"connection {conn_id!r}") from error


class TorchXDockerHook(BaseHook):
    """Connects to one Docker daemon, or to a Docker Swarm.

    Example::

        from airflow_torchx.hooks import TorchXDockerHook

        with TorchXDockerHook("gpu_host").get_conn() as scheduler:
            print(scheduler.list())

    A scheduler on a swarm has the same verbs, and its handles begin with ``docker_swarm://``; see
    `core.connection.swarm` for what its connection says.

    Args:
        torchx_conn_id: connection of type ``torchx_docker``, see `core.connection.settings`. None
            uses ``[torchx] default_conn_id`` of Airflow's configuration, or else the daemon of the
            docker command line.
        docker_conn_ids: connections of type ``docker``, one for each registry that needs a login;
            they take precedence over those of the connection. Registries without one use the docker
            command line's logins.
    """

    conn_name_attr = "torchx_conn_id"
    default_conn_name = "torchx_docker_default"
    conn_type = "torchx_docker"
    hook_name = "TorchX Docker"

    def __init__(
        self, torchx_conn_id: str | None = None, docker_conn_ids: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.torchx_conn_id = torchx_conn_id or default_conn_id()
        self.docker_conn_ids = docker_conn_ids

    def settings(self, argument: str = conn_name_attr) -> Settings:
        """Return the connection's settings, and mask its private key in logs.

        ``argument`` is what named the connection, for errors.

        Raises:
            InvalidAppError: the connection does not exist or has another type, or one problem for
                each invalid field.
        """
        return self._settings(f"connection {self.torchx_conn_id!r}", argument)

    def endpoint(self) -> Endpoint:
        """Return how to reach the daemon.

        Raises:
            InvalidAppError: the connection does not exist or has another type, or one problem for
                each invalid field.
        """
        return self.settings().endpoint

    def access(self) -> tuple[Endpoint, tuple[RegistryLogin, ...]]:
        """Return how a trigger reaches the daemon, and the logins that it needs there.

        It restarts apps. A daemon has the image of an app that it runs, but the next node of a
        swarm pulls it.

        Raises:
            InvalidAppError: one problem for each invalid field.
        """
        settings = self.settings()
        return settings.endpoint, self._logins(settings) if settings.endpoint.swarm else ()

    def docker_cli(self) -> DockerCli:
        """Return the commands of `docker` that a message advises.

        They are those of a daemon if the connection cannot be read.
        """
        from airflow_torchx.core.engine.docker_cli import docker_cli

        is_swarm = False
        with suppress(AirflowException, AirflowRuntimeError, InvalidAppError):
            is_swarm = self.settings().endpoint.swarm is not None
        return docker_cli(is_swarm=is_swarm)

    def get_conn(self) -> DockerScheduler:
        """Return a scheduler on the daemon or swarm; close it, or use it as a context manager.

        The connection's options are the defaults of an app's run options. Passwords of proxies in
        the docker configuration are masked in logs.

        Raises:
            EngineUnreachableError: no daemon answers, or none that is a manager of a swarm.
            InvalidAppError: one problem for each invalid field.
        """
        from airflow_torchx.core.plan.redact import proxy_secrets
        from airflow_torchx.runtime.engines import connect

        settings = self.settings()
        engine = connect(settings.endpoint, self._logins(settings))
        mask(proxy_secrets(engine.proxy_env))
        return self._scheduler(settings, engine)

    def planner(self) -> DockerScheduler:
        """Return a scheduler that connects when it plans, and plans without a daemon, too.

        Raises:
            InvalidAppError: one problem for each invalid field.
        """
        return self._scheduler(self.settings())

    def _scheduler(self, settings: Settings, engine: Engine | None = None) -> DockerScheduler:
        from airflow_torchx.core.state.app_ref import DEFAULT_SESSION
        from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
        from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler

        scheduler = SwarmScheduler if settings.endpoint.swarm else DockerScheduler
        return scheduler(
            self.torchx_conn_id or DEFAULT_SESSION,
            engine,
            filesystem=object_storage,
            terminal=False,
            defaults=settings.options,
            gpu_ids=settings.gpu_ids,
            endpoint=settings.endpoint,
        )

    def prune(
        self,
        older_than: timedelta = timedelta(days=1),
        *,
        gone: bool = False,
        checkpoints: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Remove what has no owner on the daemon; call it in a task, which may ask Airflow.

        See ``airflow torchx prune --help``; the default of ``older_than`` is one day.

        Args:
            older_than: remove ended apps that are kept, and those outside Airflow, after this time.
            gone: also remove apps of DAG runs that this Airflow does not have.
            checkpoints: also remove volumes with checkpoints of a URL that one DAG run has used,
                if that has ended before that time.
            dry_run: only log what would be removed.

        Returns:
            What was found and removed, as JSON data; the keys are those of ``prune --json``.

        Raises:
            EngineError: something could not be removed; the rest was.
            AirflowRequestError: Airflow cannot be asked for the states of tasks. No app is removed
                whose task was not asked for.
        """
        from airflow_torchx.airflow_compat import run_end, task_states
        from airflow_torchx.core.plan.options import Opts
        from airflow_torchx.core.task.prune import Policy, counted_text
        from airflow_torchx.runtime.engines import connect
        from airflow_torchx.runtime.prune import Pruned, Pruner, to_json

        settings = self.settings()
        policy = Policy(older_than_s=older_than.total_seconds(), gone=gone, checkpoints=checkpoints)
        keep_images = Opts.parse(settings.options).keep_images
        with connect(settings.endpoint) as engine:
            pruner = Pruner(engine, task_states, policy, keep_images=keep_images, run_end=run_end)
            survey = pruner.survey()
            for one in survey.found:
                self.log.info("%s", "  ".join(filter(None, one.row(survey.now))))
            pruned = Pruned() if dry_run else pruner.remove(survey.found)
        done = "would remove " if dry_run else "removed "
        self.log.info(counted_text(survey.found if dry_run else pruned.done, done))
        for text in survey.left_texts:
            self.log.info("left %s", text)
        for _, error in pruned.failed:
            raise error
        return to_json(survey, pruned)

    def test_connection(self) -> tuple[bool, str]:
        """Report on the daemon, or the swarm and its nodes, and on each registry's login.

        Takes at most ten seconds and changes nothing.
        """
        from airflow_torchx.runtime.engines import diagnose

        try:
            # The form gives a connection under test a random id.
            settings = self._settings("connection")
            logins = self._logins(settings)
        except (AirflowTorchXError, AirflowException) as why:
            return False, str(why)
        found = diagnose(settings.endpoint, settings.network, logins)
        return (False, found) if isinstance(found, str) else (found.is_fine, str(found))

    def _settings(self, subject: str, argument: str = conn_name_attr) -> Settings:
        from airflow_torchx.core.connection.pem import Pem
        from airflow_torchx.core.connection.settings import Settings, daemon_url

        if self.torchx_conn_id is None:
            return Settings()
        fix = f"add one of type {self.conn_type!r}"
        if argument == self.conn_name_attr:
            fix += f", or, if it is the session of a handle, pass {argument}= or app_id="
        found = get_connection(self.torchx_conn_id, argument, fix)
        if found.conn_type != self.conn_type:
            problem = _type_problem("conn_type", found, self.conn_type)
            raise InvalidAppError([problem], subject=subject)
        url = daemon_url(found.host, port=found.port, login=found.login, schema=found.schema)
        settings = Settings.parse(url, found.extra, subject=subject)
        if isinstance(key := settings.endpoint.tls_private_key, Pem):
            mask_file(key.text.strip())
        return settings

    def _logins(self, settings: Settings) -> tuple[RegistryLogin, ...]:
        # A dict removes duplicates and keeps the order.
        return logins_from(list(dict.fromkeys([*self.docker_conn_ids, *settings.registries])))


_MISSING: Final = {
    "host": "give the registry, like docker.io",
    "login": "give the user that logs in to the registry",
    "password": "give the user's password, or an access token",
}


def logins_from(conn_ids: Sequence[str]) -> tuple[RegistryLogin, ...]:
    """Return one login per connection, and mask the passwords in logs.

    Args:
        conn_ids: Airflow connections of type ``docker``: host (and port), login, password.

    Raises:
        InvalidAppError: one problem for each missing connection and each invalid field.
    """
    connections, problems = [], []
    for conn_id in conn_ids:
        try:
            connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            fix = f"add one of type {REGISTRY_CONN_TYPE!r}, or remove it from the registries"
            problems.append(Problem(f"connection {conn_id!r}", "it does not exist", fix))
            continue
        mask([connection.password or ""])
        connections.append((conn_id, connection))
        problems += _problems(conn_id, connection)
    if problems:
        raise InvalidAppError(problems, subject="registry connections")
    return tuple(_login(connection) for _, connection in connections)


def _type_problem(where: str, found: Connection, conn_type: str) -> Problem:
    what = f"its type is {found.conn_type!r}"
    return Problem(where, what, f"use a connection of type {conn_type!r}")


def _problems(conn_id: str, connection: Connection) -> Iterator[Problem]:
    where = f"connection {conn_id!r}"
    if connection.conn_type != REGISTRY_CONN_TYPE:
        yield _type_problem(where, connection, REGISTRY_CONN_TYPE)
        return
    for field, fix in _MISSING.items():
        if not (getattr(connection, field) or "").strip():
            yield Problem(f"{where}.{field}", "it is missing", fix)


def _login(connection: Connection) -> RegistryLogin:
    from airflow_torchx.core.engine.image_refs import host_of
    from airflow_torchx.core.engine.images import RegistryLogin

    host = host_of(str(connection.host))
    return RegistryLogin(
        registry=f"{host}:{connection.port}" if connection.port and ":" not in host else host,
        username=str(connection.login),
        password=str(connection.password),
    )
