"""Which flags and environment variables there are, and which key of the file each one stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of the file that can also be given as a flag and in the environment."""

    key: tuple[str, ...]
    flag: str
    metavar: str
    help: str
    repeatable: bool = False
    #: A flag without a value stands for true.
    switch: bool = False

    @property
    def name(self) -> str:
        """What the command line's parser calls it: ``log_level`` for ``--log-level``."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        return "DISCOVERD_" + self.name.upper()


CONFIG_FLAG = "--config"
CONFIG_VARIABLE = "DISCOVERD_CONFIG"
#: Read by commands that talk to a server, not by the server.
OTHER_VARIABLES = ("DISCOVERD_URL",)

#: Keys, and tables whole, that a reload leaves as they were at the start: sockets, processes and files are
#: opened once, and what is prepared for one size of reply does not fit another.
AT_START = (
    ("listen",),
    ("workers",),
    ("state_dir",),
    ("max_stale",),
    ("query_log",),
    ("http",),
    ("dns", "udp_size"),
    ("log", "format"),
)

SETTINGS = (
    Setting(("listen",), "--listen", "HOST:PORT", "Serve DNS here; :53 is every address.", repeatable=True),
    Setting(("domains",), "--domain", "NAME", "Be authoritative for this suffix.", repeatable=True),
    Setting(("ttl",), "--ttl", "SECONDS", "How long answers may be cached."),
    Setting(("docker",), "--docker", "URL", "Watch this Docker Engine; off for none.", repeatable=True),
    Setting(("consul", "url"), "--consul", "URL", "Follow this Consul agent; off for none."),
    Setting(
        ("forward", "upstreams"),
        "--upstream",
        "HOST[:PORT]",
        "Forward other names here (tls://HOST#NAME for DNS over TLS); off for none.",
        repeatable=True,
    ),
    Setting(
        ("forward", "allow"),
        "--allow-recursion",
        "CIDR",
        "Forward for these askers; off for none.",
        repeatable=True,
    ),
    Setting(("http", "listen"), "--http", "HOST:PORT", "Serve the HTTP API here; off for nowhere."),
    Setting(("state_dir",), "--state-dir", "PATH", "Keep registrations here; off for memory only."),
    Setting(
        ("take_over",), "--take-over", "", "Take over from who serves in this state directory.", switch=True
    ),
    Setting(("workers",), "--workers", "N", "Answer with this many processes."),
    Setting(("scope",), "--scope", "prefer|strict", "What containers get of services in other networks."),
    Setting(("log", "level"), "--log-level", "LEVEL", "debug, info, warning or error."),
    Setting(("log", "format"), "--log-format", "text|json", "How log lines are written."),
)
