"""A plain SVG of horizontal bars in panels, written by hand: no library, no fonts, light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Bars = "Mapping[str, tuple[float, float, float]]"

WIDTH: Final = 720
LABEL: Final = 190  #: room left of the bars
VALUE: Final = 70  #: room right of them
ROW: Final = 20
GAP: Final = 34
STYLE: Final = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 13px }
  .bar { fill: #8c959f } .ours { fill: #0969da } .limit { fill: #d0d7de }
  .range { stroke: #24292f; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .bar { fill: #6e7681 } .ours { fill: #58a6ff } .limit { fill: #424a53 }
    .range { stroke: #e6edf3 }
  }
"""


def svg(title: str, panels: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """Panels of labelled bars, each (value, low, high): a thin line shows low to high."""
    body: list[str] = []
    y = 28
    body.append(f'<text class="title" x="0" y="16">{escape(title)}</text>')
    for name, bars in panels.items():
        y += 18
        body.append(f'<text class="title" x="0" y="{y}">{escape(name)}</text>')
        y += 8
        scale = (WIDTH - LABEL - VALUE) / max(
            (max(high, value) for value, _, high in bars.values()), default=1
        )
        for label, bar in bars.items():
            body += _row(y, label, bar, scale)
            y += ROW
        y += GAP - ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
        ' role="img">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _row(y: int, label: str, bar: tuple[float, float, float], scale: float) -> list[str]:
    value, low, high = bar
    kind = "ours" if label.startswith("discoverd") else "limit" if label.startswith("C,") else "bar"
    middle = y + ROW / 2
    span = f'x1="{LABEL + low * scale:.1f}" x2="{LABEL + high * scale:.1f}"'
    return [
        f'<text x="{LABEL - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{y + 3}" width="{value * scale:.1f}" height="{ROW - 6}"/>',
        f'<line class="range" {span} y1="{middle:.0f}" y2="{middle:.0f}"/>',
        f'<text x="{LABEL + max(value, high) * scale + 6:.0f}" y="{middle + 4:.0f}">{_figure(value)}</text>',
    ]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
