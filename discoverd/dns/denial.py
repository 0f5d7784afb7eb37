"""NXDOMAIN without a store: a flood of random names is answered from what exists, and keeps nothing.

Only plain cases are decided here; whatever could be something else is left to the resolver.
"""

from __future__ import annotations

import struct
from itertools import cycle
from operator import getitem
from typing import TYPE_CHECKING, Final

from discoverd.dns import message, wire
from discoverd.dns.mmsg import KEY_SIZE
from discoverd.dns.store import COUNTS, HOLE, NOTHING_DENIED, TYPE_AND_CLASS, Denied, each_of, folded, lay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.dns.store import DeniedBy, Store
    from discoverd.resolver.local import Local, Settings

CLASS_IN: Final = b"\0\1"
#: Types that mean something else than data at a name (transfers, transactions, OPT).
OTHER_TYPES: Final = frozenset(number.to_bytes(2, "big") for number in (41, 249, 250, 251, 252))
#: Names from here on in a message, as pointers (RFC 1035 section 4.1.4), by offset in the question.
POINTERS: Final = [(0xC000 | (message.HEADER_SIZE + at)).to_bytes(2, "big") for at in range(message.MAX_NAME)]
UNDERSCORE: Final = 0x5F
#: Labels below a domain that are names without being in the registry.
OWN: Final = frozenset({"ns"})
#: Between labels that are looked at together; in none that is plain.
SEPARATOR: Final = b"\n"
#: Kinds of questions (domain, type, class) for which the way to deny them is kept.
SINGLE_MOST: Final = 256
#: By octets of the first label: cuts a key into what stands before it, the label, and what stands behind it.
#: For what is no length of a label (RFC 1035 section 4.1.4), all of it is left out; as for the root,
#: nothing is ever laid out for that.
CUT: Final = tuple(
    struct.Struct(
        f"{COUNTS}sx{size}s{KEY_SIZE - COUNTS - 1 - size}s"
        if size <= message.MAX_LABEL
        else f"{COUNTS}s0s0s{KEY_SIZE - COUNTS}x"
    ).unpack
    for size in range(256)
)
#: Where the serial begins in an SOA record, from its end: five numbers of 32 bits (RFC 1035 section 3.3.13).
SERIAL_AT: Final = -20
WRAP: Final = 1 << 32


class Denial:
    """Knows by the registry's names which questions below a domain are about nothing at all."""

    def __init__(self, local: Local) -> None:
        self._local, self._registry, self._names = local, local.registry, local.registry.names
        self._known = self._names.known
        #: What the records were packed for.
        self._serial = -1
        self._settings: Settings | None = None
        #: Domains in wire format, longest first, each with its SOA record from the type on.
        self._domains: list[tuple[bytes, bytes]] = []
        #: The same by what stands behind a single label below a domain: that, type and class.
        self._single: dict[bytes, bytes] = {}
        #: Stores that have replies laid out, and these by where they lie, which keeps them there.
        self._stores: set[Store] = set()
        self.blocks: dict[bytes, bytes] = {}

    def soa(self, key: bytes) -> bytes | None:
        """The authority section that denies a lower-case question, or None where it may not be denied.

        The owner points into the question, which ends in the domain.
        """
        # what is known is found out first: to be able to deny takes a new SOA record after each change
        if (
            not key
            or key[0] > message.MAX_LABEL
            or not self._is_nothing(key[1 : 1 + key[0]])
            or not self._possible()
        ):
            return None
        # most are a single label below a domain: 0.5 µs instead of 1.5
        end = 1 + key[0]
        record = self._single.get(key[end:])
        if record is None:
            return self._other(key)
        return POINTERS[end] + record

    def lay_out(self, store: Store, query: bytes, question: bytes, header: bytes, soa: bytes) -> None:
        """Lay out what denies a single label below a domain, for all queries that differ in the label alone.

        ``query`` is the whole of one without its id, with no OPT record or one that has no options;
        ``question`` is in lower case, ``soa`` with what is to stand behind it.
        """
        end = 1 + question[0]
        key = folded(query, question) if question[end:] in self._single else None
        if key is not None and len(self.blocks) < SINGLE_MOST:
            laid = lay([soa], store.denials[question[-4:-2]], header, len(question))
            before, _label, behind = CUT[key[COUNTS]](key)
            store.denied.setdefault(before, Denied())[behind] = laid[0]
            self._stores.add(store)
            self.blocks[laid[0]] = laid.block

    def find(self, keys: Sequence[bytes], tables: Sequence[DeniedBy]) -> list[bytes]:
        """Where what denies each question lies; a hole where that is not laid out, or may not be denied.

        ``keys`` are those of queries; ``tables`` what is laid out for each of the askers, or for the one who
        asked all. Where none of the names exists, all are looked at together.
        """
        if not self.blocks:
            return [HOLE] * len(keys)
        before, labels, behind = zip(*[CUT[key[COUNTS]](key) for key in keys], strict=True)
        together = SEPARATOR.join(labels).lower()
        names = together.decode("latin-1").split(SEPARATOR.decode())
        all_unknown = (
            together.translate(None, b"-" + SEPARATOR).isalnum()
            and len(names) == len(labels)
            and self._are_nothing(set(names))
        )
        unknown = [] if all_unknown else [self._is_nothing(label.lower()) for label in labels]
        if not (all_unknown or any(unknown)) or not self._possible():
            return [HOLE] * len(keys)
        places = _laid_out(before, behind, tables)
        if not all(places):  # only where it has to be: that takes as long as all the rest
            places = _laid_out(before, tuple(map(bytes.lower, behind)), tables)
        return places if all_unknown else [p if new else HOLE for p, new in zip(places, unknown, strict=True)]

    def _are_nothing(self, names: set[str]) -> bool:
        """The same for many that are plain."""
        return all(known.keys().isdisjoint(names) for known in self._known if known) and OWN.isdisjoint(names)

    def _is_nothing(self, label: bytes) -> bool:
        """Whether a single label below a domain is no name, and none that begins or could be read as one."""
        if not label.isalnum() and not _is_plain(label):
            return False
        name = label.decode("latin-1")
        bound, above, gone, above_gone = self._known
        return not (name in bound or name in above or name in gone or name in above_gone or name in OWN)

    def _possible(self) -> bool:
        """Whether anything may be denied now; what is known for that is up to date then."""
        registry = self._registry
        if registry.syncing or self._names.wildcards:
            return False
        if registry.serial != self._serial or self._local.settings is not self._settings:
            self._read()
        return True

    def _other(self, key: bytes) -> bytes | None:
        """The same for any number of labels; single ones are learnt."""
        if key[-2:] != CLASS_IN or key[-4:-2] in OTHER_TYPES:
            return None
        whole = key[:-TYPE_AND_CLASS]
        for domain, record in self._domains:
            if whole.endswith(domain):
                end = len(whole) - len(domain)
                name = _relative_name(key, end) if len(whole) <= message.MAX_NAME else None
                if name is None or name in self._names or name in OWN or name.startswith("all."):
                    return None
                # a single label below a domain may be a domain as well, which is longer and looked for first
                alone = not any(other.endswith(domain) for other, _ in self._domains if other != domain)
                if end == 1 + key[0] and alone and len(self._single) < SINGLE_MOST:
                    self._single[key[end:]] = record
                return POINTERS[end] + record
        return None

    def _read(self) -> None:
        """Pack the SOA records anew where the settings have changed, else put in the new serial."""
        serial, settings = self._registry.serial, self._local.settings
        if settings is self._settings:
            octets = (serial % WRAP).to_bytes(4, "big")
            self._domains = [
                (domain, record[:SERIAL_AT] + octets + record[SERIAL_AT + 4 :])
                for domain, record in self._domains
            ]
        else:
            self._domains = [
                (wire.pack_name(domain), wire.pack_without_owner(self._local.soa(domain)))
                for domain in sorted(settings.domains, key=len, reverse=True)
            ]
        self.forget()
        self._serial, self._settings = serial, settings

    def forget(self) -> object:
        """Let go of what is laid out; returns what holds its octets, which may be about to be sent."""
        self._single.clear()
        for store in self._stores:
            store.denied.clear()
        self._stores.clear()
        held, self.blocks = self.blocks, {}
        return held


def _laid_out(before: Sequence[bytes], behind: Sequence[bytes], tables: Sequence[DeniedBy]) -> list[bytes]:
    """Where what denies each question lies, by what stands before and behind its first label."""
    if len(tables) == 1 and before.count(before[0]) == len(before):  # flags and counts, most often alike
        return list(each_of(tables[0].get(before[0], NOTHING_DENIED), behind))
    found = (table.get(flags, NOTHING_DENIED) for table, flags in zip(cycle(tables), before))
    return list(map(getitem, found, behind))


def _is_plain(label: bytes) -> bool:
    """Whether a label is a name and no more: "_" begins a service, a dot inside looks like two labels."""
    return bool(label) and label[0] != UNDERSCORE and b"." not in label and b"\\" not in label


def _relative_name(key: bytes, end: int) -> str | None:
    """The labels before ``end`` as a dotted name; None where they are none, or not plain ones."""
    labels: list[bytes] = []
    at = 0
    while at < end:
        stop = at + 1 + key[at]
        label = key[at + 1 : stop]
        if stop > end or not _is_plain(label):
            return None
        labels.append(label)
        at = stop
    return b".".join(labels).decode("latin-1") if labels else None
