"""Whole domains that nothing of ours can be in, so that questions about them need not be resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.naming import ancestors

if TYPE_CHECKING:
    from discoverd.resolver.local import Local


def is_elsewhere(local: Local, domain: str) -> bool:
    """Whether every name right below a domain is somebody else's, for everybody whose view has no links.

    It is right until the registry changes. Names whose first label begins with an underscore are left
    out: they may be about ports of what is above them. A domain of which we cannot say it is not.
    """
    if domain.endswith("arpa") or (local.consul is not None and local.consul.owns(domain)):
        return False
    for own in local.settings.domains:
        if domain == own or domain.endswith("." + own) or own.partition(".")[2] == domain:
            return False
    # what has a name of ours below it is in the index itself
    names = local.registry.names
    return not local.settings.bare_names or not any(above in names for above in (domain, *ancestors(domain)))
