"""Calls in files: `lamella run --trace FILE`, `/trace FILE` in a chat, and `lamella trace`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamella import TraceRecord
from lamella.cli._trace_files import with_trace_file

ANSWER = "mock: say Because of Rayleigh."


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["run", "x", "--trace", "a.html"], ["run", "x", "--trace-file=a.html"]),
        (["run", "--trace", "b/a.JSON", "x"], ["run", "--trace-file=b/a.JSON", "x"]),
        (["run", "--trace=a.txt"], ["run", "--trace-file=a.txt"]),
        (["run", "--trace", "Why", "--trace"], ["run", "--trace", "Why", "--trace"]),
        (["run", "--", "--trace", "a.html"], ["run", "--", "--trace", "a.html"]),
    ],
)
def test_a_name_behind_trace_is_a_file_where_it_looks_like_one(
    given: list[str], expected: list[str]
) -> None:
    """Words of a prompt stay words of the prompt."""
    assert with_trace_file(given) == expected


def test_a_call_is_written_as_a_page_or_as_json(lamella: Any, tmp_path: Path) -> None:
    """The answer is all of standard output; the file's name says what it is to hold."""
    for name in ("call.html", "call.json"):
        done = lamella("run", ANSWER, "--trace", name)
        assert (done.code, done.out) == (0, "Because of Rayleigh.\n")
    assert (tmp_path / "call.html").read_text("utf-8").startswith("<!doctype html>")
    record = TraceRecord.from_json((tmp_path / "call.json").read_bytes())
    assert record.outcome == "complete"
    assert [span.layer for span in record.spans][-1] == "log"


def test_a_saved_call_is_drawn_and_made_a_page(lamella: Any, tmp_path: Path) -> None:
    """`lamella trace` shows what `--trace` would have shown."""
    lamella("run", ANSWER, "--trace", "call.json")
    record = TraceRecord.from_json((tmp_path / "call.json").read_bytes())
    done = lamella("trace", "call.json")
    assert (done.code, done.out) == (0, record.draw() + "\n")
    assert lamella("trace", "call.json", "--html", "call.html").out == ""
    assert (tmp_path / "call.html").read_text("utf-8") == record.page()


def test_a_call_that_fails_is_written_too(lamella: Any, tmp_path: Path) -> None:
    """With its exit code and its paragraph as without."""
    (tmp_path / "lamella.toml").write_text('[presets.p]\ntransport = "mock"\nlayers = ["retry"]\n')
    done = lamella("run", "x", "-p", "p", "-m", "mock;status=401", "--trace", "call.json")
    assert done.code == 3
    assert done.told().count("lamella: ") == 1
    assert json.loads((tmp_path / "call.json").read_text())["outcome"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "x", "--trace-file", "call.txt"], "the name does not say what to write"),
        (["run", "x", "--trace", "no/call.html"], "there is no folder 'no'"),
        (["run", "x", "--trace", "folder.html"], "--trace-file 'folder.html' is a folder"),
        (["trace", "none.json"], "none.json cannot be read: No such file"),
        (["trace", "bad.json"], "bad.json: This is no trace: version is missing"),
        (["trace", "bad.json", "--html", "x.json"], "is no name of a page"),
        (["trace", "bad.json", "--html", "no/x.html"], "--html 'no/x.html': there is no folder"),
    ],
)
def test_what_cannot_be_is_refused(
    lamella: Any, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """Before anything is sent, and with what to do."""
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "folder.html").mkdir()
    done = lamella(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.told()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device without room")
def test_a_file_that_cannot_be_written_costs_no_answer(lamella: Any, tmp_path: Path) -> None:
    """The answer is there, and the exit code says that something is not."""
    (tmp_path / "call.html").symlink_to("/dev/full")
    done = lamella("run", ANSWER, "--trace", "call.html")
    assert (done.code, done.out) == (1, "Because of Rayleigh.\n")
    assert "call.html cannot be written: No space left on device." in done.told()


def test_a_chat_writes_its_latest_call(lamella: Any, tmp_path: Path) -> None:
    """`/trace FILE`, at any time."""
    lines = f"/trace call.html\n{ANSWER}\n/trace call.html\n/trace no/call.html\n/trace x\n"
    done = lamella("chat", stdin=lines.encode())
    assert done.err.index("There has been no call yet.") < done.err.index("is in call.html.")
    assert "no/call.html cannot be written: No such file or directory." in done.err
    assert "/trace draws the latest call" in done.err
    assert "<!doctype html>" in (tmp_path / "call.html").read_text("utf-8")
