"""`lamella costs`: what it shows, writes and removes, and its exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Money, SpendRecord, SpendTotal, Usage
from lamella._sqlite_spend import SQLiteSpend
from lamella.cli import main
from lamella_middlewares.spend._report import amount, show_totals, whole
from lamella_middlewares.spend._times import instant_of

NOON = 1_763_726_400.0  # 2025-11-21T12:00 UTC

PRESETS = """
[presets.shop]
transport = "mock"
layers = [{ use = "spend", path = "shop.db" }]

[presets.new]
transport = "mock"
layers = [{ use = "spend", path = "new.db" }]

[presets.memory]
transport = "mock"
layers = [{ use = "spend", store = "memory_spend" }]

[presets.none]
transport = "mock"
layers = []
"""


def record(number: int, **more: Any) -> SpendRecord:
    """An attempt at noon, or so many hours later."""
    return SpendRecord(id=f"c{number}/0", call_id=f"c{number}", at=NOON + 3600 * number, **more)


USED = Usage(uncached_input=1000, cache_read=200, text_output=50)
RECORDS = [
    record(0, model="small", user="ada", usage=USED, cost=Money.of("0.0004"), tags={"team": "web"}),
    record(1, model="large", user="ada", usage=USED, cost=Money.of("12.5")),
    record(2, model="large", user="bob", usage=USED, cost=Money.of("25")),
    record(24, model="own", user="bob", usage=attrs.evolve(USED, estimated=True)),
]


@attrs.frozen
class Done:
    """What a run of the program has come to."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the records."""
    path = tmp_path_factory.mktemp("spend") / "filled.db"

    async def fill() -> None:
        store = SQLiteSpend(path)
        await store.append(RECORDS)
        await store.aclose()

    anyio.run(fill)
    return path


@pytest.fixture
def costs(
    tmp_path: Path,
    filled: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """The program, in a folder with presets and records, in Berlin."""
    monkeypatch.chdir(tmp_path)
    for name in ("LAMELLA_ENV", "LAMELLA_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    (tmp_path / "lamella.toml").write_text(PRESETS)

    for name in ("spend.db", "shop.db"):
        shutil.copy(filled, tmp_path / name)

    def run(*arguments: str) -> Done:
        code = main(["costs", *arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


def test_a_table_by_model(costs: Run) -> None:
    """Amounts stand under each other; what has no price is counted apart, with a remark."""
    done = costs("--since", "2025-01-01")
    assert done.code == 0
    assert done.out == (
        "model  attempts  input  cached  output      USD  unpriced\n"
        "large         2  2,400     400     100  37.5000         0  ========================\n"
        "own           1  1,200     200      50        -         1\n"
        "small         1  1,200     200      50   0.0004         0  =\n"
        "all           4  4,800     800     200  37.5004         1\n"
    )
    assert "1 attempt has no known cost" in done.err
    assert "1 attempt has estimated tokens" in done.err
    assert "(spend.db; times of Europe/Berlin)" in done.err


def test_a_strangers_name_stays_in_its_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """It neither steers the terminal, nor adds lines that look like others."""
    name = "\x1b[2Jeve\nall  9\u202e"
    show_totals([SpendTotal(group=(name,), attempts=1), SpendTotal(group=("bob",))], ("user",))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["user", "\ufffd[2Jeve\ufffdall", "bob", "all"]


def test_days_are_those_of_the_time_zone(costs: Run) -> None:
    """This machine's, or the one that is named; several things can be told apart together."""
    lines = costs("--by", "day", "--by", "user", "--timezone", "Asia/Tokyo").out.splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [
        ["2025-11-21", "ada"],
        ["2025-11-21", "bob"],
        ["2025-11-22", "bob"],
    ]


def test_json_has_amounts_exactly(costs: Run) -> None:
    """As texts and in billionths, with the sum of all groups."""
    done = costs("--json", "--by", "tag:team", "--where", "user=ada", "--preset", "shop")
    found = json.loads(done.out)
    assert [group["group"] for group in found["groups"]] == [
        {"tag:team": None},
        {"tag:team": "web"},
    ]
    assert found["groups"][1]["costs"] == {"USD": {"amount": "0.000400000", "nano": 400_000}}
    assert found["total"]["costs"]["USD"]["nano"] == 12_500_400_000
    assert found["from"].startswith("preset 'shop', ")
    assert found["from"].endswith("shop.db")


def test_nothing_found_says_what_to_do(costs: Run) -> None:
    """It is no failure."""
    done = costs("--until", "2000-01-01")
    assert (done.code, done.out) == (0, "")
    assert "--since, --until and --where" in done.err


def test_export_and_forget(costs: Run, tmp_path: Path) -> None:
    """What was written to a file can be removed; without somebody to ask, only with --yes."""
    assert costs("export", "--to", "all.csv", "--where", "model=large").code == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 3
    assert costs("forget", "--before", "2025-11-22").code == 2
    done = costs("forget", "--before", "2025-11-22", "--yes")
    assert (done.code, "3 records removed" in done.err) == (0, True)
    assert costs().out.splitlines()[1].split()[:2] == ["own", "1"]
    done = costs(
        "forget", "--where", "user=bob", "--where", "model=own", "--preset", "shop", "--yes"
    )
    assert (done.code, "1 records removed" in done.err) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "usr"), "tag:NAME"),
        (("--where", "user"), "NAME=VALUE"),
        (("--where", "user=ada", "--where", "user=bob"), "twice what user is to be"),
        (("--since", "soon"), "--since 'soon' is no instant"),
        (("--since", "5m"), "hours (12h), days (7d) or weeks (2w)"),
        (("--since", "2026-01-02", "--until", "2026-01-02"), "nothing is between"),
        (("--timezone", "Mars/Olympus"), "no time zone"),
        (("--from", "no.db"), "no file 'no.db'"),
        (("--from", "."), "is a directory"),
        (("--from", "spend.db", "--preset", "shop"), "the one or the other"),
        (("--preset", "none"), "has no Spend"),
        (("--preset", "memory"), "in memory"),
        (("--preset", "new"), "There is no file '"),
        (("forget", "--before", "then", "--yes"), "--before 'then' is no instant"),
        (("forget", "--yes"), "Nothing says which"),
        (("forget", "--where", "user=", "--yes"), "--where NAME=VALUE with a value"),
        (("export", "--to", "spend.xlsx"), ".parquet"),
    ],
)
def test_wrong_command_lines(costs: Run, arguments: tuple[str, ...], words: str) -> None:
    """They are told in a sentence, and nothing is made by looking."""
    there = sorted(Path.cwd().iterdir())
    done = costs(*arguments)
    assert sorted(Path.cwd().iterdir()) == there
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_without_a_file_it_says_how_to_get_one(costs: Run, tmp_path: Path) -> None:
    """Nothing is made by looking."""
    (tmp_path / "spend.db").unlink()
    done = costs()
    assert done.code == 2
    assert "put one into the pipeline" in done.err
    assert not (tmp_path / "spend.db").exists()


def test_instants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dates are those of the zone; spans are before now; a time may name its own zone."""
    import time

    day = 86_400
    now = time.time()
    assert instant_of("-", "2025-11-21", "Europe/Berlin") == NOON - 13 * 3600
    assert instant_of("-", "2025-11-21T12:00Z", "Europe/Berlin") == NOON
    assert 0 <= instant_of("-", "2w", "UTC") - (now - 14 * day) < 60
    today = instant_of("-", "today", "UTC")
    assert today % day == 0
    assert instant_of("-", "yesterday", "UTC") in {today - day, today}  # midnight may pass
    assert instant_of("-", "month", "UTC") <= instant_of("-", "now", "UTC")
    assert instant_of("-", "week", "UTC") <= today + day


@given(st.integers(-(10**15), 10**15), st.integers(0, 9))
def test_amounts_are_rounded_once_and_never_through_a_float(nano: int, places: int) -> None:
    """What is written is at most half a digit away, and all nine digits are exact."""
    written = amount(nano, places).replace(",", "").replace(".", "")
    assert abs(int(written) * 10 ** (9 - places) - nano) * 2 <= 10 ** (9 - places)


def test_the_sum_of_several_currencies_has_each() -> None:
    """They are never added to each other."""
    one = SpendTotal(attempts=1, costs={"USD": Money(5)})
    two = SpendTotal(attempts=2, costs={"EUR": Money(7, "EUR"), "USD": Money(1)})
    total = whole([one, two])
    assert (total.attempts, total.costs) == (3, {"USD": Money(6), "EUR": Money(7, "EUR")})
