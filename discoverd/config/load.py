"""From flags, environment, file and the machine to one configuration, or to lines that say what is wrong."""

from __future__ import annotations

import difflib
import os.path
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from discoverd.config import contexts
from discoverd.config.endpoints import parse_listen
from discoverd.config.errors import ConfigError, shown
from discoverd.config.faults import Origins, leaves
from discoverd.config.machine import (
    DOCKER_SOCKET,
    LOCAL_NETWORKS,
    Machine,
    default_state_dir,
    default_upstreams,
    own_networks,
    this_machine,
)
from discoverd.config.models import Config
from discoverd.config.rules import contradictions
from discoverd.config.settings import CONFIG_FLAG, CONFIG_VARIABLE, OTHER_VARIABLES, SETTINGS
from discoverd.config.toml_lines import lines_of
from discoverd.config.values import as_list
from discoverd.naming import to_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYSTEM_FILE = Path("/etc/discoverd/discoverd.toml")
LOCAL_FILE = "discoverd.toml"
#: Consul's own variables, see :func:`_fill_consul`.
CONSUL_VARIABLES = {
    "CONSUL_HTTP_TOKEN": "token",
    "CONSUL_NAMESPACE": "namespace",
    "CONSUL_CACERT": "tls_ca",
    "CONSUL_CLIENT_CERT": "tls_cert",
    "CONSUL_CLIENT_KEY": "tls_key",
    "CONSUL_TLS_SERVER_NAME": "tls_server_name",
    "CONSUL_HTTP_SSL_VERIFY": "tls_verify",
}
#: A configuration is small; more than this is a mistake, such as a device or a log.
MAX_FILE_BYTES = 8 * 1024 * 1024
#: What messages show of a path, which is needed whole (PATH_MAX of linux/limits.h).
PATH_CHARACTERS = 4096


def load(
    flags: Mapping[str, str | Sequence[str] | None],
    environ: Mapping[str, str],
    cwd: Path,
    machine: Machine | None = None,
) -> Config:
    """The configuration from all that has a say: flag, then environment, then file, then default.

    ``flags`` has a flag's name (``log_level``) and its text, or texts where it is repeatable; None
    and () mean that it was not given, as an empty environment variable does. Relative paths in the
    file begin at the file, others at ``cwd``. Raises ConfigError with a line for each fault.
    """
    machine = machine or this_machine()
    origins = Origins()
    raw: dict[str, Any] = {}
    path: Path | None = None
    if found := _find_file(flags, environ, cwd):
        path, told, data = found
        raw = _parse(told, data, origins)
        _anchor_paths(raw, path.parent)
    _override(raw, flags, environ, origins)
    _fill_defaults(raw, environ, machine, origins)
    _anchor_paths(raw, cwd)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError([origins.translate(fault) for fault in error.errors()]) from None
    if faults := [origins.fault(*contradiction) for contradiction in contradictions(config)]:
        raise ConfigError(faults)
    came_from = {leaf: origins.of(leaf) for leaf in leaves(config.redacted())}
    config.remember(path, came_from, _near_misses(environ))
    return config


def _find_file(
    flags: Mapping[str, str | Sequence[str] | None], environ: Mapping[str, str], cwd: Path
) -> tuple[Path, str, bytes] | None:
    """The file to read, how it is called in messages, and its bytes; one that was named must be there."""
    named = ((f"{CONFIG_FLAG} ", flags.get("config")), (f"{CONFIG_VARIABLE}=", environ.get(CONFIG_VARIABLE)))
    for label, name in named:
        if name and isinstance(name, str):
            told = shown(name, quoted=False, most=PATH_CHARACTERS)
            path = cwd / os.path.expanduser(name)  # noqa: PTH111  # Path.expanduser raises for an unknown user
            data = _read(path, told)
            if data is None:
                raise ConfigError(f"{label}{told}: no such file")
            return path, told, data
    for path, told in ((cwd / LOCAL_FILE, LOCAL_FILE), (SYSTEM_FILE, str(SYSTEM_FILE))):
        if (data := _read(path, told)) is not None:
            return path, told, data
    return None


def _read(path: Path, told: str) -> bytes | None:
    """A file's bytes, None where there is no file; raises ConfigError for one that cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ConfigError(f"{told}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{told}: {MAX_FILE_BYTES} bytes and more: expected a configuration file")
    return data


def _parse(told: str, data: bytes, origins: Origins) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{told}:{line}: not UTF-8 text: expected TOML") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(_syntax_fault(told, str(error), data.count(b"\n") + 1)) from None
    origins.file, origins.lines = told, lines_of(text)
    return values


def _syntax_fault(told: str, message: str, last_line: int) -> str:
    """The parser's message with its position in front; ``(at end of document)`` is the last line."""
    found = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line = found[1] if found else str(last_line)
    reason = message.partition(" (at ")[0]
    return f"{told}:{line}: not valid TOML: {reason[:1].lower()}{reason[1:]}"


def _anchor_paths(raw: dict[str, Any], base: Path) -> None:
    """Make relative paths absolute, in place."""
    tables: list[tuple[dict[str, Any], tuple[str, ...]]] = [(raw, ("state_dir",))]
    certified = [*_listed(raw.get("docker")), raw.get("consul")]
    certified.append(raw.get("forward"))
    tables += [(e, ("tls_ca", "tls_cert", "tls_key")) for e in certified if isinstance(e, dict)]
    for table, keys in tables:
        for key in keys:
            value = table.get(key)
            if isinstance(value, str) and value.strip() and value != "off" and value.isprintable():
                table[key] = str(base / os.path.expanduser(value))  # noqa: PTH111


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _override(
    raw: dict[str, Any],
    flags: Mapping[str, str | Sequence[str] | None],
    environ: Mapping[str, str],
    origins: Origins,
) -> None:
    """Put what flags and variables say in place of what the file says."""
    for setting in SETTINGS:
        value, giver = flags.get(setting.name), setting.flag
        if not value and (text := environ.get(setting.variable, "").strip()):
            value = [part.strip() for part in text.split(",") if part.strip()] if setting.repeatable else text
            giver = setting.variable
        if value:
            origins.given[setting.key] = giver
            if setting.key == ("docker",):
                urls = [value] if isinstance(value, str) else value
                _put(raw, setting.key, _chosen_engines(raw.get("docker"), urls, origins))
            else:
                _put(raw, setting.key, value)


def _put(raw: dict[str, Any], key: Sequence[str], value: Any) -> None:
    """Set a key of nested tables; a table that is none is left for validation to refuse."""
    first, *rest = key
    if not rest:
        raw[first] = value
    elif isinstance(table := raw.setdefault(first, {}), dict):
        _put(table, rest, value)


def _chosen_engines(tables: Any, urls: Sequence[str], origins: Origins) -> list[Any]:
    """The engines that a flag or variable names; the file's tables keep what else they say of one."""
    known = {table.get("url"): i for i, table in enumerate(_listed(tables)) if isinstance(table, dict)}
    for position, url in enumerate(urls):
        if url in known:
            origins.moved[position] = known[url]
    return [_listed(tables)[known[url]] if url in known else url for url in urls]


def _fill_defaults(
    raw: dict[str, Any], environ: Mapping[str, str], machine: Machine, origins: Origins
) -> None:
    """Add what the machine decides where nobody said anything."""
    if "docker" not in raw:
        if host := environ.get("DOCKER_HOST", "").strip():
            raw["docker"] = [host]
            origins.given["docker",] = "DOCKER_HOST"
        elif (context := contexts.chosen(environ))[0]:
            raw["docker"] = [contexts.PREFIX + context[0]]
            origins.given["docker",] = context[1]
        else:
            raw["docker"] = [f"unix://{DOCKER_SOCKET}"] if machine.has_docker_socket else []
    if isinstance(raw["docker"], list):
        raw["docker"] = [_with_tls(_of_context(engine, environ), environ) for engine in raw["docker"]]
    try:
        written = raw.get("listen", Config.model_fields["listen"].default)
        listen = [parse_listen(text) for text in as_list(written)]
    except ValueError:
        listen = []  # refused later, with its origin
    near = list(dict.fromkeys((*LOCAL_NETWORKS, *own_networks(machine))))
    forward, dns = raw.setdefault("forward", {}), raw.setdefault("dns", {})
    if isinstance(forward, dict):
        forward.setdefault("upstreams", list(default_upstreams(machine, listen)))
        forward.setdefault("allow", near)
    if isinstance(dns, dict):
        dns.setdefault("rate_limit_exempt", near)
    raw.setdefault("state_dir", default_state_dir(environ, machine))
    _fill_consul(raw, environ, origins)


def _fill_consul(raw: dict[str, Any], environ: Mapping[str, str], origins: Origins) -> None:
    """What Consul's own variables say of the way to the agent that was named, where nobody else does.

    https://developer.hashicorp.com/consul/commands#environment-variables; CONSUL_HTTP_ADDR is not
    among them, since it would switch on what nobody asked discoverd for.
    """
    said = {key: value for key in CONSUL_VARIABLES if (value := environ.get(key, "").strip())}
    named = raw.get("consul")
    table = {"url": named} if isinstance(named, str) else named
    if not said or not isinstance(table, dict) or table.get("url") == "off":
        return
    secure = str(table.get("url")).strip().startswith("https:")
    for variable, value in said.items():
        key = CONSUL_VARIABLES[variable]
        if key not in table and (secure or not key.startswith("tls_")):
            table[key] = value.lower() not in {"0", "f", "false"} if key == "tls_verify" else value
            origins.given["consul", key] = variable
    raw["consul"] = table


def _of_context(engine: Any, environ: Mapping[str, str]) -> Any:
    """``context:NAME`` as the table that the context stands for; one that is none is refused later."""
    given = {"url": engine} if isinstance(engine, str) else engine
    url = given.get("url") if isinstance(given, dict) else None
    if not isinstance(url, str) or not url.startswith(contexts.PREFIX):
        return engine
    named = {"name": name} if (name := to_label(url.removeprefix(contexts.PREFIX))) else {}
    found = contexts.table(url, environ)
    return {**named, **given, **found} if found else engine


def _with_tls(engine: Any, environ: Mapping[str, str]) -> Any:
    """An engine that was named without a table gets the certificates that Docker's own variables name."""
    verify, folder = environ.get("DOCKER_TLS_VERIFY"), environ.get("DOCKER_CERT_PATH")
    if not isinstance(engine, str) or not engine.startswith(("tcp://", "https://")) or not (verify or folder):
        return engine
    base = Path(folder) if folder else Path(environ.get("HOME", "/")) / ".docker"
    files = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}
    table: dict[str, Any] = {key: str(base / name) for key, name in files.items()}
    return table | {"url": engine, "tls_verify": bool(verify)}


def _near_misses(environ: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each variable that looks like a misspelt one of ours.

    Others that begin like ours are let be: orchestrators set such for a service called discoverd.
    """
    known = {CONFIG_VARIABLE, *OTHER_VARIABLES, *(setting.variable for setting in SETTINGS)}
    return tuple(
        f"{name} in the environment is not known, did you mean {near[0]}?"
        for name in sorted(environ.keys() - known)
        if name.startswith("DISCOVERD_")
        and (near := difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.88))
    )
