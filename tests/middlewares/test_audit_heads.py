"""Heads: how often they are made, what they say, and that those who keep them get them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from audit_disks import segments
from audit_logs import ask, heads_in, pipeline, public, records, signer, signing, written
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from lamella import ConfigurationError, SecretError
from lamella.testing import virtual_ports
from lamella_middlewares.audit import Heads
from lamella_middlewares.audit._forest import Forest
from lamella_middlewares.audit._given import read_heads
from lamella_middlewares.audit._heads import head_problem, make_head, merge_head
from lamella_middlewares.audit._keys import Signer, public_key, signed_by, trusted
from lamella_middlewares.audit._sinks import append_line
from lamella_middlewares.audit._tree import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
)
from lamella_middlewares.audit._verify import verify

pytestmark = pytest.mark.anyio


async def test_there_is_a_head_after_so_many_records_and_at_closing(tmp_path: Path) -> None:
    """Each is a record of the log, and goes to the sinks."""
    sink = tmp_path / "heads"
    async with pipeline(tmp_path / "log", heads=Heads(every=6, sinks=[sink])) as line:
        for _ in range(7):
            await line.run(ask())
            await anyio.sleep(0.01)
    sizes = [record["head"]["size"] for record in records(tmp_path / "log", "head")]
    assert sizes == [7, 14, 17]
    assert [head["size"] for head in heads_in(sink)] == sizes


async def test_there_is_a_head_some_seconds_after_a_record(tmp_path: Path) -> None:
    """At the latest; and none while nothing is written."""
    sink = tmp_path / "heads"
    async with pipeline(tmp_path / "log", heads=Heads(seconds=10, sinks=[sink])) as line:
        await line.run(ask())
        await anyio.sleep(9)
        assert not sink.exists()
        await anyio.sleep(2)
        assert len(heads_in(sink)) == 1
        await anyio.sleep(1000)
        assert len(heads_in(sink)) == 1
        await line.run(ask())
        await anyio.sleep(11)
        assert len(heads_in(sink)) == 2
    assert len(heads_in(sink)) == 2


class Store:
    """What a BlobStore is, as far as heads need it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> None:
        self.kept[key] = data


async def test_heads_go_to_sinks_of_every_kind(tmp_path: Path) -> None:
    """A file, a plain function, an async one, and an object with `put`."""
    plain: list[Mapping[str, Any]] = []
    awaited: list[Mapping[str, Any]] = []
    store = Store()

    async def keep(head: Mapping[str, Any]) -> None:
        await anyio.sleep(0.1)
        awaited.append(head)

    sink = tmp_path / "far" / "heads"
    heads = Heads(sinks=[str(sink), plain.append, keep, store])
    async with pipeline(tmp_path / "log", heads=heads, sign_with=signer("a")) as line:
        await line.run(ask())
    (head,) = heads_in(sink)
    assert plain == awaited == [head]
    ((key, data),) = store.kept.items()
    assert json.loads(data) == head
    assert head["segment"] in key
    assert head_problem(head) is None
    assert read_heads(sink) == [head]


async def test_one_sink_is_enough(tmp_path: Path) -> None:
    """It needs no list around it."""
    assert Heads(sinks="heads").sinks == ("heads",)
    assert len(Heads(sinks=Store()).sinks) == 1


async def test_a_sink_that_fails_keeps_heads_from_no_other(tmp_path: Path) -> None:
    """It is unwell in `health`, and gets the newest head again."""
    got: list[Any] = []
    broken = [True]

    def sink(head: Mapping[str, Any]) -> None:
        if broken[0]:
            raise OSError("gone")
        got.append(head)

    async def hanging(_: object) -> None:
        await anyio.sleep(60 if broken[0] else 0)

    other = tmp_path / "heads"
    heads = Heads(every=2, sinks=[sink, hanging, other])
    async with pipeline(tmp_path / "log", heads=heads) as line:
        await line.run(ask())
        await anyio.sleep(30)
        assert len(heads_in(other)) == 1
        part = (await line.health()).layers["audit"]
        assert part.well is False
        assert sorted(part.detail["failed_sinks"].values()) == ["OSError", "TimeoutError"]
        broken[0] = False
    assert got[-1] == heads_in(other)[-1]


async def test_files_that_are_full_make_way_for_others(tmp_path: Path) -> None:
    """A head may be written into the file after the one it is about."""
    sink = tmp_path / "heads"
    heads = await written(tmp_path / "log", 60, sink=sink, max_bytes=4096, sign_with=signer("a"))
    assert len(segments(tmp_path / "log")) > 5
    report = verify(tmp_path / "log", heads=heads, keys=[public("a")])
    assert report.problems == ()


async def test_a_new_key_is_vouched_for_in_each_file(tmp_path: Path) -> None:
    """So that a verifier who knows the old key can go on with any file that has both."""
    keys = [signer("a"), signer("b"), signer("c")]
    await written(tmp_path, 30, sign_with=keys, max_bytes=8192)
    heads = records(tmp_path, "head")
    assert {record["head"]["key"] for record in heads} == {public("c")}
    said = records(tmp_path, "key")
    pairs = {(record["succession"]["old"], record["succession"]["new"]) for record in said}
    assert pairs == {(public("a"), public("b")), (public("b"), public("c"))}
    assert verify(tmp_path, keys=[public("a")]).ok


async def test_two_processes_have_heads_of_their_own(tmp_path: Path) -> None:
    """Each writes files of its own, and one verification covers all of them."""
    one, two = (pipeline(tmp_path, ports=virtual_ports(seed)) for seed in (1, 2))
    for line in (one, two, one, two):
        await line.run(ask())
    await one.aclose()
    await two.aclose()
    report = verify(tmp_path)
    assert report.ok
    assert not report.remarks
    assert len(report.segments) == 2


# --- heads as such -----------------------------------------------------------------------------

ROOT = bytes(range(32))


def test_a_signature_covers_every_field_of_a_head() -> None:
    """Whatever is changed, it is not the one that was signed."""
    made = Signer.of(signing("a"))
    head = make_head(("seg", 3, ROOT), log="log", at=1, previous="0" * 64, signer=made)
    merge = merge_head({"s": (3, ROOT), "t": (1, ROOT)}, log="log", at=1, signer=made)
    for whole in (head, merge):
        assert head_problem(whole) is None
        for name in whole.keys() - {"type"}:
            value = {**whole, name: [] if name == "segments" else "other"}
            assert head_problem(value) is not None, name
            without = {key: value for key, value in whole.items() if key != name}
            assert head_problem(without) is not None, name
    swapped = [*merge["segments"][::-1]]
    assert "root" in str(head_problem({**merge, "segments": swapped}))
    assert "no head" in str(head_problem({**head, "type": "other"}))
    assert head_problem({}) is not None


def test_keys_are_read_as_pem_and_as_base64() -> None:
    """Both forms of both keys; what is no Ed25519 key is refused without being shown."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(b"a" * 32)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    shown = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert Signer.of(pem).public == Signer.of(signing("a")).public == public("a")
    assert public_key(shown.decode()) == public_key(public("a")) == public("a")
    other = rsa.generate_private_key(65537, 2048)
    wrong = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text in ("nothing", "", "AAAA", wrong, "-----BEGIN nothing"):
        with pytest.raises(SecretError) as caught:
            Signer.of(text)
        assert not text or text not in str(caught.value)
        with pytest.raises(ConfigurationError):
            public_key(text)
    assert not signed_by("nothing", "AAAA", b"")
    assert not signed_by(None, None, b"")


def test_trust_goes_forward_and_backward_and_not_around() -> None:
    """A key that was given up introduces nobody to those who trust its successor."""
    pairs = [("a", "b"), ("b", "c"), ("a", "evil")]
    assert trusted(["b"], pairs) == {"a", "b", "c"}
    assert trusted(["a"], pairs) == {"a", "b", "c", "evil"}
    assert trusted(["x"], pairs) == {"x"}
    assert trusted([], pairs) == frozenset()


@given(st.lists(st.binary(max_size=4), max_size=70), st.data())
def test_the_tree_that_is_kept_whole_is_the_tree(data: list[bytes], draw: st.DataObject) -> None:
    """Its roots and proofs are those of the definition."""
    forest, leaves = Forest(), [leaf_hash(one) for one in data]
    for leaf in leaves:
        forest.add(leaf)
    size = draw.draw(st.integers(0, len(data)))
    assert forest.root(size) == root_of(leaves[:size])
    if size:
        index = draw.draw(st.integers(0, size - 1))
        assert forest.inclusion(index, size) == inclusion_proof(leaves, index, size)
        assert forest.consistency(index + 1, size) == consistency_proof(leaves, index + 1, size)
    for call in (
        lambda: forest.root(len(data) + 1),
        lambda: forest.inclusion(size, size),
        lambda: forest.consistency(0, size),
    ):
        with pytest.raises(ValueError, match="No "):
            call()


def test_half_a_line_in_a_file_of_heads_spoils_no_other(tmp_path: Path) -> None:
    """A full disk has left it; the next head begins a line of its own."""
    place = tmp_path / "heads"
    for line in (b'{"a":1}\n', b'{"b":'):
        append_line(str(place), line)
    append_line(str(place), b'{"c":1}\n')
    assert place.read_bytes() == b'{"a":1}\n{"b":\n{"c":1}\n'
    with pytest.raises(ConfigurationError, match="line 2 is no JSON object"):
        read_heads(place)


def test_trust_is_found_in_a_long_row_of_keys() -> None:
    """In a moment, whoever wrote the row."""
    pairs = [(str(number), str(number + 1)) for number in range(50_000)]
    assert len(trusted(["25000"], pairs)) == 50_001


def test_files_of_heads_must_hold_heads(tmp_path: Path) -> None:
    """One to a line, or a single one over several lines."""
    place = tmp_path / "heads"
    place.write_text('{\n "a": 1\n}\n')
    assert read_heads(place) == [{"a": 1}]
    for data in (b"", b"nothing", b"[1]", b'{"a": 1}\nno', b"\xff\xfe", b"[" * 100_000):
        place.write_bytes(data)
        with pytest.raises(ConfigurationError, match="does not hold heads"):
            read_heads(place)
