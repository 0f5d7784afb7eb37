"""DNS cookies: RFC 7873 with the layout of RFC 9018, as a function and on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.dns import message
from discoverd.dns.cookies import AHEAD, KEY_SECONDS, OLDEST, RENEW_AFTER, WRAP, Cookies
from tests.dns.serving import COOKIE, option, options, query, records

if TYPE_CHECKING:
    from tests.dns.serving import Serving

CLIENT = b"12345678"
NOW = 1_800_000_000
ASKER = "192.0.2.7"


def given_out(cookies: Cookies, now: int = NOW, asker: str = ASKER) -> bytes:
    answer = cookies.answer(CLIENT, asker, now)
    assert answer is not None
    return answer


# -- as a function --------------------------------------------------------------------------


def test_a_client_cookie_gets_a_server_cookie() -> None:
    """RFC 9018 section 4: version, three reserved octets, the time, eight octets of hash."""
    answer = given_out(Cookies())
    assert answer[:8] == CLIENT
    assert answer[8:12] == bytes((240, 0, 0, 0))
    assert int.from_bytes(answer[12:16], "big") == NOW
    assert len(answer) == 24


def test_a_cookie_that_comes_back_is_known() -> None:
    cookies = Cookies()
    ours = given_out(cookies)
    assert cookies.age(ours, ASKER, NOW + 60) == 60
    assert cookies.answer(ours, ASKER, NOW + 60) == ours


@pytest.mark.parametrize(
    ("later", "known", "kept"),
    [
        (-AHEAD - 1, False, False),
        (-AHEAD, True, True),
        (0, True, True),
        (RENEW_AFTER - 1, True, True),
        (RENEW_AFTER, True, False),
        (OLDEST, True, False),
        (OLDEST + 1, False, False),
        (WRAP // 2, False, False),
        (KEY_SECONDS, False, False),
    ],
)
def test_how_long_a_cookie_is_known(later: int, known: bool, kept: bool) -> None:
    """RFC 9018 section 4.3: an hour back, five minutes ahead; renewed after half an hour."""
    cookies = Cookies()
    ours = given_out(cookies)
    assert (cookies.age(ours, ASKER, NOW + later) is not None) is known
    answer = cookies.answer(ours, ASKER, NOW + later)
    assert (answer == ours) is kept
    assert answer is not None
    assert cookies.age(answer, ASKER, NOW + later) is not None


def test_many_are_answered_as_each_is_by_itself() -> None:
    cookies = Cookies()
    ours = cookies.answer(CLIENT, ASKER, NOW)
    assert ours is not None
    for sent in ([bytes((number,)) * 8 for number in range(20)], [ours, bytes(24), ours[:-1] + b"x"]):
        assert cookies.answers(sent, ASKER, NOW) == [cookies.answer(each, ASKER, NOW) for each in sent]
    assert cookies.answers([bytes(9), bytes(9)], ASKER, NOW) == [None, None]


def test_a_cookie_outlives_the_key_it_was_made_with() -> None:
    """The key changes by the day; a cookie from just before midnight is good for its hour."""
    midnight = NOW - NOW % KEY_SECONDS
    cookies = Cookies()
    ours = given_out(cookies, midnight - 1)
    assert cookies.age(ours, ASKER, midnight + OLDEST - 1) == OLDEST
    assert given_out(cookies, midnight)[16:] != ours[16:]


def test_times_wrap_around() -> None:
    """RFC 1982: in 2106 the time begins anew."""
    cookies = Cookies()
    ours = given_out(cookies, WRAP - 10)
    assert cookies.age(ours, ASKER, WRAP + 10) == 20


def test_nobody_elses_cookie_is_known() -> None:
    cookies = Cookies()
    ours = given_out(cookies)
    assert cookies.age(ours, "192.0.2.8", NOW) is None
    assert cookies.age(b"87654321" + ours[8:], ASKER, NOW) is None
    assert Cookies().age(ours, ASKER, NOW) is None
    assert cookies.answer(ours, "192.0.2.8", NOW) != ours


def test_processes_with_one_secret_know_each_others_cookies() -> None:
    ours = given_out(Cookies(b"secret"))
    assert Cookies(b"secret").age(ours, ASKER, NOW) == 0


@given(st.integers(0, 23), st.integers(1, 255))
def test_every_octet_counts(position: int, change: int) -> None:
    cookies = Cookies(b"secret")
    ours = bytearray(given_out(cookies))
    ours[position] ^= change
    assert cookies.age(bytes(ours), ASKER, NOW) is None


@given(st.binary(max_size=60), st.integers(0, WRAP + 10_000))
def test_any_option_is_answered_or_malformed(octets: bytes, now: int) -> None:
    """RFC 7873 section 4: 8 octets, or 16 to 40."""
    answer = Cookies(b"secret").answer(octets, ASKER, now)
    if len(octets) == 8 or 16 <= len(octets) <= 40:
        assert answer is not None
        assert answer[:8] == octets[:8]
        assert len(answer) == 24
    else:
        assert answer is None


# -- on the wire ----------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


@BOTH
async def test_a_cookie_is_answered_and_recognised(server: Serving, tcp: bool) -> None:
    first = await server.ask(query("web.docker", options=[option(COOKIE, CLIENT)]), tcp=tcp)
    ours = options(first)[COOKIE]
    assert len(ours) == 24
    for _ in range(3):
        again = await server.ask(query("web.docker", options=[option(COOKIE, ours)]), tcp=tcp)
        assert options(again) == {COOKIE: ours}
        assert len(records(again, "A")) == 3


@BOTH
async def test_a_foreign_server_cookie_is_replaced(server: Serving, tcp: bool) -> None:
    """RFC 7873 section 5.2.4: as if there were none."""
    for size in (8, 16, 32):
        for _ in range(3):
            reply = await server.ask(
                query("web.docker", options=[option(COOKIE, CLIENT + b"x" * size)]), tcp=tcp
            )
            assert reply.rcode() == dns.rcode.NOERROR
            assert options(reply)[COOKIE][:8] == CLIENT
            assert len(options(reply)[COOKIE]) == 24


@BOTH
async def test_cookies_that_differ_all_get_their_own(server: Serving, tcp: bool) -> None:
    for i in range(20):
        client = i.to_bytes(8, "big")
        reply = await server.ask(query("web.docker", options=[option(COOKIE, client)]), tcp=tcp)
        assert options(reply)[COOKIE][:8] == client
        assert len(records(reply, "A")) == 3


@BOTH
@pytest.mark.parametrize("size", [0, 1, 7, 9, 15, 41, 100])
async def test_a_cookie_of_an_impossible_length_is_formerr(server: Serving, tcp: bool, size: int) -> None:
    """RFC 7873 section 5.2.2."""
    await server.ask(query("web.docker", options=[option(COOKIE, CLIENT)]), tcp=tcp)
    for _ in range(2):
        reply = await server.ask(query("web.docker", options=[option(COOKIE, b"x" * size)]), tcp=tcp)
        assert reply.rcode() == dns.rcode.FORMERR
        assert reply.edns == 0
        assert not reply.options
        assert not reply.answer


@BOTH
async def test_of_several_cookies_the_first_counts(server: Serving, tcp: bool) -> None:
    two = [option(COOKIE, CLIENT), option(COOKIE, b"x")]
    reply = await server.ask(query("web.docker", options=two), tcp=tcp)
    assert [int(o.otype) for o in reply.options] == [COOKIE]
    assert options(reply)[COOKIE][:8] == CLIENT


@BOTH
async def test_errors_carry_the_cookie_too(server: Serving, tcp: bool) -> None:
    """RFC 7873 section 5.2.3: a client knows by it that the reply is not forged."""
    for name in ("nobody.docker", "elsewhere.example"):
        for _ in range(3):
            reply = await server.ask(query(name, options=[option(COOKIE, CLIENT)]), tcp=tcp)
            assert options(reply)[COOKIE][:8] == CLIENT


def about_a_cookie(*cookies: bytes) -> bytes:
    """A query without a question (RFC 7873 section 5.4)."""
    record = message.opt(1232, 0, [(COOKIE, cookie) for cookie in cookies])
    return message.HEADER.pack(7, 0, 0, 0, 0, 1) + record


async def test_a_query_may_be_about_its_cookie_alone(server: Serving) -> None:
    stream = await server.connect()

    async def ask(packet: bytes, *, tcp: bool) -> dns.message.Message:
        if not tcp:
            return dns.message.from_wire(await server.octets(packet))
        await stream.send(packet)
        return dns.message.from_wire(await stream.receive())

    for tcp in (False, True):
        first = await ask(about_a_cookie(CLIENT), tcp=tcp)
        ours = options(first)[COOKIE]
        known = await ask(about_a_cookie(ours), tcp=tcp)
        unknown = await ask(about_a_cookie(CLIENT + b"x" * 16), tcp=tcp)
        assert [r.rcode() for r in (first, known, unknown)] == [
            dns.rcode.NOERROR,
            dns.rcode.NOERROR,
            dns.rcode.BADCOOKIE,
        ]
        assert options(known)[COOKIE] == ours
        assert options(unknown)[COOKIE][:8] == CLIENT
        assert not any(r.question or r.answer or r.authority for r in (first, known, unknown))
        assert not any(r.flags & dns.flags.AA for r in (first, known, unknown))
    await stream.close()


@pytest.mark.parametrize(
    "packet",
    [
        message.HEADER.pack(7, 0, 0, 0, 0, 0),
        message.HEADER.pack(7, 0, 0, 0, 0, 1) + message.opt(1232),
        about_a_cookie(b"short"),
    ],
    ids=["bare", "without a cookie", "with a malformed one"],
)
async def test_any_other_query_without_a_question_is_formerr(server: Serving, packet: bytes) -> None:
    reply = dns.message.from_wire(await server.octets(packet))
    assert reply.rcode() == dns.rcode.FORMERR
    assert reply.id == 7
    assert not reply.question
