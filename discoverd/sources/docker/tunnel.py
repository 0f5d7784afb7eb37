"""The way to an engine's socket on another host: OpenSSH leads a socket here to the one there.

The docker client's own ``ssh://`` starts one ssh for every connection, has no timeouts, and its
event stream cannot be closed. One ssh that forwards is a socket like any other, and the user's
``~/.ssh/config``, agent and known hosts count (ssh(1), ``-L local_socket:remote_socket``).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from discoverd.sources.docker.fault import EngineAwayError

#: The engine's socket there, where the URL names none.
SOCKET = "/var/run/docker.sock"
#: Seconds for ssh to be let in.
PATIENCE = 30.0
LAST_SECONDS = 5.0
OPTIONS = (
    *("-N", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=INFO"),
    *("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "StreamLocalBindMask=0177"),
    # notices within half a minute that the other end has vanished without a word
    *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=2"),
)
#: Ends ssh when discoverd has ended, be it by SIGKILL: then the pipe that is its input closes.
#: Its folder goes with it.
LEASH = """
exec 3<&0
"$@" </dev/null 3<&- & ssh=$!
(while read -r _ <&3; do :; done; rm -rf "$0"; kill $ssh) 2>/dev/null & leash=$!
wait $ssh
kill $leash
"""

#: What ssh says -> what it means, and what mends it.
MEANINGS = (
    (
        "Permission denied",
        "it lets none of the keys at hand in; `ssh {there}` has to work without a password",
    ),
    ("Host key verification failed", "its host key is not known here; check it and run `ssh {there}` once"),
    ("HOST IDENTIFICATION HAS CHANGED", "its host key is another than before; see ~/.ssh/known_hosts"),
    ("Could not resolve hostname", "no address is known for that host; check the name"),
    ("administratively prohibited", "its sshd forbids it; AllowStreamLocalForwarding has to allow it"),
    ("open failed", "there is no engine at {socket}, or {there} may not open it (group docker)"),
    ("Connection refused", "nothing listens there; is sshd running, and the port right?"),
)


class Tunnel:
    """An open way. Starting it blocks until it is open; raises EngineAwayError with what ssh said."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._there = urlsplit(url)
        if shutil.which("ssh") is None:
            raise EngineAwayError(f"{url}: there is no ssh on this machine: install openssh-client")
        self._folder = Path(tempfile.mkdtemp(prefix="discoverd-ssh-"))
        self.socket = self._folder / "engine.sock"
        self._said = self._folder / "said"
        command = ["ssh", *OPTIONS, *_place(self._there, self.socket)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603 - the URL is the owner's, and no shell reads it
                ["/bin/sh", "-c", LEASH, str(self._folder), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Ssh makes its socket as soon as it is let in."""
        deadline = time.monotonic() + PATIENCE
        while not self.socket.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
                last = (self._lines() or ["it ended without a word"])[-1]
                raise EngineAwayError(self.reason() or f"{self.url}: ssh: {last[:200]}")
            if time.monotonic() > deadline:
                raise EngineAwayError(f"{self.url} gives no answer: is the host up?")

    def reason(self) -> str:
        """What ssh complained of, as one line for a user; empty where it has not."""
        there = (f"{self._there.username}@" if self._there.username else "") + str(self._there.hostname)
        lines = self._lines()
        for sign, meaning in MEANINGS:
            for line in lines:
                if sign in line:
                    told = meaning.format(there=there, socket=self._there.path or SOCKET)
                    return f"{self.url}: {told} (ssh: {line[:120]})"
        return ""

    def _lines(self) -> list[str]:
        try:
            text = self._said.read_text(errors="replace")
        except OSError:  # it is closed
            return []
        return [" ".join(line.split()) for line in text.splitlines() if line.strip()]

    def close(self) -> None:
        """The end of ssh; its socket goes with it."""
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _place(there: SplitResult, socket: Path) -> list[str]:
    port = ["-p", str(there.port)] if there.port else []
    name = (f"{there.username}@" if there.username else "") + str(there.hostname)
    return [*port, "-L", f"{socket}:{there.path or SOCKET}", "--", name]
