"""The failure rules that the lines of an app match while its logs are copied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_torchx.core.state.failure_rules import with_replicas
from airflow_torchx.core.state.report import cursor_key
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_torchx.core.logs.cursor import Cursor
    from airflow_torchx.core.logs.lines import LogLine
    from airflow_torchx.core.state.rule_search import RuleSearch
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus


class RuleMatches:
    """Collects which rules the lines of each replica match, while they pass.

    A rule is searched for until it has matched once; each round has matches of its own.

    Args:
        search: searches for the rules of the app.
        after: cursors of earlier writers, which have the rules that their lines match.
    """

    def __init__(self, search: RuleSearch, after: Mapping[str, Cursor] | None = None) -> None:
        self._search = search
        self._found = {key: set(cursor.rules.split()) for key, cursor in (after or {}).items()}

    def search(self, replica: ReplicaStatus, lines: Iterable[LogLine]) -> None:
        """Search lines of one replica, all at once, which is faster than one by one."""
        if not self._search.rules:
            return
        found = self._found.setdefault(cursor_key(replica), set())
        text = "\n".join([line.text for line in lines])
        for rule in self._search.rules:
            if rule.name not in found and self._search.matches(rule, text):
                found.add(rule.name)

    def kept_in(self, cursors: Mapping[str, Cursor]) -> dict[str, Cursor]:
        """Return the cursors with the rules that the lines before them match."""
        return {
            key: replace(cursor, rules=" ".join(sorted(self._found.get(key, ()))))
            for key, cursor in cursors.items()
        }

    def mark(self, app: DescribeAppResponse) -> DescribeAppResponse:
        """Return an app with the first rule that each replica matched.

        Without a failure of the app, these are auxiliary replicas that failed.
        """
        if app.state is not AppState.FAILED:
            return with_replicas(
                app, lambda one: self._marked(one) if one.state is AppState.FAILED else one
            )
        return with_replicas(app, self._marked)

    def _marked(self, replica: ReplicaStatus) -> ReplicaStatus:
        found = self._found.get(cursor_key(replica), set())
        if replica.state is AppState.SUCCEEDED or not found:
            return replica
        names = (rule.name for rule in self._search.rules if rule.name in found)
        return replace(replica, rule=next(names, ""))
