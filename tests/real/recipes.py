"""Blocks of docs/recipes.md, and the one that takes an image which another test has built."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.documents import page
from tests.real.compose import socket_of
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.engine import Engine


def recipe(language: str, section: str) -> str:
    """The one block in this language below this heading."""
    (found,) = (b for b in page("docs/recipes.md").blocks if b.language == language and b.section == section)
    return found.text


def run_in_a_container(engine: Engine, unique: Callable[[str], str]) -> None:
    """discoverd with plain Docker, as it is written; names, addresses and the socket are this machine's.

    The engine has the image ``discoverd``. AssertionError where the last command does not find it.
    """
    name, network, spare = unique("named"), unique("discovery"), engine.spare_network()
    socket = socket_of(engine).get("DOCKER_SOCKET", "/var/run/docker.sock")
    label = f"--label {engine.session.label}"
    text = recipe("sh", "discoverd in a container")
    for old, new in (
        ("/var/run/docker.sock)", f"{socket})"),
        ("--volume /var/run/docker.sock:", f"--volume {socket}:"),
        ("--volume discoverd:", f"--volume {name}:"),
        ("10.53.53.", f"{spare}."),
        ("--name discoverd", f"--name {name}"),
        ("discoverd.docker", f"{name}.docker"),
        ("create --subnet", f"create {label} --subnet"),
        ("--network discovery", f"--network {network}"),
        ("/24 discovery", f"/24 {network}"),
        ("busybox", engine.image),
    ):
        assert old in text
        text = text.replace(old, new)
    *begin, ask = text.replace("\\\n", " ").splitlines()
    shell = {"env": engine.env, "shell": True, "capture_output": True, "text": True}
    try:
        for line in begin:
            done = subprocess.run(line, check=False, timeout=120, **shell)  # type: ignore[call-overload]
            assert done.returncode == 0, done.stderr
        until(
            lambda: (
                f"Address: {spare}.53"
                in subprocess.run(ask, check=False, timeout=60, **shell).stdout.replace("\t", " ")  # type: ignore[call-overload]
            ),
            message=lambda: engine.docker("logs", name, check=False),
        )
    finally:
        engine.docker("rm", "--force", name, check=False)
        engine.docker("network", "rm", network, check=False)
        engine.docker("volume", "rm", name, check=False)
