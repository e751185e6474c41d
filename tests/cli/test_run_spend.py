"""`lamella run` with a preset that writes down its spend: SIGTERM takes none of it away."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

PRESET = """
[presets.mine]
transport = { use = "mock", latency_per_token = 0.2 }
layers = [{ use = "spend", path = "mine.db", flush_interval = 600 }]
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_sigterm_writes_down_what_was_spent(lamella: Any, processes: Any, tmp_path: Path) -> None:
    """The answer was on its way: its attempt is written down, and `lamella costs` shows it."""
    (tmp_path / "lamella.toml").write_text(PRESET)
    process = processes.start("run", "hello", "--preset", "mine")
    assert process.stdout.read(1)
    process.send_signal(signal.SIGTERM)
    assert processes.end(process).code == 143
    shown = lamella("costs", "--preset", "mine", "--by", "outcome", "--json").json
    (group,) = shown["groups"]
    assert group["group"]["outcome"] in {"cancelled", "left"}
    assert group["attempts"] == 1
