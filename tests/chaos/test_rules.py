"""The rules of the chaos run notice what they are there for, and nothing else."""

from __future__ import annotations

from typing import Any

from tests.chaos.rules import BOUND, NXDOMAIN, REMEMBERED, SERVFAIL, Rules

NONE: frozenset[str] = frozenset()
ONE, TWO = frozenset({"10.0.0.1"}), frozenset({"10.0.0.1", "10.0.0.2"})


def truth(*addresses: str, ids: tuple[str, ...] = ("a",), may: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "must": {"web.docker": list(addresses)},
        "may": {"web.docker": list(may)},
        "ids": {"web.docker": list(ids)},
        "kind": {"web.docker": "docker"},
    }


class Judge:
    """One server's rules, at a time of the test's own."""

    def __init__(self, *, denied_once: bool = True) -> None:
        self.rules = Rules("server", denied_once=denied_once)
        self.now = 1000.0

    def learn(self, said: dict[str, Any], *blind: str) -> list[str]:
        return list(self.rules.learn(said, set(blind), self.now))

    def check(self, addresses: frozenset[str], rcode: int = 0, after: float = 0.0) -> str | None:
        self.now += after
        return self.rules.check("web.docker", rcode, addresses, self.now)


def test_a_dead_address_is_noticed_after_the_bound_and_not_before() -> None:
    judge = Judge()
    judge.learn(truth("10.0.0.1"))
    assert judge.check(TWO) is None
    assert judge.check(TWO, after=BOUND - 1) is None
    said = judge.check(TWO, after=2)
    assert said
    assert "10.0.0.2 is answered" in said


def test_one_that_was_right_in_between_begins_anew() -> None:
    judge = Judge()
    judge.learn(truth("10.0.0.1"))
    judge.check(TWO)
    judge.check(ONE, after=BOUND - 1)
    assert judge.check(TWO, after=2) is None
    assert judge.check(TWO, after=BOUND - 1) is None
    judge.learn(truth("10.0.0.1", "10.0.0.2"))
    judge.learn(truth("10.0.0.1"))
    assert judge.check(TWO, after=2) is None


def test_one_that_may_be_there_may_be_answered_and_need_not() -> None:
    judge = Judge()
    judge.learn(truth("10.0.0.1", may=("10.0.0.2",)))
    for addresses in (ONE, TWO, ONE, TWO):
        assert judge.check(addresses, after=BOUND) is None


def test_a_missing_address_is_noticed_unless_its_source_cannot_be_heard() -> None:
    judge = Judge()
    judge.learn(truth("10.0.0.1", "10.0.0.2"), "docker")
    assert judge.check(ONE) is None
    assert judge.check(ONE, after=BOUND + 1) is None
    judge.learn(truth("10.0.0.1", "10.0.0.2"))
    assert judge.check(ONE) is None
    said = judge.check(ONE, after=BOUND + 1)
    assert said
    assert "10.0.0.2 is missing" in said


def test_a_name_that_was_known_is_not_denied() -> None:
    judge = Judge()
    judge.learn(truth("10.0.0.1"))
    assert judge.check(NONE, NXDOMAIN) is None, "it was not heard of yet"
    judge.check(ONE)
    judge.learn(truth(ids=()))
    assert "is denied" in str(judge.check(NONE, NXDOMAIN, after=REMEMBERED - 1))
    assert judge.check(NONE, NXDOMAIN, after=2) is None, "it is gone for long enough"


def test_one_that_is_killed_may_forget_what_is_gone_and_not_what_is_there() -> None:
    judge = Judge(denied_once=False)
    judge.learn(truth("10.0.0.1"))
    judge.check(ONE)
    assert judge.check(NONE, NXDOMAIN) is None
    assert judge.learn(truth(ids=())) == []
    judge.learn(truth("10.0.0.1"))
    judge.check(ONE)
    assert judge.check(NONE, NXDOMAIN) is None
    (said,) = judge.learn(truth("10.0.0.1"))
    assert "was denied" in said


def test_a_failure_is_for_those_that_just_started() -> None:
    assert "SERVFAIL" in str(Judge().check(NONE, SERVFAIL))
    assert Judge(denied_once=False).check(NONE, SERVFAIL) is None
    assert "rcode 5" in str(Judge(denied_once=False).check(NONE, 5))
