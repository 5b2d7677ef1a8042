"""Parsers of run option values; all raise ValueError with what to write instead."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, cast

from airflow_torchx.core.engine.containers import BUILT_IN_NETWORKS, Ulimit
from airflow_torchx.core.engine.labels import RESERVED_PREFIXES
from airflow_torchx.specs.readers import to_flag
from airflow_torchx.specs.scalars import BYTES, as_number, as_text
from airflow_torchx.specs.suggest import suggest


def parse_ulimit(text: str) -> Ulimit:
    """Return the limit in ``name=soft:hard`` or ``name=both``; -1 means unlimited."""
    match = re.fullmatch(rf"({_LIMITS})=(-1|\d+)(?::(-1|\d+))?", text.strip())
    if match is None:
        form = "name=soft:hard, like nofile=1024:4096 or memlock=-1"
        raise ValueError(f"expected {form}, got {text!r}")
    soft, hard = int(match[2]), int(match[3] or match[2])
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"the soft limit {soft} is above the hard limit {hard} in {text!r}")
    return Ulimit(name=match[1], soft=soft, hard=hard)


def text(value: object) -> str:
    """Return a non-empty string."""
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("give a non-empty string")


def user(value: object) -> str:
    """Return the name or the id of a user, optionally with a group."""
    name = text(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    ids = [int(part) for part in name.split(":") if re.fullmatch(r"[-+]?\d+", part)]
    if all(0 <= one <= _MAX_ID for one in ids):
        return name
    raise ValueError(f"give ids from 0 to {_MAX_ID}")


def formed(
    parse: Callable[[object], str | tuple[str, ...]], pattern: str, form: str
) -> Callable[[object], str | tuple[str, ...]]:
    """Return a parser of one or several texts that match a pattern; ``form`` is for messages."""

    def parse_formed(value: object) -> str | tuple[str, ...]:
        parsed = parse(value)
        for one in [parsed] if isinstance(parsed, str) else parsed:
            if not re.fullmatch(pattern, one, re.DOTALL):
                raise ValueError(f"give {form}, not {one!r:.50}")
        return parsed

    return parse_formed


def extra_hosts(value: object) -> Mapping[str, str]:
    """Return addresses of hosts, without spaces around them."""
    hosts = {name: address.strip() for name, address in pairs(value).items()}
    for name, address in hosts.items():
        if re.search(r"[:\s]", name) or not (address == _GATEWAY or _is_address(address)):
            form = f"a host name without ':' and spaces, and an IP address or {_GATEWAY!r}"
            raise ValueError(f"entry {name!r:.50} needs {form}")
    return hosts


def dns(value: object) -> tuple[str, ...]:
    """Return addresses of name servers."""
    servers = texts(value)
    if bad := [one for one in servers if not _is_address(one)]:
        raise ValueError(f"give IP addresses, not {bad[0]!r:.50}")
    return servers


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def tmpfs(value: object) -> Mapping[str, str]:
    """Return absolute paths with their mount options, which the Engine knows."""
    mounts = pairs(value)
    for path, options in mounts.items():
        if not path.startswith("/") or not posixpath.normpath(path).strip("/"):
            raise ValueError(f"give absolute paths below '/', not {path!r:.50}")
        if not all(re.fullmatch(_MOUNT_OPTION, one) for one in options.split(",") if options):
            raise ValueError(f"entry {path!r:.50} needs options like 'size=64m,mode=1777,noexec'")
    return mounts


def checkpoint(value: object) -> str:
    """Return a URL, the name of a volume, or an absolute path without ``..`` and ``//``."""
    source = text(value).strip()
    if "://" in source:
        return storage_url(source)
    if source.startswith("/"):
        path = posixpath.normpath(f"/{source.lstrip('/')}")
        if path == "/" or "\0" in path:
            raise ValueError("give a path below '/'")
        return path
    if re.fullmatch(_VOLUME, source):
        return source
    raise ValueError("give a volume, an absolute path on the daemon's host, or a URL")


def storage_url(source: str) -> str:
    """Return a URL of Airflow's object storage, without a slash at its end."""
    scheme, _, rest = source.partition("://")
    login, _, path = rest.rpartition("@")
    if ":" in login:
        raise ValueError("give a connection, like 's3://conn_id@bucket/folder', not a password")
    parts = path.rstrip("/").split("/")
    is_plain = not re.search(r"[\x00-\x20*?#\[\]\\]", source) and not {".", ".."} & set(parts)
    # file:///data has no host, and s3://bucket no path.
    is_whole = bool("".join(parts)) and (parts[0] != "") == (scheme != "file")
    if re.fullmatch("[a-z][a-z0-9+.-]*", scheme) and is_plain and is_whole:
        return source.rstrip("/")
    raise ValueError("write the URL like 's3://conn_id@bucket/folder' or 'file:///mnt/folder'")


def network(value: object) -> str:
    """Return the name of a network, or ``container:`` and the name of a container."""
    name = text(value)
    mode, _, container = name.partition(":")
    is_joined = mode.lower() == "container"
    meant = f"container:{container or 'NAME'}" if is_joined else name.strip().lower()
    if name != meant and (is_joined or meant in BUILT_IN_NETWORKS):
        raise ValueError(f"did you mean {meant!r}?")
    if name in _NETWORKS_OF_SWARM:
        raise ValueError("Docker Swarm uses this name; choose another one")
    if re.fullmatch(r"(container:)?[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
        return name
    raise ValueError("start with a letter or digit; use letters, digits, '_', '.' and '-'")


def flag(value: object) -> bool:
    """Return a boolean, also from 1 and 0, and from words like ``yes`` and ``off``."""
    try:
        return to_flag(value)
    except KeyError:
        raise ValueError("give True or False") from None


def seconds(value: object) -> float:
    """Return a number of seconds, at most a year; Docker ignores more than 292 years."""
    if 0 <= (number := _number(value)) <= _YEAR_S:
        return number
    raise ValueError("give a number of seconds, from 0 to a year")


def positive_seconds(value: object) -> float:
    """Return a number of seconds, from 1 to a year."""
    if 1 <= (number := _number(value)) <= _YEAR_S:
        return number
    raise ValueError("give a number of seconds, from 1 to a year")


def count(value: object) -> int:
    """Return a whole number of at least 1."""
    if (number := _number(value)) >= 1 and number.is_integer():
        return int(number)
    raise ValueError("give a whole number, 1 or more")


def _number(value: object) -> float:
    """Return a number, also from a string; NaN for anything else."""
    try:
        return float(as_number(value))
    except (OverflowError, TypeError, ValueError):
        return math.nan


def repository(value: object) -> str:
    """Return the name of an image repository, without a tag or digest."""
    name = text(value).strip()
    last = name.rpartition("/")[2]
    if "@" in name or (":" in last and not name.startswith(("http://", "https://"))):
        raise ValueError(
            "give a repository without a tag or digest; the tag is computed from the content"
        )
    if name != name.lower() and re.fullmatch(_REPOSITORY, name.lower()):
        raise ValueError(f"use lower case: {name.lower()!r}")
    if not re.fullmatch(_REPOSITORY, name):
        raise ValueError("give a repository like 'registry.example.com:5000/team/project'")
    return name


def texts(value: object) -> tuple[str, ...]:
    """Return strings; one string may have several, separated by commas or semicolons."""
    if isinstance(value, str):
        value = [part.strip() for part in re.split("[,;]", value) if part.strip()]
    if not isinstance(value, Sequence) or isinstance(value, BYTES):
        raise ValueError("give a list of non-empty strings")  # noqa: TRY004 - as in all parsers
    for index, item in enumerate(value):
        if not (isinstance(item, str) and item):
            raise ValueError(f"give a list of non-empty strings: [{index}] is {item!r:.50}")
    return tuple(cast("Sequence[str]", value))


def ulimits(value: object) -> tuple[str, ...]:
    """Return valid limits in Docker's form."""
    limits = texts(value)
    for limit in limits:
        parse_ulimit(limit)
    return limits


def build_secrets(value: object) -> tuple[str, ...]:
    """Return build secrets in the form of `docker build --secret`.

    One string may have several, separated by semicolons.
    https://docs.docker.com/build/building/secrets/
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    secrets = texts(value)
    for index, secret in enumerate(secrets):
        keys = dict(part.partition("=")[::2] for part in secret.split(","))
        sources = {"src", "source", "env"} & set(keys)
        if not keys.get("id") or len(sources) != 1 or set(keys) - sources - {"id", "type"}:
            shown = keys.get("id") or f"[{index}]"
            raise ValueError(f"give {shown} as 'id=NAME,src=PATH' or 'id=NAME,env=VARIABLE'")
    return secrets


def pairs(value: object) -> Mapping[str, str]:
    """Return a mapping of strings to strings; numbers become strings."""
    if not isinstance(value, Mapping):
        raise ValueError("give a mapping of strings to strings")  # noqa: TRY004 - as in all parsers
    found, bad = {}, []
    for key, item in value.items():
        try:
            found[key] = as_text(item)
        except TypeError:
            bad.append(key)
        if not (isinstance(key, str) and key):
            bad.append(key)
    if bad:
        names = [repr(shown_env_name(str(key))) for key in dict.fromkeys(bad)]
        name = "entry" if len(names) == 1 else "each of the entries"
        raise ValueError(f"{name} {', '.join(names)} needs strings as its name and value")
    return found


def env(value: object) -> Mapping[str, str]:
    """Return environment variables with valid names."""
    variables = pairs(value)
    bad = [name for name in variables if not is_env_name(name)]
    if bad:
        names = ", ".join(repr(shown_env_name(name)) for name in bad)
        raise ValueError(f"rename {names}: a name cannot contain '=' or a zero byte")
    # An error of a start would have the value, which may be a secret.
    if zeros := ", ".join(repr(name) for name, value in variables.items() if "\0" in value):
        raise ValueError(f"correct the value of {zeros}: it contains a zero byte")
    return variables


def is_env_name(name: str) -> bool:
    """Return whether an environment variable can have this name."""
    return bool(name) and "=" not in name and "\0" not in name


def shown_env_name(name: str) -> str:
    """Return the name of a variable for errors, without a value after ``=``."""
    return f"{name.partition('=')[0]}=…" if "=" in name else name


def labels(value: object) -> Mapping[str, str]:
    """Return labels without reserved ones."""
    given = pairs(value)
    reserved = [name for name in given if name.startswith(RESERVED_PREFIXES)]
    if reserved:
        raise ValueError(f"the label {reserved[0]!r} is reserved; rename it")
    return given


def trackers(value: object) -> Mapping[str, str]:
    """Return the configuration of each tracker; None becomes empty."""
    if isinstance(value, Mapping):
        value = {name: "" if config is None else config for name, config in value.items()}
    given = pairs(value)
    if bad := [name for name in given if "," in name or not is_env_name(name)]:
        raise ValueError(
            f"rename {shown_env_name(bad[0])!r}: a name cannot contain ',', '=' or a zero byte"
        )
    return given


def log_config(value: object) -> Mapping[str, Any]:
    """Return a log driver with its options, or an empty mapping."""
    if value == {}:
        return {}
    if (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)
        and set(value) <= {"type", "config"}
    ):
        config = pairs(value.get("config", {}))
        known = _OF_DRIVER.get(value["type"])
        if known and (bad := sorted(config.keys() - known)):
            raise ValueError(
                f"{value['type']} has no option {bad[0]!r:.50}; {suggest(bad[0], sorted(known))}"
            )
        for name in _LOG_OPTIONS.keys() & config.keys():
            if not re.fullmatch(_LOG_OPTIONS[name], config[name]):
                raise ValueError(f"entry {name!r} of its config has a value that Docker refuses")
        return {"type": value["type"], "config": config}
    raise ValueError('give {"type": driver, "config": {option: value}}')


def one_of(*words: str) -> Callable[[object], str]:
    """Return a parser that accepts these words."""

    def parse(value: object) -> str:
        if value in words:
            return str(value)
        raise ValueError(f"choose from {', '.join(words)}, or leave it out")

    return parse


_VOLUME: Final = "[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_NETWORKS_OF_SWARM: Final = ("ingress", "docker_gwbridge")
_MAX_ID: Final = 2**31 - 1
_GATEWAY: Final = "host-gateway"
# https://man7.org/linux/man-pages/man2/getrlimit.2.html, but for RLIMIT_AS, which Docker lacks.
_LIMITS: Final = (
    "core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending"
    "|stack"
)
# https://docs.docker.com/engine/storage/tmpfs/, in the form in which the kernel reads them.
_MOUNT_OPTION: Final = (
    r"defaults|r[ow]|(no)?(suid|dev|exec|atime|diratime|relatime|strictatime|mand)|(dir|a)?sync"
    r"|r?(private|shared|slave|unbindable)|mode=[0-7]{1,4}|[ug]id=\d+|size=\d+[kmgtKMGT%]?"
    r"|nr_(inodes|blocks)=\d+[kmgKMG]?|mpol=.+"
)
#: What the Engine accepts for these options of its log drivers.
_SIZE: Final = r"-1|\d+(\.\d+)? ?(?i:[kmgtp]?i?b?)"
_LOG_OPTIONS: Final = {
    "max-size": _SIZE,
    "max-buffer-size": _SIZE,
    "max-file": "[1-9][0-9]*",
    "mode": "(non-)?blocking",
    "compress": "1|t|T|TRUE|true|True|0|f|F|FALSE|false|False",
}
_CACHE: Final = {"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
_OF_DRIVER: Final[Mapping[str, set[str]]] = {
    "local": {*_LOG_OPTIONS, *_CACHE},
    "json-file": {*_LOG_OPTIONS, *_CACHE, "env", "env-regex", "labels", "labels-regex", "tag"},
}
# https://man7.org/linux/man-pages/man7/capabilities.7.html
_CAPABILITIES: Final = (
    "ALL|AUDIT_CONTROL|AUDIT_READ|AUDIT_WRITE|BLOCK_SUSPEND|BPF|CHECKPOINT_RESTORE|CHOWN"
    "|DAC_OVERRIDE|DAC_READ_SEARCH|FOWNER|FSETID|IPC_LOCK|IPC_OWNER|KILL|LEASE|LINUX_IMMUTABLE"
    "|MAC_ADMIN|MAC_OVERRIDE|MKNOD|NET_ADMIN|NET_BIND_SERVICE|NET_BROADCAST|NET_RAW|PERFMON"
    "|SETFCAP|SETGID|SETPCAP|SETUID|SYSLOG|SYS_ADMIN|SYS_BOOT|SYS_CHROOT|SYS_MODULE|SYS_NICE"
    "|SYS_PACCT|SYS_PTRACE|SYS_RAWIO|SYS_RESOURCE|SYS_TIME|SYS_TTY_CONFIG|WAKE_ALARM"
)
cap_add: Final = formed(texts, f"(?i:(CAP_)?({_CAPABILITIES}))", "Linux capabilities")
ipc_mode: Final = formed(
    text,
    "none|private|shareable|host|container:.+",
    "none, private, shareable, host or container:NAME",
)
# The docker command line reads a seccomp profile from a file, and has systempaths of its own.
security_opt: Final = formed(
    texts,
    r"no-new-privileges([=:](true|false))?|writable-cgroups[=:](true|false)|(label|apparmor)[=:].+"
    r"|seccomp[=:](unconfined|builtin|\{.*)",
    "no-new-privileges, label=…, apparmor=…, or seccomp= with unconfined or a profile's JSON",
)
working_dir: Final = formed(text, "/.*", "an absolute path")
_YEAR_S: Final = 366 * 24 * 3600
# https://docs.docker.com/reference/cli/docker/image/tag/ has the rules.
_WORD: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST: Final = r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9-]+(?=:)|\[[0-9a-f:]+\])(?::\d+)?"
_REPOSITORY: Final = rf"(?:{_HOST}/)?{_WORD}(?:/{_WORD})*"
