"""What our HTML pages are made of: one file, no script, no font, nothing to load.

A page shows what others have said (names of models, texts of errors). All of it is escaped, and a
policy in the page lets a browser run and load nothing, even if something was not.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5b6773; --line: #d5dbe1;
  --back: #fff; --plot: #2f6f9f; --fill: #2f6f9f22; --bad: #b3261e; --good: #1c7c43; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --dim: #97a3af; --line: #39434d;
  --back: #14191e; --plot: #7db9e0; --fill: #7db9e022; --bad: #ff8a80; --good: #7fd6a0; } }
body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, li { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .5rem .25rem 0; text-align: left;
  vertical-align: top; font-weight: normal; } th { color: var(--dim); white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .5rem; font-size: 12px; }
"""


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page.

    Args:
        title: What it is called.
        body: Its parts, as HTML; empty ones are left out.
        style: More CSS than that of all pages.
    """
    style = _STYLE + style
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = "\n".join([part for part in body if part])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{words(title)}</title>\n<style>{style}</style></head>\n"
        f"<body>\n{parts}\n</body></html>\n"
    )


def words(text: str, *, lines: bool = False) -> str:
    """Anybody's text as HTML. What cannot be seen, or turns the writing, is replaced.

    Args:
        text: Whatever it says.
        lines: Whether line breaks and tabs stay.
    """
    if not text.isprintable():
        stay = "\n\t" if lines else ""
        text = "".join([c if c.isprintable() or c in stay else "\ufffd" for c in text])
    return escape(text)


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and what is to be said of each."""
    cells = "".join(
        f'<tr><th scope="row">{words(name)}</th><td>{words(said)}</td></tr>' for name, said in rows
    )
    return f"<table>{cells}</table>"


def table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a heading over it, to be scrolled where it is too wide; empty without rows.

    Args:
        title: What it shows.
        headers: Of the columns.
        rows: Texts; the first of each row names it.
    """
    lines = [
        f'<tr><th scope="row">{words(first)}</th>'
        + "".join([f"<td>{words(cell)}</td>" for cell in rest])
        + "</tr>"
        for first, *rest in rows
    ]
    if not lines:
        return ""
    head = "".join([f'<th scope="col">{words(header)}</th>' for header in headers])
    return section(
        title, f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def section(title: str, content: str) -> str:
    """Something under a heading, to be scrolled where it is too wide."""
    return (
        f'<h2>{words(title)}</h2>\n<div class="wide" role="region" tabindex="0" '
        f'aria-label="{words(title)}">{content}</div>'
    )
