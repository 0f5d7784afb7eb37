from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import discoverd
from discoverd.config.settings import SETTINGS

REPO = Path(__file__).resolve().parents[1]


def run(*arguments: str, cwd: Path = REPO, **env: str) -> subprocess.CompletedProcess[str]:
    """The command as people run it, in an environment that says nothing else."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "discoverd", *arguments],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(REPO), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        f"discoverd {discoverd.__version__}\n",
        "",
    )


def test_help_has_every_flag_and_its_variable() -> None:
    for command in ("serve", "check"):
        text = run(command, "--help").stdout
        words = text.split()
        assert all(setting.flag in words and f"[{setting.variable}]" in words for setting in SETTINGS)
        assert "--config" in words


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("serve", "--ttl", "five"), "--ttl five: expected whole seconds from 0 to 604800"),
        (("check", "--listen", "web:53"), "--listen web:53: expected an IP address and a port"),
        (("check", "--config", "none.toml"), "--config none.toml: no such file"),
        (("check", "--tll", "5"), "No such option '--tll'. Did you mean '--ttl'"),
        (("check", "--ttl"), "Option '--ttl' requires an argument."),
        (("check", "extra"), "Got unexpected extra argument (extra)"),
        (("serv",), "No such command 'serv'."),
    ],
)
def test_what_was_asked_wrongly_is_one_line_and_status_2(arguments: tuple[str, ...], line: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"discoverd: {line}")
    assert result.stderr.count("\n") == 1


def test_a_wrong_variable_and_a_wrong_file_are_named(tmp_path: Path) -> None:
    assert run("serve", DISCOVERD_TTL="five").stderr == (
        "discoverd: DISCOVERD_TTL=five: expected whole seconds from 0 to 604800\n"
    )
    (tmp_path / "discoverd.toml").write_text('\nttl = "five"\n')
    result = run("check", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        'discoverd: discoverd.toml:2: ttl = "five": expected whole seconds from 0 to 604800\n',
    )


def test_no_command_is_help_and_status_2() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_check_prints_what_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "discoverd.toml").write_text('ttl = 9\nhttp.token = "hush"\n')
    result = run("check", "--scope", "strict", cwd=tmp_path, DISCOVERD_WORKERS="2")
    assert (result.returncode, result.stderr) == (0, "")
    shown = tomllib.loads(result.stdout)
    assert (shown["ttl"], shown["scope"], shown["workers"], shown["http"]["token"]) == (9, "strict", 2, "***")
    assert "ttl = 9  # discoverd.toml:1\n" in result.stdout
    assert 'scope = "strict"  # --scope\n' in result.stdout
    assert "workers = 2  # DISCOVERD_WORKERS\n" in result.stdout
    as_json = json.loads(
        run("check", "--json", "--scope", "strict", cwd=tmp_path, DISCOVERD_WORKERS="2").stdout
    )
    assert as_json.pop("forward")["upstreams"] == shown.pop("forward")["upstreams"]
    assert as_json == shown


def test_check_warns_of_a_misspelt_variable() -> None:
    result = run("check", DISCOVERD_LISTN=":53")
    assert result.returncode == 0
    assert result.stderr == (
        "discoverd: DISCOVERD_LISTN in the environment is not known, did you mean DISCOVERD_LISTEN?\n"
    )


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "discoverd", "check"],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1
