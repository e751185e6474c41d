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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "-p", "memory"], "this would have no effect"),
        (["set", "5", "user=ann", "-p", "memory"], "this would have no effect"),
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
