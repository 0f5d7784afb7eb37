"""``discoverd register``: an instance for as long as it is wanted, or as long as a command runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discoverd.commands.client import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.commands.client import Client

#: Seconds of a lease around a command, where none was asked for.
LEASE_SECONDS = 30
#: Seconds that a command's end may wait for a server to be told.
FAREWELL_SECONDS = 3.0
#: linux/asm-generic/siginfo.h: sent by the kernel, such as by a terminal's Ctrl-C to its whole group.
SI_KERNEL = 0x80
#: Signals that cannot be passed on, or that tell of our own faults.
OWN = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP, signal.SIGTTIN, signal.SIGTTOU,
}  # fmt: skip


def default_id(service: str, scope: str, address: str, port: str | None) -> str:
    """``web.shop-10.0.0.5-80``: the same instance registered again replaces itself."""
    name = f"{service}.{scope}" if scope else service
    number = port.rpartition("=")[2].partition("/")[0] if port else ""
    return "-".join(part for part in (name, address, number) if part)


@dataclass
class Lease:
    """One registration and its renewal. ``note`` is told what goes wrong, once."""

    client: Client
    ident: str
    body: dict[str, Any]
    note: Callable[[str], None]

    def begin(self) -> Any:
        """Register. Raises UnreachableError, RefusedError."""
        return self.client.send("PUT", f"v1/instances/{self.ident}", self.body)

    def keep(self, ended: threading.Event) -> None:
        """Renew at a third of the lease until ``ended``; register again where the lease is gone."""
        seconds = self.body["lease"] / 3
        trouble = ""
        while not ended.wait(seconds):
            try:
                try:
                    self.client.send("POST", f"v1/instances/{self.ident}/renew")
                except RefusedError as refusal:
                    if refusal.status != 404:
                        raise
                    self.begin()
                if trouble:
                    self.note(f"{self.ident} is registered again")
                trouble, seconds = "", self.body["lease"] / 3
            except (UnreachableError, RefusedError) as error:
                if str(error) != trouble:
                    self.note(f"{self.ident} is not renewed: {error}")
                trouble, seconds = str(error), min(1.0, self.body["lease"] / 3)

    def end(self) -> None:
        """Deregister, trying for a moment; the lease does it where that fails."""
        until = time.monotonic() + FAREWELL_SECONDS
        while True:
            try:
                self.client.send("DELETE", f"v1/instances/{self.ident}")
            except UnreachableError as error:
                if time.monotonic() < until:
                    time.sleep(0.2)
                    continue
                self.note(f"{self.ident} is not deregistered, its lease will end: {error}")
            except RefusedError as error:
                if error.status != 404:
                    self.note(f"{self.ident} is not deregistered, its lease will end: {error}")
            return


def run(lease: Lease, command: Sequence[str]) -> int:
    """Register, run the command, renew while it lives, deregister; its exit status, 128 + n for signal n.

    Raises UnreachableError and RefusedError before the command is started, OSError where it cannot be.
    """
    passed = set(signal.Signals) - OWN
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    try:
        lease.begin()
        try:
            child = os.posix_spawnp(
                command[0],
                list(command),
                os.environ,
                setsigmask=before,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these; others should not
            )
        except OSError:
            lease.end()
            raise
        ended = threading.Event()
        renewing = threading.Thread(target=lease.keep, args=(ended,), name="renew", daemon=True)
        renewing.start()
        status = _until_it_ends(child, passed)
        ended.set()
        lease.end()
        return status
    finally:
        while signal.sigtimedwait(passed, 0):
            pass  # what came after the command's end must not decide over ours
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _until_it_ends(child: int, passed: set[signal.Signals]) -> int:
    """Pass signals on; reap whatever ends, since in a container this may be process 1."""
    while True:
        told = signal.sigwaitinfo(passed)
        if told.si_signo != signal.SIGCHLD:
            # what a terminal sends, the command has got itself
            if told.si_code != SI_KERNEL:
                os.kill(child, told.si_signo)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid != child:
                continue
            if os.WIFSTOPPED(status):
                os.kill(os.getpid(), signal.SIGSTOP)  # Ctrl-Z is for both: the shell waits for us
            else:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
