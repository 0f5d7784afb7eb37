"""NXDOMAIN without a store: a flood of random names is answered from what exists, and keeps nothing.

Only plain cases are decided here; whatever could be something else is left to the resolver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from discoverd.dns import message, wire

if TYPE_CHECKING:
    from discoverd.resolver.local import Local

#: Type and class behind a name.
TAIL: Final = 4
CLASS_IN: Final = b"\0\1"
#: Types that mean something else than data at a name (transfers, transactions, OPT).
OTHER_TYPES: Final = frozenset({41, 249, 250, 251, 252})


class Denial:
    """Knows by the registry's names which questions below a domain are about nothing at all."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._names = local.registry.names
        self._read_of: tuple[int, object] | None = None
        #: A domain in wire format to its SOA record without the owner.
        self._domains: dict[bytes, bytes] = {}

    def soa(self, key: bytes) -> bytes | None:
        """The authority section that denies a lower-case question, or None where it may not be denied.

        The owner points into the question, which ends in the domain.
        """
        registry = self._local.registry
        if registry.syncing or key[-2:] != CLASS_IN or int.from_bytes(key[-4:-2], "big") in OTHER_TYPES:
            return None
        if (registry.serial, self._local.settings) != self._read_of:
            self._read()
        for domain, record in self._domains.items():
            if key.endswith(domain, 0, -TAIL):
                end = len(key) - TAIL - len(domain)
                if self._is_nothing(key, end):
                    pointer = 0xC000 | (message.HEADER_SIZE + end)
                    return pointer.to_bytes(2, "big") + record
                return None
        return None

    def _is_nothing(self, key: bytes, end: int) -> bool:
        """Whether the labels before ``end`` are well-formed and name nothing, nor anything above does."""
        names, labels, at = self._names, [], 0
        while at < end:
            length = key[at]
            label = key[at + 1 : at + 1 + length]
            # what begins with "_" is a service, what has a dot inside only looks like two labels
            if not length or length > 63 or label[0] == 0x5F or b"." in label or b"\\" in label:
                return False
            labels.append(label.decode("latin-1"))
            at += 1 + length
        if at != end or not labels or end > message.MAX_NAME or names.wildcards or labels[0] == "all":
            return False
        name = ".".join(labels)
        return name not in names and name != "ns"

    def _read(self) -> None:
        """Pack the SOA records anew: the registry's serial or the settings have changed."""
        self._read_of = self._local.registry.serial, self._local.settings
        self._domains = {}
        for domain in sorted(self._local.settings.domains, key=len, reverse=True):
            octets = b"".join(bytes([len(x)]) + x.encode() for x in domain.split(".")) + b"\0"
            self._domains[octets] = wire.pack_without_owner(self._local.soa(domain))
