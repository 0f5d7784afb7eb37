"""The configuration's reference as Markdown, made of the models, the flags and the commands themselves.

What a key takes is asked of its own validator, so it says what a wrong value is told. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import click
from pydantic import BaseModel, TypeAdapter, ValidationError

from discoverd.commands import whole
from discoverd.config.load import CONSUL_VARIABLES
from discoverd.config.models import Config
from discoverd.config.settings import AT_START, CONFIG_FLAG, CONFIG_VARIABLE, SETTINGS
from discoverd.config.show import as_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from click import Command, Group
    from pydantic.fields import FieldInfo

HEAD = """\
# Configuration

Every flag, environment variable and key of the file. Made from the code by `make docs`; a test fails when it
says anything else.

A flag goes before an environment variable, this before the file, and that before the default. The file is
the one that `--config` or `DISCOVERD_CONFIG` names, else `discoverd.toml` in the working directory, else
`/etc/discoverd/discoverd.toml`, else none. What is in force, and where each value came from:

```sh
discoverd check
discoverd check --config /etc/discoverd/discoverd.toml --ttl 2
```

- A flag that may be repeated is a list with commas in the environment. Either replaces the file's whole list.
- Where a list is expected one value alone is a list of one; `"off"` is the empty list.
- Relative paths begin at the file, those of flags and variables at the working directory.
- A wrong value or an unknown key is one line that names the flag, variable, or file and line; exit status 2.
- SIGHUP reads it all again. What is wrong then is logged, and the running configuration is kept.
"""
#: What is read of the environment beside the settings' own variables.
OTHERS = {
    CONFIG_VARIABLE: "the configuration file, as `--config`",
    "DISCOVERD_URL": "where the commands that ask a running server find it, as `--url`",
    "DISCOVERD_TOKEN": "the token that they send, as `--token`",
    "NO_COLOR": "when set, tables have no colours",
    "DOCKER_HOST": "the engine, where none is configured",
    "DOCKER_CONTEXT": "the docker client's context, where neither an engine nor `DOCKER_HOST` is given",
    "DOCKER_CONFIG": "the docker client's folder, where contexts are; `~/.docker` by default",
    "DOCKER_TLS_VERIFY": "when set, TLS to an engine that is named without a table",
    "DOCKER_CERT_PATH": "the folder of `ca.pem`, `cert.pem` and `key.pem` for that; `~/.docker` by default",
    "STATE_DIRECTORY": "`state_dir`, where nobody says another; set by systemd",
    "XDG_STATE_HOME": "the folder that `discoverd/` is made in, for users other than root",
    "NOTIFY_SOCKET": "set by systemd: where to say that the server is ready, reloads, stops and is well",
    "WATCHDOG_USEC": "set by systemd: how often it wants to hear that",
    "WATCHDOG_PID": "set by systemd: for whom that is meant",
    "LISTEN_FDS": "set by systemd: how many open sockets it hands over",
    "LISTEN_PID": "set by systemd: to whom",
    "LISTEN_FDNAMES": "set by systemd: what they are for; `http` is HTTP, all else DNS",
}
#: A default as prose in a description, see discoverd/config/models.py.
_DEFAULT = "; default: "


def configuration(group: Group) -> str:
    """The whole page."""
    lines = [HEAD]
    tables: list[tuple[str, type[BaseModel]]] = [("", Config)]
    tables += [(_key(name, field), model) for name, field in _fields(Config) if (model := _model(field))]
    for table, model in tables:
        lines += _table(table, model)
    lines += _at_start()
    lines += _environment()
    lines += _commands(group)
    return "\n".join(lines) + "\n"


def tables() -> Iterator[tuple[str, str]]:
    """Every key of the file as (table, key), the table empty for those before any."""
    for name, field in _fields(Config):
        if model := _model(field):
            yield from ((_key(name, field), _key(*each)) for each in _fields(model))
        else:
            yield "", _key(name, field)


def _table(table: str, model: type[BaseModel]) -> Iterator[str]:
    field = next((f for n, f in _fields(Config) if _key(n, f) == table), None)
    repeated = field is not None and str(field.annotation).startswith("tuple")
    yield f"## {'Before any table' if not table else f'`[[{table}]]`' if repeated else f'`[{table}]`'}\n"
    if field is not None:
        yield f"{_about(field, model)}\n"
    yield "| key | takes | default | what it is |\n|---|---|---|---|"
    for name, each in _fields(model):
        if _model(each) is None:
            meaning, default = _split(each)
            given = _given_as((table, _key(name, each)) if table else (_key(name, each),))
            yield _row(f"`{_key(name, each)}`", _takes(each), default, meaning + given)
    yield f"\n```toml\n{whole.TABLES[table]}```\n"


def _about(field: FieldInfo, model: type[BaseModel]) -> str:
    text = " ".join((model.__doc__ or "").split())
    if default := (field.description or "").partition(_DEFAULT)[2]:
        text += f" Without any: {default}."
    elif field.default is None:
        text += " Without this table: none."
    return text


def _given_as(key: tuple[str, ...]) -> str:
    """The flag and the variable of a key, as the end of its meaning."""
    wanted = key[:1] if key == ("docker", "url") else key
    for setting in SETTINGS:
        if setting.key == wanted:
            often = ", may be repeated" if setting.repeatable else ""
            return f". `{setting.flag} {setting.metavar}`{often}; `{setting.variable}`"
    return ""


def _takes(field: FieldInfo) -> str:
    """What the validator expects, in its own words, as it says them to a value that is nothing at all."""
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    fault = _refused(kind)
    if fault["type"] != "value_error":
        return f"a table; each value {_said(_refused(get_args(field.annotation)[1]))}"
    return _said(fault)


def _refused(kind: Any) -> Any:
    try:
        TypeAdapter(kind).validate_python(object())
    except ValidationError as error:
        return error.errors()[0]
    raise AssertionError(f"a key that takes anything: {kind}")


def _said(fault: Any) -> str:
    """The words of a refusal; one that is about an item was a list's."""
    text = str(fault["ctx"]["error"]).removeprefix("expected ")
    return f"a list; each {text}" if fault["loc"] else text


def _split(field: FieldInfo) -> tuple[str, str]:
    """Meaning and default."""
    meaning, _, said = (field.description or "").partition(_DEFAULT)
    if said:
        return meaning, said
    if field.is_required():
        return meaning, "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), {}):
        return meaning, "none"
    return meaning, f"`{as_value(_plain(default))}`"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | str) else str(value)


def _at_start() -> Iterator[str]:
    keys = ", ".join(f"`{'.'.join(key)}`" for key in AT_START)
    yield f"## Reload\n\nAt the next start only: {keys}. A reload that changes one says so in the log;"
    yield "everything else takes effect with it, in all workers.\n"


def _environment() -> Iterator[str]:
    yield "## Environment\n\n| variable | what it is |\n|---|---|"
    for setting in SETTINGS:
        yield _row(f"`{setting.variable}`", f"`{setting.flag}`, `{'.'.join(setting.key)}`")
    for variable, meaning in OTHERS.items():
        yield _row(f"`{variable}`", meaning)
    for variable, key in CONSUL_VARIABLES.items():
        yield _row(f"`{variable}`", f"`consul.{key}`, where an agent is configured and nothing else says it")
    yield ""


def _commands(group: Group) -> Iterator[str]:
    """Flags of the commands other than those of the configuration, and without those that all have."""
    yield "## Flags of the commands\n"
    yield "`serve`, `check` and `doctor` take every flag above, and `--config PATH`. Those that ask a"
    yield "running server take `--url URL`, and all but `serve` take `--json`. What else there is:\n"
    yield "| command | flag | what it is |\n|---|---|---|"
    context = click.Context(group, info_name="discoverd", **group.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield from _flags(name, command, context)
    yield "\n[commands.md](commands.md) says what the commands do."


def _flags(name: str, command: Command, parent: click.Context) -> Iterator[str]:
    known = {"--help", "--url", "--json"}
    if name in {"serve", "check", "doctor"}:
        known |= {CONFIG_FLAG, *(setting.flag for setting in SETTINGS)}
    context = click.Context(command, info_name=name, parent=parent)
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not known & set(option.opts):
            flag, text = option.get_help_record(context) or ("", "")
            yield _row(f"`{name}`", f"`{flag}`", text.replace("  ", " "))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _fields(model: type[BaseModel]) -> Iterable[tuple[str, FieldInfo]]:
    fields: Mapping[str, FieldInfo] = model.model_fields
    return fields.items()


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _model(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a table or a list of tables."""
    waiting: list[Any] = [field.annotation]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        waiting += get_args(kind)
    return None
