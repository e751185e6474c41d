"""Write docs/reference.md from the docstrings, or check that it is what they say.

`python .ci/reference.py` writes; `python .ci/reference.py --check` fails if the page is behind.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"

MODULES = {
    "lamella": "The contract and what makes it run.",
    "lamella_middlewares": "The standard layers.",
    "lamella.transports": "What talks to providers.",
    "lamella.testing": "What Lamella is tested with, for users' own tests.",
}


def page() -> str:
    """The whole page."""
    lines = [
        "# Reference",
        "",
        "Every public name, with the first words of its docstring; `help(name)` shows the rest.",
        "This page is written by `python .ci/reference.py`.",
    ]
    for module_name, about in MODULES.items():
        module = importlib.import_module(module_name)
        lines += ["", f"## `{module_name}`", "", about, "", "| name | what it is |", "|---|---|"]
        lines += [_row(module, name) for name in module.__all__]
    return "\n".join(lines) + "\n"


def _row(module: Any, name: str) -> str:
    thing = getattr(module, name)
    documentation = inspect.getdoc(thing) if callable(thing) else None
    if documentation is None or documentation == inspect.getdoc(type(thing)):
        documentation = _documented_alias(thing, name)
    first = documentation.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    if inspect.isroutine(thing):
        return f"| `{name}{_parameters(thing)}` | {first} |"
    return f"| `{name}` | {first} |"


def _documented_alias(thing: Any, name: str) -> str:
    """The string below a type alias, found in the source of the module that defines it."""
    for module in list(sys.modules.values()):
        if not getattr(module, "__name__", "").startswith("lamella") or not hasattr(module, name):
            continue
        source = inspect.getsource(module)
        start = source.find(f"\n{name}: TypeAlias = ")
        if start >= 0 and getattr(module, name) is thing:
            opening = source.find('\n"""', start) + 4
            return source[opening : source.find('"""', opening)]
    return ""


def _parameters(thing: Any) -> str:
    names = [
        ("*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else "") + p.name
        for p in inspect.signature(thing).parameters.values()
    ]
    return f"({', '.join(names)})"


def main() -> int:
    """Write the page, or compare."""
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text)
        return 0
    if not PAGE.exists() or PAGE.read_text() != text:
        sys.stderr.write("docs/reference.md is behind: run `python .ci/reference.py`.\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
