"""Answers for names of the registry made without reading the message, where the question alone tells.

Most questions that nothing is kept for are about a service that has just changed. What of their message is
not the question is known already to the fast path; to have it read, checked and put together by the
handler takes as long as to find the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from discoverd.dns import message, wire
from discoverd.dns.denial import CLASS_IN
from discoverd.dns.hits import in_lower_case
from discoverd.resolver.outcome import AAAA, TXT, A, Answer, NoData, Question

if TYPE_CHECKING:
    from discoverd.dns.wire import Prepared
    from discoverd.resolver.local import Local, Settings
    from discoverd.views import View

#: Types that are asked for at names of services and containers.
TYPES: Final = (A, AAAA, TXT)


class Anew:
    """Resolves questions by their octets."""

    def __init__(self, local: Local) -> None:
        self._local, self._bound = local, local.registry.names.known[0]
        self._settings: Settings | None = None
        #: What stands behind a single label below a domain, type and class included, to domain and type.
        self._below: dict[bytes, tuple[str, int]] = {}

    def prepare(self, key: bytes, view: View) -> Prepared | None:
        """The packed answer to a question in lower case, about a single label below a domain that is a name
        of the registry; None for all else, and where the handler has to look.
        """
        if not key or key[0] > message.MAX_LABEL:
            return None
        end = 1 + key[0]
        label = key[1:end].decode("latin-1")
        if self._local.settings is not self._settings:
            self._read()
        below = self._below.get(key[end:])
        if below is None or label not in self._bound or "." in label:
            return None
        domain, qtype = below
        name = f"{label}.{domain}"
        if name in self._local.settings.domains:  # one below another: what is said of it is not kept
            return None
        outcome = self._local.resolve(Question(name, qtype), view)
        return wire.prepare(outcome, key) if isinstance(outcome, Answer | NoData) else None

    def _read(self) -> None:
        self._settings = settings = self._local.settings
        self._below = {
            wire.pack_name(domain) + in_lower_case(qtype) + CLASS_IN: (domain, qtype)
            for domain in settings.domains
            for qtype in TYPES
        }
