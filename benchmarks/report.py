"""Pages and plots of a run: `uv run --group plots python -m benchmarks.report [RESULTS]`.

The tables between the marks of `docs/benchmarks.md` and `docs/scaling.md` are written anew, the
plots drawn into `docs/benchmarks/`, and the results kept beside them. What stands outside of the
marks stays. Without matplotlib the plots that are there stay, too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import plots, tables
from benchmarks.kept_results import FOLDER, NAME, load

DOCS: Final = Path(__file__).parents[1] / "docs"

SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "machine": tables.machine,
    "promises": tables.promised,
    "calls": tables.calls,
    "flight": tables.flight,
    "imports": tables.imports,
    "layers": tables.layers,
    "observers": tables.observers,
    "providers": tables.providers,
    "scaling": tables.scaling,
    "absent": tables.skipped,  # not "skipped": comments that begin so are for the tests
}
PAGES: Final = ("benchmarks.md", "scaling.md")


def filled(page: str, found: Mapping[str, Any]) -> str:
    """A page with each marked section written anew; a section that was not measured stays.

    Raises:
        ValueError: If a mark names no section.
    """

    def section(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in SECTIONS:
            raise ValueError(f"the mark {name!r} names no section: say one of {sorted(SECTIONS)}")
        text = SECTIONS[name](found)
        return f"{match['begin']}\n\n{text}\n\n{match['end']}" if text else match[0]

    marks = r"(?P<begin><!-- (?P<name>\w+): begin -->).*?(?P<end><!-- (?P=name): end -->)"
    return re.sub(marks, section, page, flags=re.DOTALL)


def write(found: Mapping[str, Any], docs: Path = DOCS) -> list[str]:
    """Write pages, plots and results below a folder; their names."""
    drawings = docs / "benchmarks"
    drawings.mkdir(parents=True, exist_ok=True)
    (drawings / NAME).write_text(json.dumps(found, indent=1) + "\n")
    for page in PAGES:
        (docs / page).write_text(filled((docs / page).read_text(), found))
    try:
        drawn = plots.draw(found, drawings)
    except ImportError as error:
        sys.stderr.write(f"no plots: {error}. uv run --group plots python -m benchmarks.report\n")
        drawn = []
    return [*PAGES, NAME, *drawn]


def main() -> None:
    """Parse, write, say what was written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("results", type=Path, nargs="?", default=FOLDER / NAME)
    options = parser.parse_args()
    for name in write(load(options.results)):
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
