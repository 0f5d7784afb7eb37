"""A real sshd on loopback, and a client configuration that reaches it with a key of its own."""

from __future__ import annotations

import contextlib
import getpass
import shlex
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import need
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator


class Sshd:
    """``url`` is its address; ``path`` a PATH in which ``ssh`` knows its key and has one that it lets in."""

    def __init__(self, folder: Path, port: int, path: str) -> None:
        self._folder, self.port, self.path = folder, port, path
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, socket: str) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{socket}"

    def start(self) -> None:
        with (self._folder / "sshd.log").open("a") as log:
            self._process = subprocess.Popen(
                [need("sshd", "openssh-server"), "-D", "-e", "-f", str(self._folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._listens, message=(self._folder / "sshd.log").read_text)

    def stop(self) -> None:
        """Its end; the connections of clients that are in live on."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@contextlib.contextmanager
def running(folder: Path) -> Generator[Sshd]:
    """One that lets this user in with the folder's key. UnavailableError where there is none."""
    ssh = need("ssh", "openssh-client")
    Path("/run/sshd").mkdir(
        mode=0o755, exist_ok=True
    )  # where its unprivileged part lives; the service makes it
    for key in ("host", "client"):
        command = [
            need("ssh-keygen", "openssh-client"),
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            str(folder / key),
        ]
        subprocess.run(command, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "authorized_keys").write_text((folder / "client.pub").read_text())
    known = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nPidFile none\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/client\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
    )
    # a user's configuration is found by the user's home alone, so that a test has to name its own
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(ssh)} -F {shlex.quote(f"{folder}/ssh_config")} "$@"\n')
    wrapper.chmod(0o755)
    made = Sshd(folder, port, f"{folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    made.start()
    try:
        yield made
    finally:
        made.stop()
