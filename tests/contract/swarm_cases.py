"""The cases of the contract that a swarm does not have, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

#: The engines that are swarms.
SWARMS: Final = frozenset({"fake_swarm", "swarm"})
#: Whole modules.
OUT_MODULES: Final[Mapping[str, str]] = {
    "test_archives": "files are copied through a node, by the code of a daemon",
    "test_images": "a manager builds, tags and pushes, by the code of a daemon",
    "test_restarts": "the swarm restarts none of our replicas; it could be a second process",
    "test_volumes": "volumes are of nodes, not of the swarm",
}
#: Cases of the other modules.
OUT: Final[Mapping[str, str]] = {
    "test_containers.test_a_host_without_gpus": "an app waits for GPUs that no node has",
    "test_containers.test_exited_at": "a task has the time of its last change only",
    "test_containers.test_gpus": "a service asks for a number of generic resources",
    "test_containers.test_missing_network": "a manager refuses to create the service",
    "test_containers.test_out_of_memory": "only the daemon of a node knows why SIGKILL was sent",
    "test_containers.test_rename_conflict": "the new name of a replica is a label of its service",
    "test_containers.test_rename_to_the_current_name": "and may be any text",
    "test_containers.test_rename": "the service keeps its first name, which stays taken",
    "test_containers.test_sizes": "a manager does not know what containers have written",
    "test_containers.test_start_error": "a node starts a replica later: its state is the answer",
    "test_daemon.test_built_in_networks": "a swarm has overlay networks, and that of the host",
    "test_daemon.test_container_network": "containers of one host share a network",
    "test_daemon.test_info": "a swarm is not local, and has no runtimes",
    "test_daemon.test_find_missing_image": "nodes may have what has a digest; a manager asks "
    "a registry for the others, which takes 20 s without a network",
    "test_containers.test_missing_image": "see test_find_missing_image",
    "test_daemon.test_find_image": "an image that a registry has is found by its digest",
    "test_daemon.test_remove_network_in_use": "as for a daemon, but only with an overlay network",
    "test_clones.test_a_clone_requests_the_same_gpus_and_restarts": "see test_gpus",
    "test_events.test_containers_of_all": "a swarm lists the tasks of apps",
    "test_events.test_containers_of_no_app": "so it has no events of others",
    "test_events.test_discard": "a service that has not been started has no events",
    "test_events.test_life_of_a_container": "a replica is created when it is started",
    "test_events.test_name_and_labels": "a service that has not been started has no events",
    "test_events.test_the_order_of_several_containers": "each client lists the changes by itself",
    "test_events.test_removal_of_a_running_container": "a service is removed with its task",
    "test_events.test_restart_by_the_daemon": "see test_restarts",
    "test_stop_and_remove.test_stop_after_grace": "the grace period is that of the launch",
    "test_stop_and_remove.test_stop_without_grace": "the grace period is that of the launch",
    "test_stop_and_remove.test_signal_prevents_a_restart": "see test_restarts",
    "test_stop_and_remove.test_stop_ends_restarts": "see test_restarts",
    "test_logs.test_follow_one_run": "see test_restarts",
    "test_workspace_images.test_app_runs_its_workspace": "nodes pull it from a registry",
}

#: Cases that run on a swarm in memory, and not on a real one: there, the daemon of a node answers
#: with the code that the case tests on a daemon.
ON_NODES: Final[Mapping[str, frozenset[str]]] = {
    "test_files": frozenset(
        {
            "test_read_empty_file",
            "test_read_file",
            "test_read_folder",
            "test_read_large_file",
            "test_read_missing_file",
            "test_read_too_large_file",
        }
    ),
    "test_usage": frozenset(
        {
            "test_a_command_needs_a_running_container",
            "test_a_command_that_does_not_exist",
            "test_an_idle_container_uses_no_cpu",
            "test_cpu_time_grows",
            "test_memory",
            "test_without_a_run",
        }
    ),
}
#: Cases that a campaign alone plays on a real swarm: each start there takes seconds.
IN_CAMPAIGN: Final[Mapping[str, frozenset[str]]] = {
    "test_clones": frozenset({"test_a_clone_runs_the_same_program"}),
    "test_events": frozenset({"test_from_now_on", "test_several_listeners"}),
    "test_logs": frozenset(
        {
            "test_character_cut_in_two",
            "test_follow_tail",
            "test_follow_without_a_run",
            "test_invalid_utf8",
            "test_long_lines",
            "test_streams",
            "test_tail",
            "test_tail_since",
            "test_timestamps",
        }
    ),
    "test_stop_and_remove": frozenset(
        {
            "test_remove_at_once",
            "test_signal_without_a_handler",
            "test_signal_without_a_run",
            "test_stop_in_parallel",
            "test_stop_without_a_run",
        }
    ),
}


def why_out(item: pytest.Item, engine: str, *, campaign: bool) -> str:
    """Return why a case is out on an engine; empty if it is not."""
    module, name = item.path.stem, getattr(item, "originalname", item.name)
    if engine not in SWARMS:
        return "a daemon has no nodes" if module == "test_nodes" else ""
    if engine == "swarm" and name in ON_NODES.get(module, ()):
        return "the daemon of a node answers"
    if engine == "swarm" and not campaign and name in IN_CAMPAIGN.get(module, ()):
        return "a campaign plays it"
    return OUT_MODULES.get(module) or OUT.get(f"{module}.{name}", "")
