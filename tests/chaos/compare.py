"""Every answer beside the truth, for askers beyond the host and inside containers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from tests.chaos.truth import from_inside, reverse_of_engine
from tests.real.place import ask
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from tests.chaos.subject import Subject
    from tests.chaos.truth import Container, Truth
    from tests.chaos.world import World

#: Containers that ask at each pause, and what each asks.
INSIDE, QUESTIONS = 2, 2


class Comparison:
    def __init__(self, world: World, pick: Random) -> None:
        self._world, self._pick = world, pick
        #: Answers that were found to be the truth.
        self.compared = 0

    def differences(self, truth: Mapping[str, Truth]) -> list[str]:
        """What is answered otherwise than it should be, each with both."""
        found = []
        for each in self._world.subjects:
            sources = each.api("/v1/sources").json["sources"]
            found += [f"{each.name}: {source}" for source in sources if source["state"] != "live"]
            known = truth[each.name]
            for name in sorted(known.must):
                said = self._difference(each, name, known)
                if said:
                    found.append(said)
                else:
                    self.compared += 1
            for pointer, names in reverse_of_engine(self._world.docs).items():
                reply = each.ask(pointer, "PTR")
                given = {str(r).lower() for rrset in reply.answer for r in rrset}
                if not names & given:
                    found.append(f"{each.name}: {pointer}: {sorted(given)}, the truth is {sorted(names)}")
                else:
                    self.compared += 1
        return found

    def _difference(self, subject: Subject, name: str, truth: Truth) -> str:
        try:
            reply = subject.ask(name, tcp=self._pick.random() < 0.05)
        except (dns.exception.Timeout, OSError, EOFError) as error:
            return f"{subject.name}: {name}: {error!r}"
        given = addresses(reply)
        must, may = truth.must[name], truth.may.get(name, set())
        if not must <= given <= must | may:
            return f"{subject.name}: {name}: {sorted(given)}, the truth is {sorted(must)} with {sorted(may)}"
        allowed = {dns.rcode.NOERROR}
        if not must and (not truth.ids.get(name) or name.endswith(".consul")):
            allowed.add(dns.rcode.NXDOMAIN)  # nobody has that name
        if reply.rcode() not in allowed:
            return f"{subject.name}: {name}: {dns.rcode.to_text(reply.rcode())}, of {truth.ids.get(name)}"
        return ""

    def further(self) -> None:
        """What containers are told, and the order of answers; AssertionError where it is wrong."""
        self._check_inside()
        for each in self._world.subjects:
            if each.name == "steady":
                self._check_rotation(each)

    def _check_inside(self) -> None:
        running = [c for c in self._world.containers if c.preferred]
        services = sorted({c.service for c in self._world.containers})
        for asker in self._pick.sample(running, min(INSIDE, len(running))):
            for service in self._pick.sample(services, min(QUESTIONS, len(services))):
                for each in self._world.subjects:
                    self._check_asker(each, asker, service)

    def _check_asker(self, subject: Subject, asker: Container, service: str) -> None:
        """A container is given each instance at an address that it reaches, and nothing else."""
        enter = ("nsenter", f"--net=/proc/{asker.pid}/ns/net")
        wanted: list[set[str]] = []
        seen: list[str] = []

        def right() -> bool:
            self._world.look()
            wanted[:] = from_inside(self._world.docs, asker, service)
            reply = ask(enter, subject.address, subject.dns_port, f"{service}.docker", "A")
            seen[:] = [reply.text]
            left = set(reply.addresses)
            for one in wanted:
                if len(one & left) != 1:
                    return False
                left -= one
            return not left and reply.status == "NOERROR"

        def otherwise() -> str:
            who = f"{asker.name}, on {asker.networks}, asks {subject.name} for {service}"
            return f"{who}: one of each of {wanted}, it is {seen}"

        until(right, timeout=60, interval=0.2, message=otherwise)
        self.compared += 1

    def _check_rotation(self, subject: Subject) -> None:
        """Each of the instances comes first once. By a name that the load does not ask for."""
        known: dict[str, set[str]] = {}
        for container in self._world.containers:
            if container.preferred:
                known.setdefault(container.service, set()).add(container.preferred)
        for service, held in known.items():
            if len(held) > 1:
                firsts = [str(subject.ask(f"all.{service}.docker").answer[0][0]) for _ in range(len(held))]
                again = [a for a, b in pairwise(sorted(firsts)) if a == b]
                assert not again, f"{service}: {firsts} of {held}"
                return


def addresses(reply: dns.message.Message) -> set[str]:
    return {str(r) for rrset in reply.answer for r in rrset if r.rdtype == dns.rdatatype.A}
