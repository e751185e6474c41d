"""Proofs: one record, or that a log only goes on, for somebody who does not see the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from audit_logs import ask, pipeline, public
from kept_logs import ADA, Log, a_log

from lamella import ConfigurationError
from lamella_middlewares.audit import Heads
from lamella_middlewares.audit._prove import check_proof, consistency, prove

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """One segment of 6 calls, with signed heads in it and kept beside."""
    return Log.in_folder(tmp_path)


def test_every_record_that_a_head_covers_can_be_proved(log: Log) -> None:
    """A proof needs the head or the key, and nothing of the log."""
    intents = lambda _, record: record["kind"] == "intent"  # noqa: E731
    assert [check_proof(one, keys=[ADA]) for one in prove(log.directory, intents)] == [None] * 6
    for proof in prove(log.directory, intents, heads=log.heads):
        assert json.loads(json.dumps(proof)) == proof
        assert check_proof(proof, heads=log.heads) is None
        assert len(proof["path"]) <= 5
        assert "not signed with a key" in str(check_proof(proof, keys=[public("e")]))
        assert "not that of a head that was given" in str(
            check_proof(proof, heads=[{**log.heads[0], "size": 1}])
        )


def test_proofs_to_a_merge_head(log: Log) -> None:
    """A head over all segments proves records of each of them."""
    (proof,) = prove(log.directory, lambda _, record: record["seq"] == 7, heads=[log.whole])
    assert proof["head"] == log.whole
    assert check_proof(proof, heads=[log.whole]) is None


def test_a_changed_proof_proves_nothing(log: Log) -> None:
    """Whatever is changed in it."""
    (proof,) = prove(log.directory, lambda _, record: record["seq"] == 2)
    changes: list[dict[str, Any]] = [
        {"record": proof["record"].replace("ada", "eve")},
        {"record": "{}"},
        {"seq": 3},
        {"size": proof["size"] + 1},
        {"root": "0" * 64},
        {"path": proof["path"][:-1]},
        {"path": [*proof["path"], "0" * 64]},
        {"path": "xyz"},
        {"segment": "another"},
        {"head": None},
        {"head": {**proof["head"], "at": 1}},
        {"head": {}},
        {"type": "another"},
    ]
    for change in changes:
        assert check_proof({**proof, **change}, keys=[ADA]) is not None, change
    assert check_proof({}, keys=[ADA]) == "it is no proof of an audit log"


async def test_a_record_that_no_head_covers_is_not_proved(tmp_path: Path) -> None:
    """The proof says so itself."""
    async with pipeline(tmp_path, heads=Heads(every=1000)) as line:
        await line.run(ask())
        (proof,) = prove(tmp_path, lambda _, record: record["kind"] == "intent")
    assert proof["head"] is None
    assert "no head covers it" in str(check_proof(proof))


async def test_a_log_that_goes_on_is_consistent_with_its_older_heads(tmp_path: Path) -> None:
    """And one that does not, cannot be proved to be."""
    log = await a_log(tmp_path / "log", tmp_path / "heads")
    for old in log.heads:
        for new in (None, log.whole):
            (proof,) = consistency(log.directory, old, new)
            assert check_proof(proof, heads=[old]) is None
            assert check_proof({**proof, "new_root": "0" * 64}, heads=[old]) is not None
            assert check_proof(proof, heads=[{**old, "size": 1}]) is not None
    shutil.rmtree(log.directory / "x", ignore_errors=True)
    lines = log.lines
    log.path.write_bytes(b"".join(lines[:3]))
    with pytest.raises(ConfigurationError, match="There is no proof"):
        consistency(log.directory, log.heads[-1])


async def test_large_logs_have_short_proofs(tmp_path: Path) -> None:
    """The length of a proof grows with the logarithm of the log."""
    line = pipeline(tmp_path, heads=Heads(every=10_000))
    async with line, anyio.create_task_group() as group:
        for number in range(300):
            group.start_soon(line.run, ask(f"question {number}"))
    (proof,) = prove(tmp_path, lambda _, record: record["seq"] == 300)
    assert len(proof["path"]) <= 10
