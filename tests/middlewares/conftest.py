"""Layers are tested in virtual time, on both event loops, with stores of their own."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend
