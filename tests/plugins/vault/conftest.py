"""The environment of these tests says nothing of Vault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

collect_ignore_glob: list[str] = []
try:
    import lamella_vault  # noqa: F401 - is it there?
except ImportError:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(autouse=True)
def no_vault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of a login."""
    for name in [name for name in os.environ if name.startswith(("VAULT_", "BAO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
