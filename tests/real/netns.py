"""A network stack of its own for a further "Docker host" on this machine."""

from __future__ import annotations

import subprocess

from tests.real.debian import UnavailableError, need, which


class Namespace:
    """A network namespace and the link that reaches it: ``address`` from here, ``gateway`` from inside.

    ``name`` is both the namespace's and the link's; ``network`` the first three parts of their /24.
    Raises UnavailableError where the machine does not allow it.
    """

    def __init__(self, name: str, network: str) -> None:
        need("ip", "iproute2")
        self.name = name
        self.gateway, self.address = f"{network}.1", f"{network}.2"
        for step in (
            ("netns", "add", name),
            ("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name),
            ("address", "add", f"{self.gateway}/24", "dev", name),
            ("link", "set", name, "up"),
            ("-n", name, "address", "add", f"{self.address}/24", "dev", "eth0"),
            ("-n", name, "link", "set", "lo", "up"),
            ("-n", name, "link", "set", "eth0", "up"),
            ("-n", name, "route", "add", "default", "via", self.gateway),
        ):
            if fault := _ip(*step):
                self.close()
                raise UnavailableError(
                    f"no further Docker host can be had here: ip {' '.join(step)}: {fault}"
                )

    @property
    def enter(self) -> list[str]:
        """What to put before a command to run it inside."""
        # Not "ip netns exec": that one mounts a new /sys, without the cgroups.
        return [need("nsenter", "util-linux"), f"--net=/run/netns/{self.name}"]

    def close(self) -> None:
        # The link first: with the namespace alone it would go too, but only some time later.
        _ip("link", "del", self.name)
        _ip("netns", "del", self.name)


def _ip(*arguments: str) -> str:
    done = subprocess.run([which("ip") or "ip", *arguments], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""
