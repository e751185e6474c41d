"""`lamella scenarios`: a score card of bad days."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_the_card_has_a_line_for_each_scenario_and_a_sum(lamella: Any) -> None:
    """Three columns of grades; what the worst of them was, and how many passed."""
    done = lamella("scenarios", "throttled", "cut")
    assert (done.code, done.err) == (0, "")
    head, throttled, cut, passed = done.out.splitlines()
    assert head.split()[:4] == ["scenario", "what", "happens", "run"]
    assert throttled.split()[-3:] == ["answered", "by", "primary"]
    assert throttled.count("pass") == 3
    assert cut.split().count("safe") == 1
    assert "StreamTruncated after" in cut
    assert passed.split() == ["passed", "2/2", "1/2", "2/2"]


def test_one_mode_and_json(lamella: Any) -> None:
    """For scripts: every result with its grade, its reason, and what the providers saw."""
    (result,) = lamella("scenarios", "unavailable", "--mode", "stream", "--json").json["stream"]
    assert (result["scenario"], result["grade"]) == ("unavailable", "pass")
    assert (result["primary"], result["secondary"]) == (3, 1)


def test_a_preset_of_ones_own_is_played_as_it_is(lamella: Any, tmp_path: Path) -> None:
    """Without a limit in time a silent provider is waited for: a failure, of the command too."""
    (tmp_path / "lamella.toml").write_text("[presets.bare]\nlayers = []\ntransport = 'mock'\n")
    done = lamella("scenarios", "no-response", "--preset", "bare", "--mode", "run")
    assert done.code == 1
    assert "the call hung for 120 s" in done.out


def test_an_unknown_scenario_is_refused(lamella: Any) -> None:
    """The known ones are listed."""
    done = lamella("scenarios", "earthquake")
    assert done.code == 2
    assert "There is no scenario 'earthquake'." in done.err
    assert "throttled" in done.err
