"""Benchmarks are run from the root, `python -m benchmarks`, and so are found there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They can be imported, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]
