"""`lamella simulate`: a preset under a load, in virtual time."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from lamella.cli._simulate import _stopping
from lamella.testing import Simulation

SHORT = ["simulate", "--rate", "5", "--for", "20s", "--seed", "3"]


def test_the_report_is_drawn(lamella: Any, tmp_path: Path) -> None:
    """On standard output; and as a page where it is wanted."""
    page = tmp_path / "report.html"
    done = lamella(*SHORT, "--throttle", "primary:5s-10s,retry-after=2", "--html", str(page))
    assert done.code == 0
    assert "production: 5 calls a second, poisson, for 20 s" in done.out
    assert "primary: throttle 5s-10s, retry after 2 s" in done.out
    assert re.search(r"All \d+ laws held\.", done.out)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json(lamella: Any) -> None:
    """One JSON object with everything that the report has."""
    done = lamella(*SHORT, "--json", "--mode", "stream", "--tenants", "3")
    found = json.loads(done.out)
    assert found["mode"] == "stream"
    assert len(found["tenants"]) == 3
    assert found["broken"] == {}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_verify_runs_it_twice(lamella: Any, backend: str) -> None:
    """The second run is the same to the last event."""
    done = lamella(*SHORT, "--verify", "--backend", backend, "--stall", "share=5%")
    assert done.code == 0
    assert "A second run was the same" in done.err


def test_campaigns(lamella: Any) -> None:
    """Random stacks under random faults; a single seed shows its report."""
    done = lamella("simulate", "--campaign", "2", "--campaign-requests", "30")
    assert done.code == 0, done.out + done.err
    assert done.out == "All laws held in 2 seeds with 60 calls.\n"
    done = lamella("simulate", "--campaign-seed", "4", "--campaign-requests", "30")
    assert done.code == 0
    assert "campaign 4" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--throttle", "soon"], "--throttle 'soon' cannot be read"),
        (["--outage", "other:1m-2m"], "names 'other', which is no provider here"),
        (["--for", "a while"], "'a while' is no span of time"),
        (["--rate", "0"], "rate=0"),
        (["--cancels", "few"], "--cancels 'few' is no share"),
        (["--preset", "nosuch"], "nosuch"),
        (["--campaign", "0"], "runs nothing"),
        (["--seed", "-1"], "seed"),
        (["--capacity", "0"], "capacity=0"),
    ],
)
def test_wrong_options_say_what_to_do(lamella: Any, options: list[str], words: str) -> None:
    """They end the command with code 2 before anything runs."""
    done = lamella("simulate", *options)
    assert done.code == 2
    assert words in done.err
    assert done.out == ""


def test_the_first_interrupt_stops_the_run_and_the_second_the_program() -> None:
    """What there is is reported after Ctrl-C; who presses it again does not want to wait."""
    simulation = Simulation("production")
    before = signal.getsignal(signal.SIGINT)
    with _stopping(simulation):
        signal.raise_signal(signal.SIGINT)
        assert simulation.stopped
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
