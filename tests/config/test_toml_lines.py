from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from discoverd.config.toml_lines import KeyPath, lines_of

DOCUMENT = '''\
# a comment = "with a value"
ttl = 5
listen = [
  "127.0.0.1:53",  # first ]
  "[::1]:53",
]

[forward]
upstreams = ["9.9.9.9"]
zones = { "corp.example" = ["10.0.0.1"], lab = [
  "10.0.0.2",
] }

[dns]
bare_names = true
a.b."c.d" = 1.5

[[service]]
name = "web"
meta.note = """
several
lines = [1]
"""
port = 80

[[service]]
name = 'db'
[service.meta]
kind = "a # no comment"
since = 1979-05-27 07:32:00

[service.checks]
[[service.checks.http]]
path = "/"
[[service.checks.http]]
path = "/b"
'''


def test_every_kind_of_key_is_found_on_its_line() -> None:
    lines = lines_of(DOCUMENT)
    expected: dict[KeyPath, int] = {
        ("ttl",): 2,
        ("listen",): 3,
        ("listen", 0): 4,
        ("listen", 1): 5,
        ("forward",): 8,
        ("forward", "upstreams"): 9,
        ("forward", "zones", "corp.example"): 10,
        ("forward", "zones", "lab"): 10,
        ("forward", "zones", "lab", 0): 11,
        ("dns", "bare_names"): 15,
        ("dns", "a", "b", "c.d"): 16,
        ("service",): 18,
        ("service", 0): 18,
        ("service", 0, "name"): 19,
        ("service", 0, "meta", "note"): 20,
        ("service", 0, "port"): 24,
        ("service", 1): 26,
        ("service", 1, "name"): 27,
        ("service", 1, "meta"): 28,
        ("service", 1, "meta", "kind"): 29,
        ("service", 1, "meta", "since"): 30,
        ("service", 1, "checks", "http", 0, "path"): 34,
        ("service", 1, "checks", "http", 1, "path"): 36,
    }
    assert {key: lines.get(key) for key in expected} == expected


def paths(value: object, key: KeyPath = ()) -> set[KeyPath]:
    """The key path of everything in a parsed document."""
    below: set[KeyPath] = {key} if key else set()
    if isinstance(value, dict):
        return below.union(*(paths(entry, (*key, name)) for name, entry in value.items()))
    if isinstance(value, list):
        return below.union(*(paths(entry, (*key, index)) for index, entry in enumerate(value)))
    return below


def test_nothing_in_the_document_is_without_a_line() -> None:
    assert paths(tomllib.loads(DOCUMENT)) <= set(lines_of(DOCUMENT))


scalars = st.one_of(
    st.integers(-9, 9).map(str),
    st.sampled_from(["true", "1.5", "inf", "2024-01-02", "07:32:00", '""', "''", '"]"', "'# ,'", '"\\""']),
    st.text("ab=[]{},.#\n '", max_size=6).map(lambda text: f'"""{text}"""'),
    st.text('ab=[]{},.#\n "', max_size=6).filter(lambda t: "'" not in t).map(lambda text: f"'''{text}'''"),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ",  # and ]\n ".join(items) + "\n]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"k{i} = {item}" for i, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=6,
)
keys = st.sampled_from(["a", "b-c", '"d.e"', "'f'", "g . h", "1", '"\\u00e9"'])


@given(st.lists(st.tuples(keys, values), max_size=5, unique_by=lambda pair: pair[0]), st.booleans())
def test_what_tomllib_can_read_has_a_line_for_every_part(
    pairs: list[tuple[str, str]], in_array: bool
) -> None:
    body = "".join(f"{key} = {value}\n" for key, value in pairs)
    document = f"[[x.y]]\n{body}[[x.y]]\n{body}" if in_array else body
    parsed = tomllib.loads(document)
    lines = lines_of(document)
    assert paths(parsed) <= set(lines)
    assert all(1 <= line <= document.count("\n") + 1 for line in lines.values())
