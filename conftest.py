"""Run the Python blocks of the README and of the documentation as tests.

The blocks of one page share a namespace and run from top to bottom, also when pytest-xdist gives
them to different processes. A block may await at its top level; it then runs in an event loop of
its own. `<!-- skip: next -->` before a block, with the reason, leaves it out: for blocks that need
a network or a key.
"""

from __future__ import annotations

import ast
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING
from unittest import SkipTest
from weakref import WeakKeyDictionary

import anyio
from sybil import Document, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser, SkipParser

if TYPE_CHECKING:
    import pytest
    from sybil import Example

_BEGUN: WeakKeyDictionary[Document, set[int]] = WeakKeyDictionary()
"""Where the blocks start that this process has run, by page."""


def run_block(example: Example) -> None:
    """Run one block with the names that the page's earlier blocks have left."""
    # The padding makes line numbers in tracebacks those of the page.
    padding = "\n" * (example.line + example.parsed.line_offset)
    code = compile(
        padding + example.parsed,
        example.path,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    example.namespace.setdefault("__name__", "__main__")

    async def evaluate() -> None:
        await eval(code, example.namespace)  # noqa: S307 -- the page's own code

    if code.co_flags & inspect.CO_COROUTINE:
        anyio.run(evaluate)
    else:
        exec(code, example.namespace)  # noqa: S102 -- the page's own code


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Run the page's earlier blocks that were not selected, or that another process has run."""
    if not isinstance(item, SybilItem):
        return
    page, start = item.example.document, item.example.start
    begun = _BEGUN.setdefault(page, set())
    for earlier in page.examples():
        if earlier.start < start and earlier.start not in begun:
            begun.add(earlier.start)
            with suppress(SkipTest):
                earlier.evaluate()
    begun.add(start)


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=run_block), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
).pytest()
