"""The reference of labels as Markdown, made of what the reader of labels knows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.sources.docker.labels import PREFIX, REGISTRATOR, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEAD = """\
# Labels

What a container's owner can say about it. Made from the code by `make docs`; a test fails when it says
anything else.

Labels of the container count, and for a Swarm service those of the service (`deploy: labels:`) as well, the
container's first. None is needed: without any, a container has the names that Compose or Swarm gave it. One
that cannot be read is a line in the log, and takes nothing else away.

```yaml
services:
  web:
    image: example/web
    labels:
      discoverd.name: portal,*.pages
      discoverd.ports: http=8080/tcp,metrics=9090/tcp
      discoverd.tags: v1
      discoverd.ttl: "0"
```
"""
TAIL = """\

## Registrator's

Labels or variables of the container, for those that were made for
[Registrator](https://gliderlabs.github.io/registrator/latest/user/services/). Labels go before variables, and
`discoverd.*` before both.
"""
COLUMNS = "| label | takes | what it is | example |\n|---|---|---|---|"


def page() -> str:
    """The whole page."""
    lines = [HEAD, COLUMNS, *_rows(PREFIX, WORDS), TAIL, COLUMNS, *_rows("", REGISTRATOR)]
    lines += ["", "[names.md](names.md) says which names come of it, [checks.md](checks.md) what checks do."]
    return "\n".join(lines) + "\n"


def _rows(prefix: str, words: Mapping[str, tuple[str, str, str]]) -> Iterator[str]:
    for word, (takes, meaning, example) in words.items():
        yield f"| `{prefix}{word}` | {takes} | {meaning} | `{example}` |"
