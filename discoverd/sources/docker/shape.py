"""Looking into JSON that others wrote: a missing, null or misshapen part is an empty one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def part(doc: Any, *path: str) -> Json:
    """The object at ``path``, or an empty one."""
    for key in path:
        doc = doc.get(key) if isinstance(doc, Mapping) else None
    return doc if isinstance(doc, Mapping) else {}


def text(doc: Json, key: str) -> str:
    """The string at ``key``, or an empty one."""
    value = doc.get(key)
    return value if isinstance(value, str) else ""


def objects(doc: Json, key: str) -> list[Json]:
    """The objects in the list at ``key``."""
    value = doc.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def texts(doc: Json, key: str) -> list[str]:
    """The strings in the list at ``key``."""
    value = doc.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def text_map(doc: Json) -> dict[str, str]:
    """What of an object is string to string."""
    return {k: v for k, v in doc.items() if isinstance(v, str)}
