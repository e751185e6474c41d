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

[presets.float]
transport = "mock"
layers = [{ use = "budget", amount = 5.0, per = "user", window = "day", limits = [
    { amount = 2.5, per = "tenant" },
] }, "cost"]

[presets.priceless]
transport = "mock"
layers = [{ use = "budget", amount = "5" }]
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "-p", "memory"], "leases = { use = 'redis', url = 'env:REDIS_URL' } }, or"),
        (["set", "5", "user=ann", "-p", "memory"], "would see another one, and change nothing"),
        (["show", "-p", "none"], "has no budget"),
        (["show", "ann", "-p", "memory"], "does not say for whom"),
        (["set", "80", "-p", "shared"], "limits in requests and tokens, and any may be meant. Say"),
        (["unset", "-p", "shared"], "user=... --unit tokens: tokens per user and day"),
        (["set", "80.5", "-p", "shared", "--unit", "requests"], "'80.5' is no number of requests"),
        (["show", "-p", "priceless"], "lamella.toml: presets.priceless: 'budget' needs a layer"),
    ],
)
def test_it_says_why_not(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be seen or set from here, or could mean several limits, and what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamella.toml").write_text(PRESETS + SHARED)
    assert main(["budget", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_it_says_what_was_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit and the window of the limit that was meant: requests are not money."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamella.toml").write_text(SHARED)
    assert main(["budget", "set", "80", "-p", "shared", "--unit", "requests"]) == 0
    assert main(["budget", "set", "80", "user=ann", "-p", "shared"]) == 0
    said = capsys.readouterr().err
    assert "80 requests per hour is set" in said
    assert "80 tokens per user and day for user=ann is set" in said
    assert main(["budget", "show", "-p", "shared"]) == 0
    out, err = capsys.readouterr()
    assert "80 requests" in out
    assert "tokens per user and day. See one: lamella budget show user=..." in err
    assert main(["budget", "show", "user=bob", "-p", "shared"]) == 0
    assert "5 tokens" in capsys.readouterr().out


def test_an_amount_in_a_file_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float is not exact: that is told, with what to write, and nothing that follows from it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamella.toml").write_text(SHARED)
    assert main(["budget", "show", "-p", "float"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("presets.float.layers[0].")[2] for line in lines] == [
        "amount: got 5.0, expected text such as '5.00', since a float is not exact",
        "limits[0].amount: got 2.5, expected text such as '5.00', since a float is not exact",
    ]


def test_its_help_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """The usage has the word that is explained below it, and no line is filled with blanks."""
    assert main(["budget", "set", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: lamella budget set [OPTIONS] AMOUNT [SCOPE...]\n")
    assert "  SCOPE: For whom, such as user=alice" in out
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
