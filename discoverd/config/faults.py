"""Where a setting came from, and what is said of it when it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from discoverd.config.errors import did_you_mean, shown
from discoverd.config.models import (
    Config,
    ConsulConfig,
    DnsConfig,
    DockerConfig,
    ForwardConfig,
    Frozen,
    HealthConfig,
    HttpConfig,
    LogConfig,
    ServiceConfig,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from discoverd.config.toml_lines import KeyPath

_TABLES: dict[tuple[str, ...], type[Frozen]] = {
    (): Config,
    ("docker",): DockerConfig,
    ("consul",): ConsulConfig,
    ("forward",): ForwardConfig,
    ("http",): HttpConfig,
    ("dns",): DnsConfig,
    ("health",): HealthConfig,
    ("log",): LogConfig,
    ("service",): ServiceConfig,
}


@dataclass(slots=True)
class Origins:
    """Who said what: a flag, a variable, a line of the file, the machine, or nobody."""

    #: The configuration file as it is shown, and its keys' lines.
    file: str = ""
    lines: dict[KeyPath, int] = field(default_factory=dict)
    #: Settings from elsewhere: ``--ttl``, ``DISCOVERD_TTL``, ``DOCKER_HOST``.
    given: dict[KeyPath, str] = field(default_factory=dict)
    #: Engines that a flag chose among the file's tables: position now -> position in the file.
    moved: dict[int, int] = field(default_factory=dict)

    def giver(self, key: KeyPath) -> str | None:
        """The flag or variable that a key comes from, None for the file."""
        if key[:1] == ("docker",) and len(key) > 2 and key[1] in self.moved and key[2] != "url":
            return None
        return next((self.given[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.given), None)

    def of(self, key: KeyPath) -> str:
        """``--ttl``, ``DISCOVERD_TTL``, ``discoverd.toml:12`` or ``default``."""
        if giver := self.giver(key):
            return giver
        key = self._in_file(key)
        return f"{self.file}:{self.lines[key]}" if key in self.lines else "default"

    def fault(self, key: KeyPath, value: object, expected: str) -> str:
        """One line: where the value came from, the value, and what was expected."""
        giver = self.giver(key)
        secret = key[-1:] == ("token",)
        if giver:
            said = "***" if secret else shown(value, quoted=False)
            return f"{giver}{' ' if giver.startswith('--') else '='}{said}: {expected}"
        text = '"***"' if secret else shown(value)
        return f"{self._line(key)}: {dotted(key)} = {text}: {expected}"

    def translate(self, error: ErrorDetails) -> str:
        """One line for one of pydantic's errors."""
        key = tuple(part for part in error["loc"] if part != "[key]")
        kind = error["type"]
        plain = tuple(part for part in key if isinstance(part, str))
        if kind == "extra_forbidden":
            model = _TABLES.get(plain[:-1], Config)
            known = [f.alias or name for name, f in model.model_fields.items()]
            return f'{self._line(key)}: unknown key "{dotted(key)}": {did_you_mean(plain[-1], known)}'
        if kind == "missing":
            wanted = _TABLES[plain[:-1]].model_fields[plain[-1]].description
            return f"{self._line(key)}: {dotted(key)} is missing: expected {wanted}"
        if kind == "value_error":
            expected = str(error["ctx"]["error"])
        elif kind in {"model_type", "model_attributes_type", "dict_type", "mapping_type"}:
            expected = "expected a table"
        else:
            expected = error["msg"].replace("\n", " ")
        return self.fault(key, error["input"], expected)

    def _in_file(self, key: KeyPath) -> KeyPath:
        """Where a key stands in the file: engines may have moved, one table may be a list of one."""
        if len(key) > 1 and key[1] == 0 and key[:2] not in self.lines:
            return (*key[:1], *key[2:])
        if key[:1] == ("docker",) and len(key) > 1 and isinstance(key[1], int):
            return (*key[:1], self.moved.get(key[1], key[1]), *key[2:])
        return key

    def _line(self, key: KeyPath) -> str:
        """The file's line for a key, or for the table it is missing from."""
        key = self._in_file(key)
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.file}:{self.lines.get(key, 1)}"


def dotted(key: KeyPath) -> str:
    """A key as people write it, ``forward.upstreams``; positions in lists are left out."""
    return ".".join(part if part.isidentifier() else shown(part) for part in key if isinstance(part, str))


def leaves(value: Any, key: KeyPath = ()) -> list[KeyPath]:
    """The keys of a dumped configuration that have a value of their own; lists of values count as one."""
    if isinstance(value, dict):
        return [leaf for name, entry in value.items() for leaf in leaves(entry, (*key, name))]
    if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        return [leaf for index, entry in enumerate(value) for leaf in leaves(entry, (*key, index))]
    return [key]
