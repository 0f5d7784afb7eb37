"""The query log: what was asked and answered, for people and for programs. docs/query-log.md."""

from discoverd.querylog.log import QueryLog, Settings

__all__ = ["QueryLog", "Settings"]
