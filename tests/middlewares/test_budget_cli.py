"""`lamella budget` where there is nothing to see: it says so, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.cli import main

PRESETS = """
[presets.memory]
transport = "mock"
layers = [{ use = "budget", requests = 3, per = "user" }]

[presets.none]
transport = "mock"
layers = []
"""

SHARED = """
[presets.shared]
transport = "mock"
layers = [{ use = "budget", requests = 3, window = "hour", limits = [
    { tokens = 5, per = "user", window = "day" },
] }]
stores.leases = { use = "sqlite", path = "leases.db" }
stores.blobs = { use = "sqlite", path = "blobs.db" }
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "-p", "memory"], "leases = { use = 'redis', url = 'env:REDIS_URL' } }, or"),
        (["set", "5", "user=ann", "-p", "memory"], "would see another one, and change nothing"),
        (["show", "-p", "none"], "has no budget"),
        (["show", "-p", "memory", "--scope", "ann"], "does not say for whom"),
    ],
)
def test_it_says_why_not(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A count in another process's memory cannot be seen or set from here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamella.toml").write_text(PRESETS)
    assert main(["budget", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_it_says_what_was_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit and the window of the limit that was meant: requests are not money."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamella.toml").write_text(SHARED)
    assert main(["budget", "set", "80", "-p", "shared"]) == 0
    assert main(["budget", "set", "80", "user=ann", "-p", "shared"]) == 0
    said = capsys.readouterr().err
    assert "80 requests per hour is set" in said
    assert "80 tokens per user and day for user=ann is set" in said
