"""What a run option accepts: each function returns the value that was meant.

All raise ValueError with what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from airflow_torchx.core.engine.containers import Ulimit
from airflow_torchx.core.engine.labels import RESERVED_PREFIXES


def parse_ulimit(text: str) -> Ulimit:
    """Return the limit that ``name=soft:hard`` or ``name=both`` means; -1 is unlimited.

    Raises:
        ValueError: the text has another form, or soft is above hard.
    """
    match = re.fullmatch(r"([a-z]+)=(-1|\d+)(?::(-1|\d+))?", text.strip())
    if match is None:
        msg = "expected name=soft:hard, like nofile=1024:4096 or memlock=-1"
        raise ValueError(msg)
    soft, hard = int(match[2]), int(match[3] or match[2])
    if hard != -1 and (soft == -1 or soft > hard):
        msg = f"its soft limit {soft} is above its hard limit {hard}"
        raise ValueError(msg)
    return Ulimit(name=match[1], soft=soft, hard=hard)


def text(value: object) -> str:
    """Return a text that is not empty."""
    if isinstance(value, str) and value.strip():
        return value
    msg = "give a text that is not empty"
    raise ValueError(msg)


def network(value: object) -> str:
    """Return a name that a network can have, or ``container:`` and a container's."""
    name = text(value)
    if re.fullmatch(r"(container:)?[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
        return name
    msg = "begin with a letter or digit, and use letters, digits, '_', '.' and '-'"
    raise ValueError(msg)


def flag(value: object) -> bool:
    """Return a truth value, also from the words people write for one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in _FLAGS:
        return _FLAGS[word]
    msg = "give True or False"
    raise ValueError(msg)


def seconds(value: object) -> float:
    """Return a number of seconds, from 0 to a year: beyond 292 years, Docker takes it for none."""
    try:
        number = math.nan if isinstance(value, bool) else float(cast("str", value))
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if 0 <= number <= _YEAR_S:
        return number
    msg = "give a number of seconds, 0 or more, and a year at most"
    raise ValueError(msg)


def count(value: object) -> int:
    """Return a whole number, 1 or more."""
    try:
        number = math.nan if isinstance(value, bool) else float(cast("str", value))
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if number >= 1 and number.is_integer():
        return int(number)
    msg = "give a whole number, 1 or more"
    raise ValueError(msg)


def repository(value: object) -> str:
    """Return the name of an image repository, with neither tag nor digest."""
    name = text(value).strip()
    last = name.rpartition("/")[2]
    if "@" in name or (":" in last and not name.startswith(("http://", "https://"))):
        msg = "name a repository without a tag or digest: the tag is made from what is in the image"
        raise ValueError(msg)
    if name != name.lower() and re.fullmatch(_REPOSITORY, name.lower()):
        msg = f"Docker takes lower case only: {name.lower()!r}"
        raise ValueError(msg)
    if not re.fullmatch(_REPOSITORY, name):
        msg = "name a repository like 'registry.example.com:5000/team/project'"
        raise ValueError(msg)
    return name


def texts(value: object) -> tuple[str, ...]:
    """Return texts; one text may hold several, separated by commas or semicolons."""
    if isinstance(value, str):
        value = [part.strip() for part in re.split("[,;]", value) if part.strip()]
    if isinstance(value, Sequence) and all(isinstance(item, str) and item for item in value):
        return tuple(cast("Sequence[str]", value))
    msg = "give a list of texts, none of them empty"
    raise ValueError(msg)


def ulimits(value: object) -> tuple[str, ...]:
    """Return limits in Docker's form, checked."""
    limits = texts(value)
    for limit in limits:
        parse_ulimit(limit)
    return limits


def build_secrets(value: object) -> tuple[str, ...]:
    """Return secrets of a build, in the form of the docker command line; one text may hold several.

    https://docs.docker.com/build/building/secrets/
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    secrets = texts(value)
    for secret in secrets:
        keys = dict(part.partition("=")[::2] for part in secret.split(","))
        places = {"src", "source", "env"} & set(keys)
        if not keys.get("id") or len(places) != 1 or set(keys) - places - {"id", "type"}:
            msg = "give 'id=NAME,src=PATH' or 'id=NAME,env=VARIABLE'"
            raise ValueError(msg)
    return secrets


def pairs(value: object) -> Mapping[str, str]:
    """Return a mapping of texts to texts; numbers become texts."""
    if isinstance(value, Mapping) and all(
        isinstance(key, str) and key and isinstance(item, (str, int, float))
        for key, item in value.items()
    ):
        return {key: str(item) for key, item in value.items()}
    msg = "give a mapping of texts to texts"
    raise ValueError(msg)


def env(value: object) -> Mapping[str, str]:
    """Return environment variables with names that a process can have."""
    variables = pairs(value)
    bad = [name for name in variables if not is_env_name(name)]
    if bad:
        msg = f"{shown_env_name(bad[0])!r} cannot name an environment variable; it holds '='"
        raise ValueError(msg)
    return variables


def is_env_name(name: str) -> bool:
    """Tell whether an environment variable can have this name."""
    return bool(name) and "=" not in name and "\0" not in name


def shown_env_name(name: str) -> str:
    """Return the name of a variable for people, without the value that somebody put into it."""
    return f"{name.partition('=')[0]}=…" if "=" in name else name


def labels(value: object) -> Mapping[str, str]:
    """Return labels, none of them reserved."""
    wanted = pairs(value)
    reserved = [name for name in wanted if name.startswith(RESERVED_PREFIXES)]
    if reserved:
        msg = f"the label {reserved[0]!r} is reserved; rename it"
        raise ValueError(msg)
    return wanted


def log_config(value: object) -> Mapping[str, Any]:
    """Return a log driver with its options, or nothing."""
    if isinstance(value, Mapping) and isinstance(value.get("type"), str):
        options = value.get("config", {})
        if set(value) <= {"type", "config"}:
            return {"type": value["type"], "config": pairs(options)}
    if value == {}:
        return {}
    msg = 'give {"type": driver, "config": {option: value}}'
    raise ValueError(msg)


def one_of(*words: str) -> Callable[[object], str]:
    """Return a parser that takes one of these words."""

    def parse(value: object) -> str:
        if value in words:
            return str(value)
        msg = f"choose from {', '.join(words)}"
        raise ValueError(msg)

    return parse


_YEAR_S: Final = 366 * 24 * 3600
# https://docs.docker.com/reference/cli/docker/image/tag/ has the rules.
_WORD: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST: Final = r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9-]+(?=:)|\[[0-9a-f:]+\])(?::\d+)?"
_REPOSITORY: Final = rf"(?:{_HOST}/)?{_WORD}(?:/{_WORD})*"
_FLAGS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
