"""`lamella map`: what a row may be, what stands in its line, and which files are written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

from lamella import MapProgress, Money, RowError
from lamella._bulk_report import Tally
from lamella._bulk_results import line_of
from lamella._bulk_rows import KNOWN, RowReader
from lamella.cli._asking import Asking
from lamella.cli._map_input import Lines
from lamella.cli._map_output import Results
from lamella.cli._map_progress import Progress, spent

SCRIPTED = """
[presets.mine]
transport = {{ use = "mock", script = {script} }}
layers = ["cost"]
"""


def rows_in(folder: Path, *rows: object) -> str:
    """A file with rows."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "rows.jsonl"


def lines_of(text: str) -> list[Any]:
    """The lines that were written, in the order of the rows."""
    found = [json.loads(line) for line in text.splitlines()]
    return sorted(found, key=lambda line: line["index"])


def test_each_row_has_a_line(lamella: Any, tmp_path: Path) -> None:
    """A prompt, an object and a conversation: each is answered, under its index and its id."""
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    rows = rows_in(
        tmp_path, '"mock: say one"', "", {"id": "b", "prompt": "mock: say two", "user": "u-1"},
        {"id": 3, "messages": conversation, "model": "mock-small", "max_output_tokens": 2},
    )  # fmt: skip
    done = lamella("map", rows, "answers.jsonl")
    assert (done.code, done.out) == (0, "")
    one, two, three = lines_of((tmp_path / "answers.jsonl").read_text("utf-8"))
    assert [line["id"] for line in (one, two, three)] == [None, "b", 3]
    assert [line["text"] for line in (one, two)] == ["one", "two"]
    assert (three["model"], three["finish_reason"]) == ("mock-small", "length")
    assert sorted(one) == snapshot(
        [
            "attempts",
            "cost",
            "error",
            "finish_reason",
            "id",
            "index",
            "model",
            "refusal",
            "seconds",
            "served_by",
            "system_fingerprint",
            "text",
            "tool_calls",
            "usage",
        ]
    )
    assert "3 rows done, 0 failed" in done.err
    assert str(Money(sum(line["cost"]["nano"] for line in (one, two, three)))) in done.err


def test_a_wrong_row_is_a_line_that_says_so(lamella: Any) -> None:
    """It keeps no other from its answer; nothing of it is sent, and the exit code is 1."""
    rows = (
        b'{"id": "slip", "promt": "hi"}\nno json\n{"temperature": 1}\n{"id": [1], "prompt": "hi"}\n'
        b'{"prompt": "hi", "temperature": -1}\n{"prompt": "hi", "tags": {"team": 1}}\n\xff\n[1]\n'
        b'{"seed": NaN}\n'
        b'{"prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}\n'
        b'{"messages": [{"role": "user"}]}\n{"prompt": "mock: say fine"}\n{"prompt": "x'
    )
    done = lamella("map", "-", "-", stdin=rows)
    assert done.code == 1
    *wrong, fine, cut = lines_of(done.out)
    assert (fine["text"], fine["error"]) == ("fine", None)
    assert cut["error"]["message"].startswith("The row is no JSON (column")
    assert {line["error"]["code"] for line in wrong} == {"invalid_row"}
    assert {line["cost"]["nano"] for line in wrong} == {0}
    assert [line["id"] for line in wrong[:4]] == ["slip", None, None, None]
    assert [line["error"]["message"] for line in wrong] == snapshot(
        [
            (
                "The row has a field 'promt', which there is not. Did you mean 'prompt'? "
                "What only one provider knows goes into 'extra'."
            ),
            "The row is no JSON (column 1). Each line is one object, or the prompt in quotes.",
            "The row asks nothing. Give one of 'prompt' and 'messages'.",
            "The row's 'id' is not text, or a whole number.",
            "The row is no request: temperature must be 0 or more, not -1.",
            "The row's 'tags' is not an object of texts.",
            "The row is no UTF-8 text: byte 1 is none.",
            "The row is neither an object nor text.",
            "The row is no JSON. Each line is one object, or the prompt in quotes.",
            "The row has a 'prompt' and 'messages'. Give one of 'prompt' and 'messages'.",
            "The row's message 1 (of the user) is empty. Give it a 'content'.",
        ]
    )
    assert "Failures: 12 RowError; see 'error' in their lines." in done.err


def test_a_failed_call_is_a_line_with_its_cost(lamella: Any, tmp_path: Path) -> None:
    """What a provider refuses is an error in its line; the other rows are answered."""
    config = SCRIPTED.format(script='["status=500", "truncate=3"]')
    (tmp_path / "lamella.toml").write_text(config)
    rows = rows_in(tmp_path, *[{"prompt": "mock: words=9"}] * 3)
    done = lamella("map", rows, "-", "--preset", "mine", "--concurrency", "1")
    assert done.code == 1
    refused, cut, whole = lines_of(done.out)
    assert (refused["error"]["status"], refused["attempts"]) == (500, 1)
    assert cut["error"]["type"] == "StreamTruncated"
    assert cut["text"]
    assert 0 < cut["cost"]["nano"] < whole["cost"]["nano"]
    assert sorted(refused) == sorted(cut) == sorted(whole)


def test_what_every_row_would_meet_ends_the_run(lamella: Any, tmp_path: Path) -> None:
    """A key that is refused: the rest is not begun, and the exit code says why."""
    (tmp_path / "lamella.toml").write_text(SCRIPTED.format(script='["ok", "status=401"]'))
    rows = rows_in(tmp_path, *[{"prompt": "hi"}] * 9)
    done = lamella("map", rows, "-", "-p", "mine", "--concurrency", "1")
    assert done.code == 3
    assert [line["error"] is None for line in lines_of(done.out)] == [True, False]
    assert "No further row was begun" in done.err


BUDGETS = """
[presets.mine]
transport = {{ use = "mock", script = "ok" }}
layers = [{{ use = "budget", {limit} }}]
"""


@pytest.mark.parametrize(
    ("limit", "answered", "lines"),
    [
        ("requests = 2", 2, 3),  # nothing is left
        ("tokens = 220, margin = 0", 3, 6),  # too little is, three times in a row
        ("requests = 2, per = 'user'", 6, 9),  # the other users have theirs
    ],
)
def test_a_used_up_budget_for_all_ends_the_run(
    lamella: Any, tmp_path: Path, limit: str, answered: int, lines: int
) -> None:
    """Every further row would meet the same; where each user has a budget, the others go on."""
    (tmp_path / "lamella.toml").write_text(BUDGETS.format(limit=limit))
    prompt = {"prompt": "mock: words=20", "max_output_tokens": 100}
    rows = rows_in(tmp_path, *[{**prompt, "user": f"u-{row % 3}"} for row in range(9)])
    done = lamella("map", rows, "-", "-p", "mine", "--concurrency", "1")
    assert done.code == 1
    written = [line["error"] is None for line in lines_of(done.out)]
    assert (sum(written), len(written)) == (answered, lines)
    assert ("No further row was begun" in done.err) == (lines != 9)


def test_options_hold_where_a_row_is_silent(lamella: Any) -> None:
    """What a row says goes first; instructions of its own stand in place of `--system`."""
    asking = Asking(model="m", system="Be brief.", temperature=0.5, tenant="acme")
    reader = RowReader(asking.request([]), has_model=False)

    def request(row: Mapping[str, Any]) -> Any:
        return reader.read(0, json.dumps(row).encode()).asked

    plain = request({"prompt": "hi", "tags": {"team": "web"}, "user": None})
    assert [message.role for message in plain.messages] == ["system", "user"]
    assert (plain.model, plain.temperature, plain.context.tenant) == ("m", 0.5, "acme")
    assert (plain.context.tags, plain.context.user) == ({"team": "web"}, None)
    own = [{"role": "developer", "content": "Be long."}, {"role": "user", "content": "hi"}]
    said = request({"messages": own, "model": "n", "temperature": 0, "tenant": "b", "stop": "x"})
    assert [message.text for message in said.messages] == ["Be long.", "hi"]
    assert (said.model, said.temperature, said.stop) == ("n", 0, ("x",))
    assert said.context.tenant == "b"
    without = RowReader(has_model=False, hint="Say --model.").read(0, b'"hi"')
    assert "--model" in str(without.asked)


def test_nothing_is_replaced_unasked(lamella: Any, tmp_path: Path) -> None:
    """A file that is there stays unless `--overwrite`, and what is read stays in any case."""
    rows = rows_in(tmp_path, {"prompt": "mock: say new"}, {"prompt": "mock: say newer"})
    answers = tmp_path / "answers.jsonl"
    answers.write_text("old")
    told = [
        lamella("map", rows, "answers.jsonl"),
        lamella("map", rows, rows, "--overwrite"),
        lamella("map", "nowhere.jsonl", "other.jsonl"),
        lamella("map", rows, "no/folder.jsonl"),
        lamella("map", rows, "other.jsonl", "--concurrency", "0"),
        lamella("map", rows, "other.jsonl", "--limit", "-1"),
        lamella("map", rows, "other.jsonl", "--drain", "nan"),
        lamella("map", rows, "other.jsonl", "--temperature", "-1"),
        lamella("map", rows, "other.jsonl", "--preset", "nope"),
    ]
    assert [done.code for done in told] == [2] * len(told)
    assert [done.err.strip() for done in told[:7]] == snapshot(
        [
            (
                "lamella: answers.jsonl is there already and is not replaced. "
                "Give another name, or --overwrite."
            ),
            "lamella: rows.jsonl is read, and cannot be written as well.",
            (
                "lamella: nowhere.jsonl cannot be read: No such file or directory. "
                "Give a file of JSON lines, one request each."
            ),
            "lamella: no/folder.jsonl cannot be written: No such file or directory.",
            "lamella: --concurrency 0 would ask nothing; it is 1 or more.",
            "lamella: --limit -1 is no number of rows; it is 0 or more.",
            "lamella: --drain nan is no time; it is 0 seconds or more.",
        ]
    )
    assert answers.read_text() == "old"
    assert not (tmp_path / "other.jsonl").exists()
    assert lamella("map", rows, "answers.jsonl", "--overwrite", "--limit", "1").code == 0
    (line,) = lines_of(answers.read_text())
    assert line["text"] == "new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_full_disk_ends_the_run(lamella: Any, tmp_path: Path) -> None:
    """It is told once, no row that could not be written counts as done."""
    rows = rows_in(tmp_path, *[{"prompt": "mock: say x"}] * 40)
    done = lamella("map", rows, "/dev/full")
    assert done.code == 1
    assert "/dev/full: No space left on device" in done.err
    assert "0 rows done" in done.err


# --- lines and rows, whatever they are -----------------------------------------------------------


async def straight(function: Any, *arguments: Any) -> Any:
    """A port to threads that uses none."""
    return function(*arguments)


class Pieces:
    """A file that comes in pieces of a few bytes."""

    def __init__(self, data: bytes, size: int, number: int) -> None:
        self._data = data
        self._size = size
        self._number = number

    def fileno(self) -> int:
        """Of a file, so that nobody waits for it."""
        return self._number

    def read(self, _: int) -> bytes:
        """The next piece."""
        piece, self._data = self._data[: self._size], self._data[self._size :]
        return piece


async def all_of(lines: Lines, most: int) -> list[bytes | None]:
    """What is given, so many at a time."""
    found: list[bytes | None] = []
    while some := await lines.take(most):
        assert len(some) <= most
        found += some
    return found


@settings(max_examples=50)
@given(
    texts=st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")), max_size=8),
    size=st.integers(1, 9),
    most=st.integers(1, 3),
    limit=st.none() | st.integers(0, 4),
    ended=st.booleans(),
)
def test_lines_are_those_of_the_file(
    texts: Sequence[bytes], size: int, most: int, limit: int | None, *, ended: bool
) -> None:
    """However a file comes in pieces, each line that is not empty is given once, in order."""
    data = b"\xef\xbb\xbf" + b"\n".join(texts) + (b"\n" if ended else b"")
    with Path(__file__).open("rb") as regular:
        file = cast("BinaryIO", Pieces(data, size, regular.fileno()))
        lines = Lines(file, straight, limit)
        found = anyio.run(all_of, lines, most)
    wanted = [text for text in texts if text.strip()][:limit]
    assert found == wanted
    assert lines.total == len(wanted)


def test_a_line_beyond_all_bounds_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one wrong row, and the next is read as it is."""
    monkeypatch.setattr("lamella.cli._map_input.LARGEST", 10)
    reading, writing = os.pipe()
    os.write(writing, b"x" * 11 + b"\n" + b"y" * 10 + b"\n" + b"z" * 99)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as file:
        found = anyio.run(all_of, Lines(cast("BinaryIO", file), straight), 2)
    assert found == [None, b"y" * 10, None]
    row = RowReader().read(0, found[0])
    assert "MiB" in str(row.asked)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=50)
@given(row=st.dictionaries(st.sampled_from([*KNOWN, "other"]), VALUES, max_size=5) | VALUES)
def test_any_row_is_a_request_or_says_why_it_is_none(row: Any) -> None:
    """No row breaks the run, whatever stands in it."""
    read = RowReader().read(7, json.dumps(row).encode())
    assert read.index == 7
    if not isinstance(read.asked, RowError):
        assert cast("Any", read.asked).messages


# --- what is written, and shown ------------------------------------------------------------------


def test_no_half_line_is_left(tmp_path: Path) -> None:
    """Where the room ends within a line, the lines before it stay, and nobody hears otherwise."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "answers.jsonl"
    with path.open("xb", buffering=0) as file:
        results = Results(file, straight)

        async def write(line: bytes) -> None:
            with pytest.raises(OSError, match="too large"):
                await results.write(line)

        async def work() -> None:
            await results.write(b"whole\n")
            await write(b"also whole\nonly half\n")
            await write(b"late\n")

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (22, before[1]))
        try:
            anyio.run(work)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"whole\nalso whole\n"


def test_half_a_letter_is_written_as_json_can() -> None:
    """A line is UTF-8 whatever an answer ends in."""
    assert json.loads(line_of({"text": "é\ud83d"})) == {"text": "é\ud83d"}
    assert line_of({"text": "é"}) == '{"text":"é"}\n'.encode()


def test_sums_keep_currencies_and_unknown_costs_apart() -> None:
    """No amount is added to another currency's, and what is unknown is counted, not 0."""
    tally = Tally()
    tally.spend((2, 1), {}, unpriced=True)
    tally.ended("", ("m", ""))
    assert spent(tally.report(1.0, "", 0)) == "cost unknown"
    tally.spend((2, 1), {"USD": Money(5), "EUR": Money(7, "EUR")}, unpriced=False)
    tally.ended("", ("m", ""))
    tally.spend((0, 0), {}, unpriced=False)
    tally.ended("TimeoutError", None)
    report = tally.report(1.0, "", 0)
    assert spent(report) == "€0.000000007 and $0.000000005, 1 row of unknown cost"
    assert (report.rows, report.failed, report.input_tokens, report.output_tokens) == (3, 1, 4, 2)


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that is written over, ten times a second at most, and taken away at the end."""
    shown = StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", shown)
    now = iter([0.0, 0.05, 2.0])
    progress = Progress(lambda: next(now), hidden=False)
    told = MapProgress(1_000, 1, 0, 200, 4_000, 2.0, 500.0, 9_000.0, {}, 90.0, 256)
    progress.tell(told)
    assert shown.getvalue() == ""
    progress.tell(told)
    assert shown.getvalue() == (
        "\r[=====               ] 25%, 1,000 of 4,000, 1 failed, 200 of 256 under way, "
        "500.0 rows and 9,000 tokens a second, $0, 1:30 left\x1b[K"
    )
    progress.clear()
    assert shown.getvalue().endswith("\r\x1b[K")
