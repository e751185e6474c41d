"""Records of spend in files: exact, whole or not there, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from spending import ANSWER, ask, spending

from lamella import ConfigurationError, Money, SpendQuery, SpendRecord, StoreUnavailableError, Usage
from lamella._memory_spend import MemorySpend
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.spend import Spend, _export, export

pytestmark = pytest.mark.anyio

FIRST = SpendRecord(
    id="a/0",
    at=1_763_700_000.25,
    call_id="a",
    user="=HYPERLINK(1)",
    model="m",
    tags={"team": "+web"},
    usage=Usage(uncached_input=7, cache_write={"5m": 3}, text_output=2, tool_units={"search": 1}),
    cost=Money(1),
    duration=0.5,
)
SECOND = SpendRecord(id="b/0", at=1_763_700_001.0, call_id="b", outcome="failed")


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]


async def exported(path: Path, **more: Any) -> int:
    """Write both into a file."""
    store = MemorySpend()
    await store.append([SECOND, FIRST])
    return await export(store, path, ports=virtual_ports(), **more)


async def test_csv(tmp_path: Path) -> None:
    """A line for each, in order of time; what a spreadsheet would run is text."""
    assert await exported(tmp_path / "spend.csv") == 2
    with (tmp_path / "spend.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first["at"] == "2025-11-21T04:40:00.250000+00:00"
    assert (first["cost"], first["cost_nano"], first["currency"]) == ("0.000000001", "1", "USD")
    assert first["user"] == "'=HYPERLINK(1)"
    assert json.loads(first["tags"]) == {"team": "+web"}
    assert (second["cost"], second["uncached_input"], second["user"]) == ("", "", "")


async def test_what_waits_is_written_first(tmp_path: Path) -> None:
    """One reads what one has just spent."""
    store = MemorySpend()
    pipe = spending([Spend(store=store)], Scripted([ANSWER]))
    await pipe.run(ask())
    assert await export(store, tmp_path / "spend.csv", ports=virtual_ports()) == 1
    await pipe.aclose()


async def test_json_lines(tmp_path: Path) -> None:
    """An object a line; amounts are texts, and nothing is changed."""
    assert await exported(tmp_path / "spend.jsonl", query=SpendQuery(where={"model": "m"})) == 1
    (line,) = (tmp_path / "spend.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert (row["cost"], row["cost_nano"], row["user"]) == ("0.000000001", 1, "=HYPERLINK(1)")
    assert (row["cache_write"], row["tool_units"]) == ({"5m": 3}, {"search": 1})


async def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed columns, a row group for each batch; amounts are decimals."""
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(_export, "ROWS", 1)
    assert await exported(tmp_path / "spend.parquet") == 2
    file = parquet.ParquetFile(tmp_path / "spend.parquet")
    assert file.metadata.num_row_groups == 2
    first, second = file.read().to_pylist()
    assert first["cost"] == Decimal("0.000000001")
    assert first["at"].timestamp() == FIRST.at
    assert dict(first["tags"]) == {"team": "+web"}
    assert set(first) == {*_export.row_of(FIRST)}
    assert (second["cost"], second["text_output"], second["estimated"]) == (None, None, None)


async def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which, and how to get it; nothing is left behind."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install \"lamella\[parquet\]\""):
        await exported(tmp_path / "spend.parquet")
    assert names(tmp_path) == []


async def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """Where the store fails on the way, nothing is left; what was there stays."""

    @attrs.define
    class Failing(MemorySpend):
        def read(self, query: SpendQuery) -> Any:
            async def some() -> Any:
                yield FIRST
                raise StoreUnavailableError("gone")

            return some()

    target = tmp_path / "spend.csv"
    target.write_text("before")
    with pytest.raises(ConfigurationError, match="already"):
        await exported(target)
    with pytest.raises(StoreUnavailableError):
        await export(Failing(), target, overwrite=True, ports=virtual_ports())
    assert names(tmp_path) == ["spend.csv"]
    assert target.read_text() == "before"
    assert await exported(target, overwrite=True) == 2


@pytest.mark.parametrize(
    ("name", "words"), [("spend.xlsx", r"\.csv, \.jsonl"), ("no/spend.csv", "no directory")]
)
async def test_what_cannot_be_written_is_told(tmp_path: Path, name: str, words: str) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigurationError, match=words):
        await exported(tmp_path / name)
