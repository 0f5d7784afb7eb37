"""A configuration as people read it: the effective one as TOML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from discoverd.config.faults import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from discoverd.config.models import Config
    from discoverd.config.toml_lines import KeyPath


def as_toml(config: Config) -> str:
    """The effective configuration as a file that means the same, secrets redacted, origins beside."""
    return "\n".join(_table(config.redacted(), (), config.origins)) + "\n"


def _table(values: Mapping[str, Any], key: KeyPath, origins: Mapping[KeyPath, str]) -> Iterator[str]:
    """A table's own values first, then its tables: after a header everything belongs to that header."""
    for name, value in values.items():
        if not _is_table(value) and not _is_tables(value):
            origin = origins.get((*key, name))
            yield f"{dotted((name,))} = {as_value(value)}" + (f"  # {origin}" if origin else "")
    for name, value in values.items():
        below = (*key, name)
        if _is_table(value) and value:
            yield f"\n[{dotted(below)}]"
            yield from _table(value, below, origins)
        elif _is_tables(value):
            for index, entry in enumerate(value):
                yield f"\n[[{dotted(below)}]]"
                yield from _table(entry, (*below, index), origins)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(entry, dict) for entry in value)


def as_value(value: Any) -> str:
    """One value as TOML."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_value, value)) + "]"
    # JSON's texts, numbers and booleans are TOML's too, but for DEL, which only TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
