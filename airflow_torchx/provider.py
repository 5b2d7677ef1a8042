"""Provider metadata for Airflow's discovery; imports nothing but the version."""

from __future__ import annotations

from typing import Final

from airflow_torchx import __version__

_INTEGRATION: Final = "TorchX Docker"
_DOCUMENTATION: Final = "https://github.com/airflow-torchx/airflow-torchx/tree/main/docs"

#: The extra of a connection, as `core.connection.settings` reads it.
_CONNECTION_FIELDS: Final = {
    "tls_ca": {
        "label": "TLS authority",
        "description": "Certificate of the authority that signed the daemon's certificate, as PEM "
        "text or as an absolute path where tasks run",
        "schema": {"type": ["string", "null"], "format": "multiline"},
    },
    "tls_cert": {
        "label": "TLS certificate",
        "description": "Client certificate, as PEM text or as an absolute path",
        "schema": {"type": ["string", "null"], "format": "multiline"},
    },
    # Airflow masks a field of this name in its API, its forms and its logs.
    "tls_private_key": {
        "label": "TLS private key",
        "description": "Key of the client certificate, without a passphrase, as PEM text or as an "
        "absolute path",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "tls_verify": {
        "label": "Verify TLS",
        "description": "Refuse a daemon whose certificate is not valid",
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "api_version": {
        "label": "API version",
        "description": "Version of the Engine API, like 1.43; empty for the daemon's own",
        "schema": {"type": ["string", "null"]},
    },
    "request_timeout_s": {
        "label": "Request timeout (s)",
        "description": "How long the daemon may take to answer a request, in seconds; 60 if empty",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "max_connections": {
        "label": "Kept connections",
        "description": "How many connections to the daemon are kept open for reuse; 128 if empty",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "network": {
        "label": "Network",
        "description": "Network that apps join; torchx if empty",
        "schema": {"type": ["string", "null"]},
    },
    "options": {
        "label": "Run options",
        "description": "Run options of every app on this daemon; options of the app win",
        "schema": {"type": ["object", "null"]},
    },
    "registries": {
        "label": "Registries",
        "description": "Ids of connections of type docker, one for each registry that needs a "
        "login, one per line",
        "schema": {"type": ["array", "null"], "items": {"type": "string"}},
    },
    "scheduler": {
        "label": "Scheduler",
        "description": "docker_swarm to run replicas on the nodes of the swarm of which the daemon "
        "is a manager; local_docker, or empty, to run them on the daemon",
        "schema": {"type": ["string", "null"], "enum": ["local_docker", "docker_swarm", None]},
    },
    "managers": {
        "label": "More managers",
        "description": "URLs of more managers of the swarm, one per line, which are asked when the "
        "first one does not answer",
        "schema": {"type": ["array", "null"], "items": {"type": "string"}},
    },
    "constraints": {
        "label": "Placement constraints",
        "description": "Nodes for all apps, one per line, like node.labels.gpu==a100",
        "schema": {"type": ["array", "null"], "items": {"type": "string"}},
    },
    "gpu_resource": {
        "label": "GPU resource",
        "description": "Name of the generic resource that is a GPU; gpu if empty",
        "schema": {"type": ["string", "null"]},
    },
    "subnet": {
        "label": "Subnet",
        "description": "Addresses of the overlay network that is created, like 10.77.0.0/16",
        "schema": {"type": ["string", "null"]},
    },
    "mtu": {
        "label": "MTU",
        "description": "MTU of the overlay network that is created, in bytes",
        "schema": {"type": ["integer", "null"]},
    },
    "node_url": {
        "label": "URL of a node",
        "description": "How the daemon of a node is reached, with {addr} or {hostname} in place of "
        "its address; empty to reach it like the manager",
        "schema": {"type": ["string", "null"]},
    },
    "gpu_ids": {
        "label": "GPUs",
        "description": "Ids of the GPUs to use, one per line, as `nvidia-smi -L` prints them; "
        "empty for all that the daemon reports",
        "schema": {"type": ["array", "null"], "items": {"type": "string"}},
    },
}

_CONNECTION_TYPE: Final = {
    "connection-type": "torchx_docker",
    "hook-class-name": "airflow_torchx.hooks.TorchXDockerHook",
    "hook-name": _INTEGRATION,
    "conn-fields": _CONNECTION_FIELDS,
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "login", "password"],
        # The test button of the list sends port 0 for none; Airflow refuses it unless 0 is stored.
        "relabeling": {"host": "Docker daemon", "port": "Port"},
        "placeholders": {
            "host": "unix:///var/run/docker.sock, tcp://host:2376 or ssh://user@host",
            # A placeholder "0" looks like a value.
            "port": "type 0 for a socket, or if the URL has the port",
            "network": "torchx",
            "api_version": "1.43",
            "request_timeout_s": "60",
        },
    },
}

_OPTIONS: Final = {
    "default_conn_id": {
        "description": "Connection of type torchx_docker for tasks without torchx_conn_id. Empty: "
        "the daemon that the docker command line would use where the task runs.",
        "version_added": "0.1.0",
        "type": "string",
        "example": "torchx_docker_default",
        "default": "",
    },
    "ui_docker_access": {
        "description": "Let the API server read states, usage and logs of running containers from "
        "Docker, for the page TorchX. It needs access to the daemons of tasks. A user sees those "
        "of a DAG with the right to read its task instances, and logs with that to read its task "
        "logs. Secrets in these logs are not masked.",
        "version_added": "0.1.0",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
}


def get_provider_info() -> dict[str, object]:
    """Return this provider's metadata, as ``airflow providers get airflow-torchx`` shows it."""
    return {
        "package-name": "airflow-torchx",
        "name": "TorchX",
        "description": "Runs TorchX apps as Docker containers, all replicas or none.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": _DOCUMENTATION,
                "tags": ["software"],
            }
        ],
        "operators": _modules("operators"),
        "sensors": _modules("sensors"),
        "hooks": _modules("hooks"),
        "triggers": _modules("triggers"),
        "connection-types": [_CONNECTION_TYPE],
        "task-decorators": [
            {"name": "torchx", "class-name": "airflow_torchx.decorators.torchx_task"}
        ],
        "cli": ["airflow_torchx.cli.airflow_commands.get_commands"],
        "config": {
            "torchx": {
                "description": "How tasks find their Docker daemon, and what the page reads.",
                "options": _OPTIONS,
            }
        },
    }


def _modules(role: str) -> list[dict[str, object]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [f"airflow_torchx.{role}"]}]
