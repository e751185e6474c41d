"""The environment of these tests says nothing of AWS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

collect_ignore_glob: list[str] = []
try:
    import moto  # noqa: F401

    import lamella_aws_secrets  # noqa: F401 - is it there?
except ImportError:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, no file and no metadata service gives credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
