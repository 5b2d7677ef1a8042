"""Checks of a swarm that return within seconds, even if managers or nodes hang."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency import parallel
from airflow_torchx.core.connection.daemon_report import LoginCheck
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine.image_refs import host_of
from airflow_torchx.core.swarm.capacity import node_name
from airflow_torchx.core.swarm.report import ManagerCheck, NodeCheck, SwarmReport
from airflow_torchx.docker_engine.diagnosis import check_logins, within
from airflow_torchx.docker_engine.engine import DockerEngine
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.swarm_engine.managers import (
    NO_LEADER_FIX,
    OTHER_SWARM_FIX,
    Managers,
    filters,
    of_another_swarm,
)
from airflow_torchx.swarm_engine.nodes import connect_node, node_endpoint, node_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.images import RegistryLogin

    Json = Mapping[str, Any]

#: Of the two steps: first the managers, then the nodes and the registries.
_STEP_LIMIT_S: Final = 4.5
_THREADS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """What one manager knows of its swarm."""

    url: str
    api_version: str
    node_id: str
    nodes: Sequence[Json]
    networks: Sequence[Json]


def diagnose(
    endpoint: Endpoint, network: str, logins: Sequence[RegistryLogin]
) -> SwarmReport | str:
    """Return what is known of a swarm, or why no manager answers and what to do about it.

    Never raises, changes nothing, leaves no connection open, and takes at most 9 seconds. All
    managers are asked at the same time, then the daemons of the nodes and the registries.
    """
    swarm = endpoint.swarm or Swarm()
    urls = list(dict.fromkeys((endpoint.url, *swarm.managers)))
    asked = parallel.map_concurrently(
        lambda url: within(_STEP_LIMIT_S, replace(endpoint, url=url), partial(_view, network)),
        urls,
        threads=_THREADS,
    )
    view = next((one for one in asked if isinstance(one, _View)), None)
    if view is None:
        return "\n".join(str(one) for one in asked)
    asked = [_of_swarm(view, one) for one in asked]
    own = replace(endpoint, url=view.url)
    checks: list[Callable[[], Any]] = [partial(_login_checks, own, logins)]
    checks += [partial(_node_check, own, view, one) for one in view.nodes]
    tried, *nodes = parallel.map_concurrently(lambda one: one(), checks, threads=_THREADS)
    return SwarmReport(
        url=view.url,
        api_version=view.api_version,
        swarm=swarm,
        managers=tuple(
            ManagerCheck(url=_url(url, one), error=one if isinstance(one, str) else None)
            for url, one in zip(urls, asked, strict=True)
        ),
        nodes=tuple(nodes),
        network=network,
        networks=tuple(view.networks),
        logins=tried,
    )


def _of_swarm(view: _View, other: _View | str) -> _View | str:
    """Return what another manager knows, or why not if it is of another swarm."""
    if other is view or isinstance(other, str):
        return other
    if other.node_id in {one["ID"] for one in view.nodes}:
        return other
    return f"{of_another_swarm(other.url)}. {OTHER_SWARM_FIX}"


def _url(given: str | None, found: _View | str) -> str:
    """Return the URL of a manager; that of the environment is known once it has answered."""
    return found.url if isinstance(found, _View) else given or "of the docker command line"


def _view(network: str, endpoint: Endpoint) -> _View:
    """Ask one manager.

    Raises:
        EngineUnreachableError: it does not answer, is not a manager, or has no leader.
    """
    engine = DockerEngine.connect(endpoint)
    named = filters({"name": [network]})
    with closing(Managers([lambda: engine])) as manager:
        try:
            # First what a worker refuses. Without a leader, information takes longest.
            nodes = manager.json("GET", "/nodes", "list the nodes")
            found = manager.json("GET", "/networks", "list networks", params=named)
            node_id = node_id_of(engine)
        except EngineUnreachableError as error:
            if error.__cause__ is None:
                raise  # the daemon has answered
            fix = f"{error.fix} If it does, its swarm has no leader. {NO_LEADER_FIX}"
            raise EngineUnreachableError(error.what, fix=fix) from error
    return _View(
        url=str(engine.endpoint.url),
        api_version=engine.client.api_version,
        node_id=node_id,
        nodes=sorted(nodes, key=_managers_first),
        networks=[row for row in found if row["Name"] == network],
    )


def _managers_first(node: Json) -> tuple[bool, str]:
    return not node.get("ManagerStatus"), node_name(node)


def _node_check(manager: Endpoint, view: _View, node: Json) -> NodeCheck:
    is_ready = (node.get("Status") or {}).get("State") == "ready"
    if not is_ready or node["ID"] == view.node_id:
        return NodeCheck(node=node)
    try:
        endpoint = node_endpoint(manager, node)
    except EngineError as error:
        return NodeCheck(node=node, error=str(error).replace("\n", " "))

    def check(one: Endpoint) -> NodeCheck:
        connect_node(one, node).close()
        return NodeCheck(node=node)

    found = within(_STEP_LIMIT_S, endpoint, check)
    return NodeCheck(node=node, error=found) if isinstance(found, str) else found


def _login_checks(manager: Endpoint, logins: Sequence[RegistryLogin]) -> tuple[LoginCheck, ...]:
    def check(endpoint: Endpoint) -> tuple[LoginCheck, ...]:
        with DockerEngine.connect(endpoint) as engine:
            return check_logins(engine, logins)

    found = within(_STEP_LIMIT_S, manager, check) if logins else ()
    if not isinstance(found, str):
        return found
    return tuple(
        LoginCheck(registry=host_of(one.registry), username=one.username, error=found)
        for one in logins
    )
