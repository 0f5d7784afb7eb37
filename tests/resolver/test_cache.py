"""What is kept of others' answers: for how long, how much of it, and what is forgotten."""

from __future__ import annotations

from discoverd.resolver.cache import FAILURE_SECONDS, OVERHEAD, RETRY_SECONDS, STALE_SECONDS, Cache, is_below

QUESTION = b"\0\1\0\1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(entries: int = 100, octets: int = 1 << 20) -> tuple[Cache[str], Clock]:
    clock = Clock()
    return Cache(entries, octets, variant=1, clock=clock), clock


def wire(name: str) -> bytes:
    labels = name.split(".") if name else []
    return b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0"


def key(name: str, variant: int = 0) -> bytes:
    return wire(name) + QUESTION + bytes((variant,))


def test_an_entry_is_fresh_then_stale_then_gone() -> None:
    cache, clock = made()
    cache.put(key("a.example"), "A", 60, 10)
    entry = cache.get(key("a.example"))
    assert entry is not None
    assert entry.expires - clock.now == 60
    clock.now += 60 + STALE_SECONDS - 1
    assert cache.get(key("a.example")) is entry
    clock.now += 1
    assert cache.get(key("a.example")) is None
    assert len(cache) == cache.octets == 0


def test_a_failure_is_short_and_does_not_replace_an_answer() -> None:
    cache, clock = made()
    cache.failed(key("a.example"))
    entry = cache.get(key("a.example"))
    assert entry is not None
    assert entry.value is None
    clock.now += FAILURE_SECONDS
    assert cache.get(key("a.example")) is None
    cache.put(key("a.example"), "A", 60, 10)
    clock.now += 61
    cache.failed(key("a.example"))
    stale = cache.get(key("a.example"))
    assert stale is not None
    assert stale.value == "A"
    assert stale.retry_at == clock.now + RETRY_SECONDS


def test_what_was_used_longest_ago_goes_first() -> None:
    cache, _ = made(entries=3)
    for name in ("a", "b", "c"):
        cache.put(key(name), name, 60, 10)
    cache.get(key("a"))
    cache.peek(key("b"))
    cache.put(key("d"), "d", 60, 10)
    assert cache.evicted == 1
    assert cache.peek(key("b")) is None
    assert cache.peek(key("a")) is not None


def test_octets_are_bounded() -> None:
    cache, _ = made(octets=10 * (OVERHEAD + 100))
    for number in range(1000):
        cache.put(key(f"n{number}"), "x", 60, 80)
        assert cache.octets <= cache.octets_most
    assert 9 <= len(cache) <= 10
    cache.put(key("huge"), "x", 60, cache.octets_most)
    assert len(cache) == cache.octets == 0, "what is larger than all that there is room for is not kept"


def test_an_entry_is_replaced_and_not_counted_twice() -> None:
    cache, _ = made()
    for size in (10, 1000, 20):
        cache.put(key("a"), "A", 60, size)
    assert len(cache) == 1
    assert cache.octets == 20 + OVERHEAD + len(key("a"))


def test_only_what_is_popular_and_near_its_end_is_fetched_anew() -> None:
    cache, clock = made()
    cache.put(key("a"), "A", 100, 10)
    entry = cache.get(key("a"))
    assert entry is not None
    clock.now += 95
    assert not entry.wants_refresh(clock.now)
    entry.hits = 3
    assert entry.wants_refresh(clock.now)
    assert not entry.wants_refresh(clock.now - 10)
    entry.refreshing = True
    assert not entry.wants_refresh(clock.now)
    cache.put(key("a"), "A", 5, 10)
    short = cache.get(key("a"))
    assert short is not None
    short.hits = 100
    assert not short.wants_refresh(short.expires - 0.1)


def test_a_name_and_all_below_it_are_forgotten() -> None:
    cache, _ = made()
    for name in ("example", "a.example", "b.a.example", "xa.example", "other", "a.example.other"):
        for variant in (0, 1):
            cache.put(key(name, variant), name, 60, 10)
    assert cache.flush(wire("a.example")) == 4
    assert cache.get(key("b.a.example")) is None
    assert cache.get(key("xa.example")) is not None
    assert cache.flush(wire("nobody.example")) == 0
    assert cache.flush() == 8
    assert cache.octets == 0


def test_without_room_nothing_is_kept() -> None:
    cache, _ = made(entries=0)
    cache.put(key("a"), "A", 60, 10)
    cache.failed(key("b"))
    assert len(cache) == 0


def test_below_goes_by_labels() -> None:
    assert is_below(wire("a.b"), wire("b"))
    assert is_below(wire("b"), wire("b"))
    assert is_below(wire("a.b"), wire(""))
    assert not is_below(wire("ab"), wire("b"))
    assert not is_below(wire("b"), wire("a.b"))
    assert not is_below(b"\x03\x01b\0\0", wire("b")), "octets of a label that look like a name"
