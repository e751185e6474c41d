"""Left out where the plugin is not installed; in virtual time, threads run at once."""

from __future__ import annotations

from typing import Any

import pytest

collect_ignore_glob: list[str] = []
try:
    import presidio_analyzer  # noqa: F401

    import lamella_presidio  # noqa: F401 - are they there?
except ImportError:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend
