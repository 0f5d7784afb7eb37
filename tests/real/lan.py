"""A local network with hosts on it that can be cut off: namespaces at the ports of one switch.

The switch stands in a namespace of its own, so that nothing of this machine forwards or filters
between the hosts. Beside it every host keeps its link to this machine, by which tests look at it.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.real.debian import UnavailableError, which
from tests.real.netns import Namespace
from tests.real.session import bridge

if TYPE_CHECKING:
    from tests.real.session import Session

#: The third part of the network's addresses: none that hosts or their engines use.
NETWORK = 120


class Lan:
    """The switch, and one more host that stands where it does: ``address`` there, ``reach`` from here.

    Raises UnavailableError where the machine does not allow it.
    """

    def __init__(self, session: Session, number: int) -> None:
        """``number`` is 1 to 9, as that of a Docker host."""
        slot = session.slot
        self._network = f"10.{slot}.{NETWORK}"
        self.address = f"{self._network}.254"
        self._switch = Namespace(f"{bridge(slot)}v{number}", f"10.{slot}.{number}")
        self._ports: dict[str, str] = {}
        name = self._switch.name
        _ip("-n", name, "link", "add", "lan", "type", "bridge")
        _ip("-n", name, "address", "add", f"{self.address}/24", "dev", "lan")
        _ip("-n", name, "link", "set", "lan", "up")

    @property
    def reach(self) -> str:
        return self._switch.address

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command to run it there."""
        return tuple(self._switch.enter)

    def join(self, host: Namespace) -> str:
        """Connect a host; its address there."""
        number, switch = len(self._ports) + 1, self._switch.name
        port, address = f"port{number}", f"{self._network}.{number}"
        _ip("link", "add", port, "netns", switch, "type", "veth", "peer", "name", "lan", "netns", host.name)
        _ip("-n", switch, "link", "set", port, "master", "lan", "up")
        _ip("-n", host.name, "address", "add", f"{address}/24", "dev", "lan")
        _ip("-n", host.name, "link", "set", "lan", "up")
        self._ports[address] = port
        return address

    def cut(self, address: str) -> None:
        """Part a host from all others."""
        _ip("-n", self._switch.name, "link", "set", self._ports[address], "down")

    def heal(self, address: str) -> None:
        _ip("-n", self._switch.name, "link", "set", self._ports[address], "up")

    def close(self) -> None:
        self._switch.close()


def _ip(*arguments: str) -> None:
    done = subprocess.run([which("ip") or "ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"no local network can be had here: ip {' '.join(arguments)}: {done.stderr}")
