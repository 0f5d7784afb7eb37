"""Commands and flags; the only place that prints or exits.

Exit status: 0, 1 for what the machine or the server refused, 2 for what was asked wrongly.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from discoverd import __version__, log
from discoverd.config import Config, ConfigError, load
from discoverd.config.settings import CONFIG_FLAG, SETTINGS
from discoverd.config.show import as_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
        option = click.option(setting.flag, metavar=setting.metavar, multiple=setting.repeatable, help=text)
        command = option(command)
    return click.option(CONFIG_FLAG, metavar="PATH", help="Read this file. [DISCOVERD_CONFIG]")(command)


@cli.command()
@config_flags
def serve(**flags: Any) -> None:
    """Answer DNS questions until told to stop."""
    from discoverd import app
    from discoverd.privileges import use_what_is_allowed

    config = _configuration(flags)
    log.set_up(config.log.level, config.log.format)
    for note in config.notes:
        logging.getLogger("discoverd.config").warning(note)
    use_what_is_allowed(engine.url.removeprefix("unix://") for engine in config.docker)
    try:
        asyncio.run(app.run(config, reload=lambda: load(flags, os.environ, Path.cwd())))
    except app.StartError as error:
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
