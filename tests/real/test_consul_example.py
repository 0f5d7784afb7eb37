"""The files of examples/consul are what Consul and discoverd take."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.real.conftest import or_left_out
from tests.real.consul import binary
from tests.real.debian import REPO

EXAMPLES = REPO / "examples" / "consul"


@pytest.mark.consul
@pytest.mark.parametrize("name", ["server.json", "agent.json"])
def test_consul_takes_its_files(name: str) -> None:
    with or_left_out():
        consul = binary()
    done = subprocess.run([consul, "validate", EXAMPLES / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_discoverd_takes_its_file() -> None:
    command = [sys.executable, "-m", "discoverd", "check", "--config", str(EXAMPLES / "discoverd.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'url = "http://127.0.0.1:8500"' in done.stdout
