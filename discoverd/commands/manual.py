"""The manual page, in the language of man(7), made from the same words as ``--help``. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click import Command, Context, Group

OUTLINE = """\
discoverd watches Docker Engines and Consul, and answers DNS questions for the services it finds there
with the addresses that the asker can reach. The commands other than serve, check and doctor talk to a
running server.
"""
ENVIRONMENT = (
    ("DISCOVERD_CONFIG", "The configuration file, as --config."),
    ("DISCOVERD_URL", "The server's HTTP address, as --url."),
    ("DISCOVERD_TOKEN", "The server's http.token, as --token."),
    ("NO_COLOR", "When set, nothing is coloured."),
)
FILES = (
    ("discoverd.toml", "In the working directory; read unless another file is named."),
    ("/etc/discoverd/discoverd.toml", "Read where there is none in the working directory."),
    ("/var/lib/discoverd", "State of a server that runs as root."),
)
STATUS = (
    ("0", "All is well."),
    ("1", "Not found, or what the machine or the server refused."),
    ("2", "Wrong usage or configuration, or no server there."),
)


def page(group: Group, version: str) -> str:
    """The whole page."""
    context = click.Context(group, info_name="discoverd", **group.context_settings)
    lines = [
        f'.TH DISCOVERD 1 "" "discoverd {version}" "User Commands"',
        ".SH NAME",
        f"discoverd \\- {_text(_summary(group))}",
        ".SH SYNOPSIS",
        ".B discoverd",
        ".I COMMAND",
        "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        _text(OUTLINE),
        ".SH COMMANDS",
    ]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            lines += _command(command, click.Context(command, info_name=name, parent=context))
    for title, entries in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXIT STATUS", STATUS)):
        lines.append(f".SH {title}")
        for term, text in entries:
            lines += _entry(f"\\fB{_text(term)}\\fR", text)
    lines += [".PP", "Every flag with a variable in brackets can be given in the environment as well."]
    return "\n".join(lines) + "\n"


def _command(command: Command, context: Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS discoverd {_text(context.info_name or '')} {_text(usage)}"
    yield _text(" ".join((command.help or "").split()))
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from _entry(f"\\fB{_text(record[0])}\\fR", record[1])


def _entry(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield term
    yield _text(text)


def _summary(group: Group) -> str:
    return (group.help or "").partition(":")[0]


def _text(text: str) -> str:
    """Text that roff takes for text: hyphens that can be copied, no line that begins with a request."""
    escaped = re.sub(r"\s+", " ", text).strip().replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)
