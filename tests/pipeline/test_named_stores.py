"""A store that is named by a table is made once for a process, and is what the table says."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from lamella import ConfigurationError, Pipeline, SQLiteBlobs, memory_blobs
from lamella._named_stores import layer_store
from lamella.testing import check_blob_store, run_virtual, virtual_ports


def blobs(**options: Any) -> Any:
    """The store of a table."""
    return layer_store("Cache", "blobs", options)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two directories; the process is in the first."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    monkeypatch.chdir(one)
    return one, other


def test_the_same_words_are_the_same_store() -> None:
    """Whatever their order; other words are another one."""
    store = blobs(use="memory", max_entries=4, eviction="fifo")
    assert blobs(eviction="fifo", use="memory", max_entries=4) is store
    assert blobs(use="memory", max_entries=5, eviction="fifo") is not store
    pipeline = Pipeline(
        [], "mock", stores={"blobs": {"use": "memory", "max_entries": 4, "eviction": "fifo"}}
    )
    assert pipeline.ports.stores.blobs is store


def test_objects_with_words_of_their_own_are_those_words(tmp_path: Path) -> None:
    """A path and a span of time in code mean what they mean in a file."""
    path = tmp_path / "a.db"
    store = blobs(use="sqlite", path=path, timeout=timedelta(seconds=2))
    assert blobs(use="sqlite", path=str(path), timeout=2.0) is store
    assert blobs(use="sqlite", path=path, timeout=timedelta(seconds=3)) is not store


def test_a_relative_path_is_that_of_the_moment(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words in another directory are another file, and the first one stays its own."""
    one, other = folders
    first = blobs(use="sqlite", path="a.db")
    assert blobs(use="sqlite", path=str(one / "a.db")) is first
    monkeypatch.chdir(other)
    second = blobs(use="sqlite", path="a.db")
    assert second is not first
    assert (first.store.path, second.store.path) == (one / "a.db", other / "a.db")
    assert blobs(use="sqlite", path=str(one / "a.db")) is first
    monkeypatch.chdir(one)
    assert blobs(use="sqlite", path="a.db") is first


@pytest.mark.parametrize("named", [True, False])
def test_memory_follows_the_clock_that_it_is_given(named: bool) -> None:
    """In virtual time as anywhere: what is given the ports' clock expires by it."""

    async def main() -> list[bool]:
        ports = virtual_ports()
        make: Any = partial(blobs, use="memory") if named else memory_blobs
        store = make(monotonic=ports.monotonic)
        await store.put("key", b"", ttl=3600.0)
        there = []
        for _ in range(2):
            there.append(await store.get("key") is not None)
            await anyio.sleep(3601.0)
        return there

    assert run_virtual(main) == [True, False]


def test_a_clock_is_no_word() -> None:
    """A file cannot give one."""
    with pytest.raises(ConfigurationError, match="monotonic"):
        blobs(use="memory", monotonic="wall")


def test_a_class_is_no_store() -> None:
    """It has all the methods; that it has to be made is told when the pipeline is."""
    for give in (
        lambda: layer_store("Cache", "blobs", SQLiteBlobs),
        lambda: Pipeline([], "mock", stores={"blobs": SQLiteBlobs}),
    ):
        with pytest.raises(ConfigurationError, match="got the class SQLiteBlobs, expected a store"):
            give()


def test_what_is_no_store_is_told_of_one_of_its_part() -> None:
    """The example is a store that there is for that part, in a layer and in a preset."""
    with pytest.raises(ConfigurationError, match=r"store: got 5, .* { use = 'sqlite', path = "):
        layer_store("Cache", "blobs", 5)
    with pytest.raises(ConfigurationError, match=r"leases: got 5, .* { use = 'sqlite', path = "):
        Pipeline([], "mock", stores={"leases": 5})
    with pytest.raises(ConfigurationError, match=r"index: got 5, .* { use = 'redis', url = "):
        layer_store("SemanticCache", "vectors", 5)


@pytest.mark.anyio
async def test_memory_by_its_name_keeps_the_rules() -> None:
    """What the factory makes is a store like any other."""
    await check_blob_store(memory_blobs)
