"""Commands and flags; the only place that prints or exits.

Exit status: 0, 1 for what the machine or the server refused, 2 for what was asked wrongly.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import click

from discoverd import __version__, eventloop, log
from discoverd.commands.client import DEFAULT_URL, Client, RefusedError, UnreachableError
from discoverd.commands.table import Table, clean, plain, pretty
from discoverd.config import Config, ConfigError, load
from discoverd.config.settings import CONFIG_FLAG, SETTINGS
from discoverd.config.show import as_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Flags = Mapping[str, str | Sequence[str] | None]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, no_args_is_help=True
)
@click.version_option(__version__, message="discoverd %(version)s")
def cli() -> None:
    """DNS-based service discovery for containers: answers that the asker can reach."""


def config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every flag of the configuration; values are checked by the configuration itself."""
    for setting in reversed(SETTINGS):
        text = f"{setting.help} [{setting.variable}]"
        if setting.switch:
            option = click.option(setting.flag, flag_value="true", help=text)
        else:
            option = click.option(
                setting.flag, metavar=setting.metavar, multiple=setting.repeatable, help=text
            )
        command = option(command)
    return click.option(CONFIG_FLAG, metavar="PATH", help="Read this file. [DISCOVERD_CONFIG]")(command)


@cli.command()
@config_flags
def serve(**flags: Any) -> None:
    """Answer DNS questions until told to stop."""
    from discoverd import service
    from discoverd.privileges import use_what_is_allowed
    from discoverd.wiring import StartError

    config = _configuration(flags)
    log.set_up(config.log.level, config.log.format)
    for note in config.notes:
        logging.getLogger("discoverd.config").warning(note)
    use_what_is_allowed(engine.url.removeprefix("unix://") for engine in config.docker)
    try:
        eventloop.run(service.run(config, reload=lambda: load(flags, os.environ, Path.cwd())))
    except StartError as error:
        _stop(1, str(error))


@cli.command()
@config_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of TOML.")
def check(*, as_json: bool, **flags: Any) -> None:
    """Validate the configuration and print the effective one, secrets redacted."""
    config = _configuration(flags)
    for note in config.notes:
        click.echo(f"discoverd: {note}", err=True)
    click.echo(json.dumps(config.redacted(), indent=2) if as_json else as_toml(config).rstrip())


def server_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that talks to a running server what says which one, and --json."""
    options = (
        click.option("--url", metavar="URL", help="The server's HTTP address. [DISCOVERD_URL]"),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("name", required=False)
@server_flags
def services(*, name: str | None, url: str | None, as_json: bool) -> None:
    """Show what the server knows: services, instances, health, addresses, ports, names."""
    from discoverd.commands import services as command

    with _asking(url) as client:
        said = command.fetch(client, name)
        _print(said if as_json else command.table(said))


@cli.command()
@click.argument("name", required=False)
@server_flags
def watch(*, name: str | None, url: str | None, as_json: bool) -> None:
    """Show what is there (=), then what comes (+), changes (~) and goes (-), until interrupted."""
    from discoverd.commands import follow

    with _asking(url) as client:
        for seen in follow.watch(client, name, _note):
            click.echo(json.dumps(seen.as_json()) if as_json else clean(seen.line()))


@cli.command()
@click.argument("name")
@click.option("--count", type=click.IntRange(min=1), default=1, help="So many instances. [1]")
@click.option("--healthy", is_flag=True, help="Count healthy ones only.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after this.")
@server_flags
def wait(
    *, name: str, count: int, healthy: bool, timeout: float | None, url: str | None, as_json: bool
) -> None:
    """Block until a name has that many running instances; status 1 when the time is over."""
    from discoverd.commands import follow

    with _asking(url) as client:
        met, found = follow.wait(client, follow.Wanted(name, count, healthy), timeout)
    if as_json:
        _print({"met": met, "instances": found})
    if not met:
        kind = "healthy instances" if healthy else "running instances"
        _stop(1, f"{name} has {len(found)} of {count} {kind} after {timeout:g} s")


@cli.command()
@click.argument("name")
@click.option("--type", "rtype", default="A", metavar="TYPE", help="The record type. [A]")
@click.option("--client", "asker", metavar="IP", help="Who asks; default: this machine.")
@server_flags
def explain(*, name: str, rtype: str, asker: str | None, url: str | None, as_json: bool) -> None:
    """Show what an asker would be answered and why: its view, what was served, what was left out."""
    from discoverd.commands import explain as command

    with _asking(url) as client:
        said = command.fetch(client, name, rtype, asker)
    if as_json:
        _print(said)
    else:
        for line in command.head(said):
            click.echo(line)
        if (table := command.considered(said)) is not None:
            _print(table)
    if said["status"] == "NXDOMAIN":
        sys.exit(1)


@cli.command(context_settings={"ignore_unknown_options": False})
@click.argument("service")
@click.option("--address", "addresses", multiple=True, required=True, metavar="IP", help="Where it listens.")
@click.option("--port", "ports", multiple=True, metavar="[NAME=]PORT[/PROTOCOL]", help="On which ports.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A name in front of the service's.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata, served as TXT.")
@click.option("--scope", default="", metavar="NAME", help="What the service's name is unique in.")
@click.option("--ttl", type=int, metavar="SECONDS", help="How long answers may be cached.")
@click.option("--weight", type=int, default=1, help="Its share of the load. [1]")
@click.option("--lease", type=int, metavar="SECONDS", help="Gone after this unless renewed.")
@click.option("--id", "ident", metavar="ID", help="Its own name; default: made from service, address, port.")
@click.option("--token", envvar="DISCOVERD_TOKEN", help="The server's http.token. [DISCOVERD_TOKEN]")
@server_flags
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def register(*, service: str, command: tuple[str, ...], url: str | None, as_json: bool, **given: Any) -> None:
    """Register an instance. With COMMAND: run it, renew while it lives, deregister at its end."""
    from discoverd.commands import register as registering

    meta = dict(pair.partition("=")[::2] for pair in given["meta"])
    port = given["ports"][0] if given["ports"] else None
    ident = given["ident"] or registering.default_id(service, given["scope"], given["addresses"][0], port)
    body = {
        "service": service,
        "meta": meta,
        "lease": given["lease"] or (registering.LEASE_SECONDS if command else None),
        **{key: list(given[key]) for key in ("addresses", "ports", "tags")},
        **{key: given[key] for key in ("scope", "ttl", "weight")},
    }
    body["ports"] = [int(text) if text.isdecimal() else text for text in body["ports"]]
    with _asking(url, given["token"]) as client:
        lease = registering.Lease(client, ident, body, _note)
        if not command:
            said = lease.begin()
            _print(said) if as_json else click.echo(f"{ident} is registered as {', '.join(said['names'])}")
            return
        try:
            status = registering.run(lease, command)
        except OSError as error:
            _stop(126 if isinstance(error, PermissionError) else 127, f"{command[0]}: {error.strerror}")
    sys.exit(status)


@cli.command()
@click.argument("ident", metavar="ID")
@click.option("--token", envvar="DISCOVERD_TOKEN", help="The server's http.token. [DISCOVERD_TOKEN]")
@server_flags
def deregister(*, ident: str, token: str | None, url: str | None, as_json: bool) -> None:
    """Remove an instance that was registered."""
    with _asking(url, token) as client:
        client.send("DELETE", f"v1/instances/{quote(ident, safe='')}")
    if as_json:
        _print({"id": ident})


@cli.command()
@click.argument("name", required=False)
@click.option("--token", envvar="DISCOVERD_TOKEN", help="The server's http.token. [DISCOVERD_TOKEN]")
@server_flags
def flush(*, name: str | None, token: str | None, url: str | None, as_json: bool) -> None:
    """Forget what other name servers answered, of NAME and all below it or all."""
    with _asking(url, token) as client:
        said = client.send("DELETE", f"v1/cache/{quote(name, safe='')}" if name else "v1/cache")
    count = said["flushed"]
    _print(said) if as_json else click.echo(f"{count} answer{'s are' if count != 1 else ' is'} forgotten")


@cli.command()
@config_flags
@server_flags
def doctor(*, url: str | None, as_json: bool, **flags: Any) -> None:
    """Check what usually goes wrong, and say how to mend it."""
    from discoverd.commands import doctor as command

    config = _configuration(flags)
    with _asking(url) as client:
        reached, findings = command.examine(config, client)
    _print([finding.as_json() for finding in findings] if as_json else command.table(findings))
    if not reached:
        sys.exit(2)
    sys.exit(1 if any(finding.verdict == command.PROBLEM for finding in findings) else 0)


@cli.command(hidden=True)
def manual() -> None:
    """Print the manual page: discoverd manual > docs/discoverd.1."""
    from discoverd.commands.manual import page

    click.echo(page(cli, __version__), nl=False)


@cli.command(hidden=True)
@click.argument("which", type=click.Choice(["configuration", "labels"]))
def reference(*, which: str) -> None:
    """Print a page of the documentation that is made from the code, see `make docs`."""
    from discoverd.commands import labels
    from discoverd.commands import reference as pages

    click.echo(pages.configuration(cli) if which == "configuration" else labels.page(), nl=False)


@contextmanager
def _asking(url: str | None, token: str | None = None) -> Iterator[Client]:
    """A client of the running server; what goes wrong between them ends the command."""
    try:
        client = Client(url or os.environ.get("DISCOVERD_URL") or DEFAULT_URL, token)
    except ValueError as error:
        _stop(2, f"{'--url' if url else 'DISCOVERD_URL'} {error}")
    try:
        yield client
    except (UnreachableError, TimeoutError) as error:
        _stop(2, str(error) or "the server does not answer")
    except RefusedError as error:
        _stop(1, clean(str(error)))


def _print(what: Any) -> None:
    """A table for a terminal or for other programs, anything else as JSON."""
    if not isinstance(what, Table):
        click.echo(json.dumps(what, indent=2))
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns
    for line in pretty(what, width, colour=colour) if sys.stdout.isatty() else plain(what):
        click.echo(line, color=True)


def _note(line: str) -> None:
    click.echo(f"discoverd: {clean(line)}", err=True)


def _configuration(flags: Flags) -> Config:
    try:
        return load(flags, os.environ, Path.cwd())
    except ConfigError as error:
        _stop(2, error.line)


def _stop(status: int, line: str) -> NoReturn:
    click.echo(f"discoverd: {line}", err=True)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; whatever goes wrong ends in one line and an exit status."""
    try:
        cli.main(arguments, prog_name="discoverd", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "discoverd"
        _stop(2, f"{error.format_message()} See {command} --help.".replace("\n", " "))
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output went away; its descriptor is replaced so that closing it cannot fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the last line of defence: no traceback for people
        logging.getLogger("discoverd").debug("internal error", exc_info=True)
        _stop(1, f"internal error: {type(error).__name__}: {error}; --log-level debug shows where")
