"""Charts as SVG inside a page: few marks, every one labelled, and always beside a table that holds the numbers.

One colour on white with a contrast above 6:1, no legend to look up, nothing that colour alone tells (WCAG 1.4).
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from cli.wording import percent

INK = "#1f5f8b"
_RULE, _GAP = "#8a8a8a", "#6b6b6b"
_WIDTH, _LABEL, _ROW = 720, 200, 26
_HEIGHT, _FOOT, _LEFT, _RIGHT = 150, 30, 46, 30

Bar = tuple[str, float | None, str]
"""What it is of; from 0 to 1, or None where nothing may be told; what is written beside it."""


def bars(title: str, items: Sequence[Bar]) -> Markup:
    """Bars that lie, each with its name before and its value behind it."""
    width = _WIDTH - _LABEL - 130
    rows = []
    for number, (name, value, said) in enumerate(items):
        y = number * _ROW + 4
        length = max(1.0, (value or 0) * width)
        mark = (
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="16" fill="{INK}"/>' if value is not None else ""
        )
        end = _LABEL + (length if value is not None else 0) + 6
        rows.append(
            f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(_short(name))}</text>{mark}'
            f'<text x="{end:.1f}" y="{y + 12}">{escape(said)}</text>'
        )
    height = len(items) * _ROW + 8
    axis = f'<line x1="{_LABEL}" y1="0" x2="{_LABEL}" y2="{height}" stroke="{_RULE}"/>'
    return _svg(title, _WIDTH, height, axis + "".join(rows))


def columns(title: str, items: Sequence[Bar]) -> Markup:
    """Columns that stand, from 0 to 100 %, in the order of time. Where nothing may be told, a dot on the ground."""
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(items))
    every = max(1, -(-len(items) // 9))
    marks = [_line(share) for share in (0.0, 0.5, 1.0)]
    for number, (name, value, _) in enumerate(items):
        x = _LEFT + number * step
        if value is None:
            marks.append(f'<circle cx="{x + step / 2:.1f}" cy="{_HEIGHT - 3}" r="2" fill="{_GAP}"/>')
        else:
            top = _HEIGHT - value * (_HEIGHT - 14)
            marks.append(
                f'<rect x="{x + step * 0.15:.1f}" y="{top:.1f}" width="{step * 0.7:.1f}"'
                f' height="{max(1.0, _HEIGHT - top):.1f}" fill="{INK}"/>'
            )
        if number % every == 0:
            marks.append(f'<text x="{x + step / 2:.1f}" y="{_HEIGHT + 18}" text-anchor="middle">{escape(name)}</text>')
    return _svg(title, _WIDTH, _HEIGHT + _FOOT, "".join(marks))


def _line(share: float) -> str:
    y = _HEIGHT - share * (_HEIGHT - 14)
    return (
        f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH}" y2="{y:.1f}" stroke="{_RULE}" stroke-width="0.6"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent(share)}</text>'
    )


def _svg(title: str, width: int, height: int, inner: str) -> Markup:
    told = escape(title)
    return Markup(  # noqa: S704 - every text in it was escaped
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{told}">'
        f"<title>{told}</title>{inner}</svg><figcaption>{told}</figcaption>"
    )


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
