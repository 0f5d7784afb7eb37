"""The manual page, and completion in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from discoverd import __version__
from discoverd.cli import cli
from discoverd.commands.manual import page
from tests.http.have import or_skip
from tests.real.debian import REPO, need

if TYPE_CHECKING:
    from pathlib import Path

MANUAL = REPO / "docs" / "discoverd.1"


def test_the_manual_page_says_what_help_says() -> None:
    text = MANUAL.read_text()
    assert text == page(cli, __version__), "make it anew: make docs"
    shown = text.replace("\\-", "-")
    for name, command in cli.commands.items():
        assert command.hidden or f".SS discoverd {name} " in shown
        for parameter in command.params:
            assert command.hidden or all(option in shown for option in parameter.opts if option[0] == "-")


def test_groff_and_man_have_nothing_to_say_of_it() -> None:
    with or_skip():
        groff, man = need("groff", "groff-base"), need("man", "man-db")
    for command in ([groff, "-man", "-Tutf8", "-ww", "-z"], [man, "--warnings", "--local-file"]):
        done = subprocess.run(
            [*command, str(MANUAL)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANROFFSEQ": ""},
        )
        assert done.stderr == ""
    assert "discoverd services [OPTIONS] [NAME]" in done.stdout
    assert re.search(r"--state-dir PATH\n\s+Keep\s+registrations\s+here", done.stdout)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With the command on the PATH, and nothing of the caller's own shells."""
    program = tmp_path / "bin" / "discoverd"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPO)!r})\n"
        "from discoverd.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}


def test_bash_completes(environment: dict[str, str]) -> None:
    with or_skip():
        bash = need("bash", "bash")
    script = """
        eval "$(_DISCOVERD_COMPLETE=bash_source discoverd)"
        complete -p discoverd
        COMP_WORDS=(discoverd dereg) COMP_CWORD=1
        _discoverd_completion discoverd
        echo "offers ${COMPREPLY[@]}"
        COMPREPLY=() COMP_WORDS=(discoverd services --j) COMP_CWORD=2
        _discoverd_completion discoverd
        echo "offers ${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "-F _discoverd_completion discoverd" in done.stdout
    assert "offers deregister\noffers --json\n" in done.stdout, done.stderr


def test_fish_completes(environment: dict[str, str]) -> None:
    with or_skip():
        fish = need("fish", "fish")
    script = "_DISCOVERD_COMPLETE=fish_source discoverd | source; complete -C 'discoverd dereg'"
    done = subprocess.run(
        [fish, "--no-config", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("deregister\t"), done.stdout + done.stderr


def test_zsh_completes(environment: dict[str, str]) -> None:
    """With its tab key: its completion works at a terminal only."""
    with or_skip():
        zsh = need("zsh", "zsh")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(zsh, [zsh, "-f", "-i"], environment)
    try:
        os.write(
            terminal,
            b"unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D;"
            b' eval "$(_DISCOVERD_COMPLETE=zsh_source discoverd)"; echo rea""dy\r',
        )
        read_until(terminal, "ready\r\n")
        os.write(terminal, b"echo got discoverd dereg\x15discoverd dereg\t")
        read_until(terminal, "discoverd deregister ")
    finally:
        os.kill(pid, 9)
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal: int, text: str, seconds: float = 60) -> None:
    """Until a terminal shows this."""
    seen, end = "", time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < end, f"no {text!r} in {seen!r}"
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
