"""The verifier: whatever was done to a log shows, and the first bad record is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from audit_disks import good, segments
from audit_logs import ask, pipeline, public, signer, written
from hypothesis import given
from hypothesis import strategies as st
from kept_logs import ADA, Log, a_log, the_log

from lamella import ConfigurationError
from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._forest import Forest
from lamella_middlewares.audit._heads import head_problem
from lamella_middlewares.audit._prove import check_proof
from lamella_middlewares.audit._record import Draft
from lamella_middlewares.audit._tree import leaf_hash
from lamella_middlewares.audit._verify import verify

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """One segment of 6 calls, with signed heads in it and kept beside."""
    return Log.in_folder(tmp_path)


def rechained(lines: list[bytes]) -> bytes:
    """Records as somebody would write them who has rewritten a log: each follows the one before."""
    chain, out = Chain(), b""
    for line in lines:
        record = json.loads(line)
        fields = {k: v for k, v in record.items() if k not in _PLACE}
        draft = Draft.of(record["kind"], fields).stamp(record["at"], record["mono"])
        out += chain.add(draft)[0] + b"\n"
    return out


_PLACE = {"seq", "prev", "at", "mono", "clock", "kind"}


def edited(line: bytes, **changes: Any) -> bytes:
    """A record with other fields, in canonical form."""
    record = {**json.loads(line), **changes}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8") + b"\n"


def test_a_good_log_is_good(log: Log) -> None:
    """Nothing is wrong, nothing is remarkable, and every record of a request is covered."""
    report = log.check()
    assert report.ok
    assert not report.problems
    assert not report.remarks
    assert not report.open_calls
    assert report.calls == 6
    assert report.keys == (ADA,)
    (one,) = report.segments
    assert one.records == len(log.lines)
    assert one.covered >= one.told
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


FIRST = 5
"""The record that is done something to."""


def swap(lines: list[bytes]) -> list[bytes]:
    """Two records in each other's place."""
    lines[FIRST], lines[FIRST + 1] = lines[FIRST + 1], lines[FIRST]
    return lines


TAMPERING: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int, str]] = {
    "edit": (
        lambda lines: [*lines[:FIRST], edited(lines[FIRST], user="eve"), *lines[FIRST + 1 :]],
        FIRST,
        "chain",
    ),
    "edit of its link": (
        lambda lines: [*lines[:FIRST], edited(lines[FIRST], prev="0" * 64), *lines[FIRST + 1 :]],
        FIRST - 1,  # that, or the one after it: nobody can know which of the two was changed
        "chain",
    ),
    "edit of all": (
        lambda lines: [lines[0], *[edited(line, user="eve") for line in lines[1:]]],
        1,
        "chain",
    ),
    "delete": (lambda lines: lines[:FIRST] + lines[FIRST + 1 :], FIRST, "number"),
    "insert a copy": (
        lambda lines: [*lines[: FIRST + 1], lines[FIRST], *lines[FIRST + 1 :]],
        FIRST + 1,
        "number",
    ),
    "insert another": (
        lambda lines: (
            [*lines[: FIRST + 1], edited(lines[FIRST], seq=FIRST + 1), *lines[FIRST + 1 :]]
        ),
        FIRST + 1,
        "chain",
    ),
    "reorder": (swap, FIRST, "number"),
    "duplicate number": (
        lambda lines: [*lines[:FIRST], edited(lines[FIRST], seq=FIRST - 1), *lines[FIRST + 1 :]],
        FIRST,
        "number",
    ),
    "a lie about the clock": (
        lambda lines: [*lines[:FIRST], edited(lines[FIRST], clock="back"), *lines[FIRST + 1 :]],
        FIRST,
        "clock",
    ),
    "no canonical form": (
        lambda lines: [*lines[:FIRST], lines[FIRST].replace(b":", b": ", 1), *lines[FIRST + 1 :]],
        FIRST,
        "malformed",
    ),
    "garbage": (
        lambda lines: [*lines[:FIRST], b"\0\xff\n", *lines[FIRST + 1 :]],
        FIRST,
        "malformed",
    ),
    "no header": (lambda lines: lines[1:], 0, "number"),
    "empty": (lambda lines: lines[:0], 0, "header"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_shows_without_any_head(log: Log, what: str) -> None:
    """The chain alone shows it, and the first bad record is named with its place in the file."""
    change, seq, reason = TAMPERING[what]
    lines = change(log.lines)
    log.path.write_bytes(b"".join(lines))
    report = log.check(heads=False)
    problem = report.problems[0]
    assert (problem.seq, problem.reason) == (seq, reason)
    assert problem.segment == log.path.stem
    assert problem.offset == len(b"".join(lines[:seq]))
    assert f"record {seq}" in str(problem)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_cut_end_shows_with_a_head_of_any_age(log: Log, kept: int) -> None:
    """Cut off before what an older head covers, or after it and before a newer one."""
    head = log.heads[kept]
    lines = log.lines[: head["size"] - 1]
    log.path.write_bytes(b"".join(lines))
    report = verify(log.directory, heads=[head], keys=[ADA])
    (problem,) = report.problems
    assert (problem.reason, problem.seq) == ("truncated", len(lines))
    assert problem.offset == len(b"".join(lines))


def test_a_torn_end_shows_with_a_head_and_is_a_remark_without(log: Log) -> None:
    """A crash leaves a line without an end, so that alone is no sign of tampering."""
    data = log.path.read_bytes()
    log.path.write_bytes(data[: -len(log.lines[-1]) // 2])
    without = verify(log.directory)
    assert without.ok
    assert "has no end" in without.remarks[0]
    report = verify(log.directory, heads=[log.whole])
    assert [problem.reason for problem in report.problems] == ["truncated"]


def test_a_rewritten_log_does_not_agree_with_its_heads(log: Log) -> None:
    """Somebody who edits a record and makes all that follows fit cannot make the heads fit."""
    lines = log.lines
    lines[FIRST] = edited(lines[FIRST], user="eve")
    log.path.write_bytes(rechained(lines))
    (problem,) = log.check(heads=False).problems
    assert problem.reason == "rewritten"
    older = max(head["size"] for head in log.heads if head["size"] <= FIRST)
    assert problem.seq == older
    assert older <= FIRST


def test_without_its_heads_a_rewritten_log_shows_by_those_that_were_kept(log: Log) -> None:
    """They were given to somebody who does not write the log."""
    lines = [line for line in log.lines if b'"kind":"head"' not in line]
    lines[FIRST] = edited(lines[FIRST], user="eve")
    log.path.write_bytes(rechained(lines))
    unknowing = verify(log.directory)
    assert unknowing.ok
    assert "no head covers its records" in unknowing.remarks[0]
    (problem,) = log.check().problems
    assert problem.reason == "rewritten"


async def test_heads_that_somebody_else_signs_are_not_believed(log: Log, tmp_path: Path) -> None:
    """A whole log, made again with another key, is not signed with the one that is known."""
    fake = tmp_path / "fake"
    await written(fake, sign_with=signer("e"))
    report = verify(fake, keys=[ADA])
    problem = report.problems[0]
    assert problem.reason == "key"
    assert problem.segment == segments(fake)[0].stem
    assert good(segments(fake)[0])[problem.seq or 0]["kind"] == "head"
    assert "--key" in " ".join(verify(fake).remarks)


def test_a_head_without_its_signature_shows(log: Log) -> None:
    """Wrong signatures, and none where a key is known."""
    for change in ({"signature": "AAAA"}, {"signature": None, "key": None}, {"at": 1}):
        lines = log.lines
        place = next(i for i, line in enumerate(lines) if b'"kind":"head"' in line)
        head = {**json.loads(lines[place])["head"], **change}
        lines[place] = edited(lines[place], head=head)
        log.path.write_bytes(rechained(lines))
        report = log.check(heads=False)
        problem = report.problems[0]
        assert (problem.reason, problem.seq) == ("signature", place), change


def test_a_kept_head_needs_no_signature(log: Log) -> None:
    """That somebody else kept it is as good; the heads in the log must have theirs all the same."""
    assert log.whole["key"] is None
    assert verify(log.directory, heads=[log.whole], keys=[ADA]).ok
    log.path.write_bytes(b"".join(log.lines[:-1]))
    (problem,) = verify(log.directory, heads=[log.whole], keys=[ADA]).problems
    assert problem.reason == "truncated"


def test_nobody_can_say_of_a_covered_record_that_it_had_been_given_up(log: Log) -> None:
    """A file that is put beside, with a header about a failed disk, excuses nothing."""
    lines = log.lines
    forest = Forest()
    for line in lines[:FIRST]:
        forest.add(leaf_hash(line.rstrip(b"\n")))
    said = {
        "format": 1, "segment": "later", "previous": log.path.stem, "why": "failed",
        "previous_size": FIRST, "previous_root": forest.root(FIRST).hex(),
    }  # fmt: skip
    header = Chain().add(Draft.of("segment", said).stamp(0, 0))[0]
    (log.directory / "later.audit").write_bytes(header + b"\n")
    assert log.check(heads=False).ok
    log.path.write_bytes(b"".join([*lines[:FIRST], edited(lines[FIRST], user="eve"), *lines[6:]]))
    problem = log.check(heads=False).problems[0]
    assert (problem.segment, problem.seq, problem.reason) == (log.path.stem, FIRST, "chain")


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_what_is_no_file_is_not_read(log: Log) -> None:
    """A pipe would hold the verifier up for ever."""
    os.mkfifo(log.directory / "pipe.audit")
    (log.directory / "folder.audit").mkdir()
    report = log.check()
    assert [problem.reason for problem in report.problems] == ["unreadable"] * 2


def test_heads_follow_each_other(log: Log) -> None:
    """Taking one of them out shows, as does one that covers what comes after it."""
    lines = log.lines
    first = next(i for i, line in enumerate(lines) if b'"kind":"head"' in line)
    log.path.write_bytes(rechained(lines[:first] + lines[first + 1 :]))
    assert log.check(heads=False).problems[0].reason in {"head", "rewritten"}
    log.path.write_bytes(rechained([lines[0], lines[first], *lines[1:]]))
    problem = log.check(heads=False).problems[0]
    assert (problem.reason, problem.seq) == ("head", 1)


async def test_a_segment_that_is_gone_shows(tmp_path: Path) -> None:
    """A head knows it, and the one that was begun after it."""
    directory = tmp_path / "log"
    heads = await written(directory, 40, sink=tmp_path / "heads", max_bytes=8192)
    paths = segments(directory)
    assert len(paths) > 3
    assert verify(directory, heads=heads).ok
    paths[1].unlink()
    for some in ([], heads):
        report = verify(directory, heads=some)
        assert [problem.reason for problem in report.problems] == ["missing"]
        assert report.problems[0].segment == paths[1].stem
    assert verify(directory, heads=heads, without=[paths[1].stem]).ok


async def test_exchanged_files_show(tmp_path: Path) -> None:
    """Each file says which it is, and each head which log it is of."""
    directory = tmp_path / "log"
    await written(directory, 40, max_bytes=8192)
    one, two, *_ = segments(directory)
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    reasons = {problem.reason for problem in verify(directory).problems}
    assert reasons == {"header"}


def test_a_head_of_another_log_is_refused(log: Log, tmp_path: Path) -> None:
    """Also where the two have the same key."""
    (log.directory / "log.id").write_text("another\n")
    reasons = [problem.reason for problem in log.check().problems]
    assert "log" in reasons
    (log.directory / "log.id").unlink()
    assert "log.id is gone" in str(log.check().problems[0])


async def test_a_key_that_was_followed_by_another_is_trusted_through_it(tmp_path: Path) -> None:
    """Whoever knows either key can verify both; and nobody else's key comes in that way."""
    directory = tmp_path / "log"
    await written(directory, sign_with=signer("a"))
    await written(directory, sign_with=[signer("a"), signer("b")])
    await written(directory, sign_with=signer("b"))
    for known in ("a", "b"):
        assert verify(directory, keys=[public(known)]).ok, known
    assert verify(directory).ok
    assert verify(directory, keys=[public("c")]).problems[0].reason == "key"
    await written(directory, sign_with=signer("c"))
    for keys in ([public("a")], [public("b")], []):
        assert [one.reason for one in verify(directory, keys=keys).problems] == ["key"]


async def test_a_succession_needs_both_signatures(tmp_path: Path) -> None:
    """A statement that one of the two did not sign is bad, and introduces nobody."""
    directory = tmp_path / "log"
    await written(directory, sign_with=[signer("a"), signer("b")])
    (path,) = segments(directory)
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"kind":"key"' in line)
    for name in ("signed_by_old", "signed_by_new"):
        statement = {**json.loads(lines[place])["succession"], name: "AAAA"}
        changed = [*lines[:place], edited(lines[place], succession=statement), *lines[place + 1 :]]
        path.write_bytes(rechained(changed))
        problem = verify(directory, keys=[public("a")]).problems[0]
        assert (problem.reason, problem.seq) == ("signature", place)


async def test_calls_without_an_outcome_are_told(tmp_path: Path) -> None:
    """A process that was killed leaves intents; that is no tampering, and is not hidden."""
    directory = tmp_path / "log"
    await written(directory, 2)
    (path,) = segments(directory)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))  # the second call's intent is the last
    report = verify(directory)
    assert report.ok
    assert report.open_calls == (json.loads(lines[3])["call"],)
    assert "1 calls have no outcome" in " ".join(report.remarks)


async def test_there_must_be_a_log(tmp_path: Path) -> None:
    """Where there is none, that is a mistake of who asks; with a head it is a log that is gone."""
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match="There is no audit log"):
            verify(directory)
    log = await a_log(tmp_path / "log", tmp_path / "heads")
    log.path.unlink()
    assert {one.reason for one in log.check().problems} == {"missing"}


async def test_the_clock_may_go_back_and_the_log_says_so(tmp_path: Path) -> None:
    """A record that is earlier than the one before says it; one that hides it is bad."""
    from lamella.testing import virtual_ports

    ports = virtual_ports()
    jumps = iter([100.0, 99.0, 98.0, *[200.0 + n for n in range(50)]])
    async with pipeline(tmp_path, ports=attrs.evolve(ports, wall=lambda: next(jumps))) as line:
        await line.run(ask())
        await line.run(ask())
    (path,) = segments(tmp_path)
    assert any("clock" in record for record in good(path))
    assert verify(tmp_path).ok
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"clock":"back"' in line)
    lines[place] = lines[place].replace(b'"clock":"back",', b"")
    path.write_bytes(b"".join(lines))
    assert verify(tmp_path).problems[0].seq == place


# --- all kinds of tampering, by chance ----------------------------------------------------------


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    """A log that something was done to, by bytes or by lines."""
    lines = list(the_log()[0])
    how = draw(
        st.sampled_from(["byte", "cut", "insert", "drop", "copy", "move", "edit", "rewrite"])
    )
    place = draw(st.integers(0, len(lines) - 1))
    data = b"".join(lines)
    at = draw(st.integers(0, len(data) - 1))
    if how == "byte":
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if how == "cut":
        return data[:at]
    if how == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=5)) + data[at:]
    if how == "drop":
        return b"".join(lines[:place] + lines[place + 1 :])
    if how == "copy":
        to = draw(st.integers(0, len(lines)))
        return b"".join([*lines[:to], lines[place], *lines[to:]])
    if how == "move":
        line = lines.pop(place)
        lines.insert(draw(st.integers(0, len(lines))), line)
        return b"".join(lines)
    field = draw(st.sampled_from(["at", "mono", "kind", "user", "call", "seq", "prev", "more"]))
    value: Any = draw(st.integers(0, 10**15) | st.text(max_size=5))
    if how == "rewrite" and field in {"at", "mono", "kind", "seq", "prev"}:
        field = "user"
    lines[place] = edited(lines[place], **{field: value})
    return rechained(lines) if how == "rewrite" else b"".join(lines)


@given(tampered(), st.booleans())
def test_whatever_is_done_to_a_log_shows(data: bytes, newest: bool) -> None:
    """With one head over what was there, no change of any byte or line goes unnoticed."""
    lines, name, heads, whole = the_log()
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / name).write_bytes(data)
        (directory / "log.id").write_text(whole["log"])
        report = verify(directory, heads=[whole, *heads] if newest else [whole], keys=[])
        assert report.ok is (data == b"".join(lines))


ODD: list[Any] = [None, True, -1, 10**15, "", "x", "\0", [], {}, [[]], {"a": {}}, [{}]]
"""What somebody may write who wants the verifier to fall over."""


SUCCESSION = {"type": "lamella-audit-key-1", "old": ADA, "new": ADA}
ADOPTED: dict[str, Any] = {"segment": "x", "size": 1, "root": "x"}
HEADER = {"previous": "x", "previous_size": 1, "previous_root": "x", "why": "failed"}


@pytest.mark.parametrize("kind", ["head", "merge", "key", "adopted", "outcome", "segment"])
def test_no_record_makes_the_verifier_fall_over(log: Log, kind: str) -> None:
    """Whatever a record that follows the others holds, there is a report."""
    head: dict[str, Any] = log.heads[0]
    bases: dict[str, dict[str, Any]] = {
        "head": {"head": head},
        "merge": {"head": log.whole},
        "key": {"succession": SUCCESSION},
        "adopted": ADOPTED,
        "outcome": {"intent": {"segment": log.path.stem, "seq": 1}},
        "segment": HEADER,
    }
    base, end = bases[kind], log.lines[-1]
    begun = log.path.read_bytes()
    place = {"seq": len(log.lines), "prev": sha256(end.rstrip(b"\n")).hexdigest()}
    changes: list[dict[str, Any]] = [{name: odd} for name in base for odd in ODD]
    for name, value in base.items():
        if isinstance(value, dict):
            changes += [{name: {**value, key: odd}} for key in value for odd in ODD]
    for change in changes:
        said = {**base, "kind": "head" if kind == "merge" else kind, **change, **place}
        log.path.write_bytes(begun + edited(end, **said))
        assert json.dumps(log.check().to_dict())


_FIELDS = (
    "type", "segments", "segment", "size", "root", "key", "signature", "log", "at", "previous",
    "path", "record", "seq", "head", "old_size", "new_size", "old_root", "new_root",
)  # fmt: skip


@given(
    st.recursive(
        st.sampled_from(ODD),
        lambda one: (
            st.lists(one, max_size=4) | st.dictionaries(st.sampled_from(_FIELDS), one, max_size=6)
        ),
        max_leaves=20,
    )
)
def test_no_head_or_proof_makes_it_fall_over(value: Any) -> None:
    """What is given may come from anybody."""
    table = value if isinstance(value, dict) else {"type": value}
    assert head_problem(table) is not None
    for kind in ("lamella-audit-head-1", "lamella-audit-merge-1"):
        assert head_problem({**table, "type": kind}) is not None
    for kind in ("lamella-audit-proof-1", "lamella-audit-consistency-1"):
        assert check_proof({**table, "type": kind}) is not None
