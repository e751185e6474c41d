"""Sealed content: readable with the subject's key, and never again once that is destroyed."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from audit_disks import segments
from audit_logs import KEY, SEAL, ask, pipeline, records, signer

from lamella import AuditError, EmbeddingRequest, EmbeddingResponse, Image, Message, Ports, Secret
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.audit import _envelope
from lamella_middlewares.audit._envelope import KEPT_SECONDS, Envelopes, KeyFiles
from lamella_middlewares.audit._export import Choice, Exported, export
from lamella_middlewares.audit._verify import verify

pytestmark = pytest.mark.anyio


def sealing(directory: Path, script: Any = ("Hello Ada.",), **options: Any) -> Any:
    """A pipeline that seals what is said, with keys beside the log."""
    options = {
        "content": "sealed",
        "seal_with": SEAL,
        "subject_keys": directory / "keys",
        "ports": virtual_ports(),
        **options,
    }
    return pipeline(directory / "log", script, **options)


def envelopes(directory: Path, secret: Secret = SEAL) -> Envelopes:
    """What opens, and erases, what the pipeline has sealed."""
    return Envelopes(secret.reveal(), KeyFiles(directory / "keys"))


async def opened(directory: Path, ports: Ports, secret: Secret = SEAL) -> list[dict[str, Any]]:
    """The log's intents and outcomes, with what was sealed."""
    choice = Choice(kinds=frozenset({"intent", "outcome"}))
    found = export(directory / "log", choice, ports, envelopes=envelopes(directory, secret))
    return [record async for record in found]


async def test_content_is_sealed_and_can_be_opened(tmp_path: Path) -> None:
    """All of the request and of the answer, and nothing of it is in the log in plain text."""
    async with sealing(tmp_path) as line:
        await line.run(ask().evolve(temperature=0.5))
        ports = line.ports
    text = segments(tmp_path / "log")[0].read_text("utf-8")
    assert "Ada" not in text
    assert "Hello" not in text
    intent, outcome = await opened(tmp_path, ports)
    assert intent["request"]["temperature"] == 0.5
    assert intent["request"]["messages"][0]["parts"][0]["text"] == "My name is Ada."
    assert outcome["answer"]["messages"][0]["parts"] == [{"type": "text", "text": "Hello Ada."}]
    assert "request_sealed" not in intent
    assert verify(tmp_path / "log").ok


async def test_what_is_sealed_has_no_digest(tmp_path: Path) -> None:
    """After an erasure there is nothing left that a guess could be tested against."""
    async with sealing(tmp_path) as line:
        await line.run(ask())
    for record in records(tmp_path / "log", "intent", "outcome"):
        assert not [name for name in record if "digest" in name]


async def test_erasing_a_subject_makes_its_content_unreadable_for_ever(tmp_path: Path) -> None:
    """Its own and nobody else's; the log verifies as before."""
    async with sealing(tmp_path, sign_with=signer("a")) as line:
        await line.run(ask())
        await line.run(ask(user="bob"))
        ports = line.ports
    before = verify(tmp_path / "log")
    box = envelopes(tmp_path)
    assert await box.erase(ports, box.tag("acme", "user:ada")) == 1
    assert await box.erase(ports, box.tag("acme", "user:ada")) == 0
    ada, ada_too, bob, bob_too = await opened(tmp_path, ports)
    assert [ada["request"], ada_too["answer"]] == ["erased", "erased"]
    assert bob["request"]["messages"]
    assert bob_too["answer"]["messages"]
    assert verify(tmp_path / "log") == before
    left = b"".join(path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file())
    assert len(left) == 96  # bob's: a nonce, 64 bytes, and what shows that they are right


async def test_a_subject_that_comes_back_gets_another_key(tmp_path: Path) -> None:
    """Within a minute of an erasure elsewhere; what was erased stays erased."""
    async with sealing(tmp_path) as line:
        await line.run(ask("first"))
        box = envelopes(tmp_path)
        await box.erase(line.ports, box.tag("acme", "user:ada"))
        await anyio.sleep(KEPT_SECONDS + 1)
        await line.run(ask("second"))
        first, _, second, _ = await opened(tmp_path, line.ports)
    assert first["request"] == "erased"
    assert second["request"]["messages"][0]["parts"][0]["text"] == "second"


async def test_subjects_of_two_tenants_are_two_subjects(tmp_path: Path) -> None:
    """A user's name says nothing outside of the tenant."""
    async with sealing(tmp_path) as line:
        await line.run(ask())
        await line.run(ask(tenant="other"))
        await line.run(ask(tenant=None))
        box = envelopes(tmp_path)
        await box.erase(line.ports, box.tag("other", "user:ada"))
        found = await opened(tmp_path, line.ports)
    assert [record.get("request") == "erased" for record in found[::2]] == [False, True, False]


async def test_whom_it_is_about_can_be_said(tmp_path: Path) -> None:
    """By a function of the request; where it names nobody, there are digests instead."""

    def about(request: Any) -> str | None:
        found: str | None = request.context.tags.get("patient")
        return found

    async with sealing(tmp_path, subjects=about) as line:
        await line.run(ask(tags={"patient": "p7"}))
        await line.run(ask())
        box = envelopes(tmp_path)
        assert await box.erase(line.ports, box.tag("acme", "p7")) == 1
    sealed, _, plain, _ = records(tmp_path / "log", "intent", "outcome")
    assert "request_sealed" in sealed
    assert plain["unsealed"] == "nobody can be named whom it is about"
    assert plain["request_digests"].keys() == {"messages"}


async def test_a_function_that_fails_refuses_the_request(tmp_path: Path) -> None:
    """Content without a subject could never be erased."""

    def about(request: Any) -> str | None:
        raise LookupError("Ada")

    transport = Scripted(["x"], repeat=True)
    async with sealing(tmp_path, subjects=about, transport=transport) as line:
        with pytest.raises(AuditError, match="failed with LookupError") as caught:
            await line.run(ask())
    assert "Ada" not in str(caught.value)
    assert not transport.requests


async def test_large_content_is_not_sealed(tmp_path: Path) -> None:
    """The record says so, and has its digest."""
    async with sealing(tmp_path, max_content=200) as line:
        await line.run(ask("long " * 100))
    intent, outcome = records(tmp_path / "log", "intent", "outcome")
    assert "bytes" in intent["unsealed"]
    assert intent["request_digests"].keys() == {"messages"}
    assert "answer_sealed" in outcome


async def test_pictures_and_vectors_are_sealed_too(tmp_path: Path) -> None:
    """Bytes stand there in base64."""
    picture = Message.user(Image(data=b"\x00\xff", media_type="image/png"))
    async with sealing(tmp_path) as line:
        await line.run(ask().evolve(messages=(picture,)))
        (intent, _) = await opened(tmp_path, line.ports)
    assert intent["request"]["messages"][0]["parts"][0]["data"] == {"base64": "AP8="}
    vectors = EmbeddingResponse.of([[1.0, 2.0]])
    async with sealing(tmp_path / "other", [vectors]) as line:
        await line.run(EmbeddingRequest(inputs=["a"], model="e", context=ask().context))
        (_, outcome) = await opened(tmp_path / "other", line.ports)
    assert outcome["answer"] == {"vectors": [[1.0, 2.0]]}


async def test_sealed_content_is_bound_to_its_record(tmp_path: Path) -> None:
    """Moved to another record it does not open, nor with another secret."""
    async with sealing(tmp_path) as line:
        await line.run(ask("first"))
        await line.run(ask("second"))
        ports = line.ports
    (path,) = segments(tmp_path / "log")
    one, two = (record["request_sealed"] for record in records(tmp_path / "log", "intent"))
    box = envelopes(tmp_path)
    with pytest.raises(AuditError, match="is not what was sealed"):
        await box.open(ports, one, b"another place")
    with pytest.raises(AuditError, match="is not what was sealed"):
        await box.open(ports, {**one, "data": two["data"]}, b"")
    for broken in ({**one, "nonce": "?"}, {**one, "data": None}):
        with pytest.raises(AuditError, match="is not what was sealed"):
            await box.open(ports, broken, b"")
    for unknown in ({}, {**one, "key": "../../x"}, {**one, "subject": "../.."}):
        assert await box.open(ports, unknown, b"") is None
    other = Envelopes("another secret " * 3, KeyFiles(tmp_path / "keys"))
    with pytest.raises(AuditError, match="wrapped with another secret"):
        await other.open(ports, one, b"")
    assert path.exists()


async def test_a_store_can_keep_the_keys(tmp_path: Path) -> None:
    """A BlobStore: a fleet's processes then use one key for each subject."""
    ports = virtual_ports()
    blobs = ports.stores.blobs
    async with sealing(tmp_path, ports=ports, subject_keys=blobs) as line:
        await line.run(ask())
        box = Envelopes(SEAL.reveal(), blobs)
        tag = box.tag("acme", "user:ada")
        assert len(await blobs.tagged(tag)) == 1
        (sealed, *_) = [record["request_sealed"] for record in records(tmp_path / "log", "intent")]
        again = Envelopes(SEAL.reveal(), blobs)
        assert (await again.seal(ports, tag, b"x", b"y"))["key"] == sealed["key"]
        assert await box.erase(ports, tag) == 1
        assert await box.open(ports, sealed, b"") is None


async def test_keys_that_cannot_be_kept_refuse_the_request(tmp_path: Path) -> None:
    """Nothing is sent that could not be written down as was asked."""

    class Down:
        async def put(self, *_: Any, **__: Any) -> None:
            raise OSError("down")

        async def tagged(self, _: str) -> dict[str, Any]:
            return {}

        async def purge(self, **_: Any) -> int:
            return 0

    transport = Scripted(["x"], repeat=True)
    async with sealing(tmp_path, subject_keys=Down(), transport=transport) as line:
        with pytest.raises(AuditError, match="can be neither read nor kept"):
            await line.run(ask())
    assert not transport.requests


@pytest.mark.parametrize("killed_at", ["pathlib.Path.rename", "os.fsync", "pathlib.Path.unlink"])
async def test_an_erasure_that_is_killed_harms_nobody_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """No key is left half overwritten, which would refuse all later requests of its subject."""
    async with sealing(tmp_path) as line:
        await line.run(ask("first"))
        box = envelopes(tmp_path)
        tag = box.tag("acme", "user:ada")
        before = [path.read_bytes() for path in (tmp_path / "keys").rglob("*.key")]
        with monkeypatch.context() as patch:
            patch.setattr(killed_at, _killed)
            with pytest.raises(KeyboardInterrupt):
                await box.erase(attrs.evolve(line.ports, thread=_here), tag)
        await anyio.sleep(KEPT_SECONDS + 1)
        await line.run(ask("second"))
        await box.erase(line.ports, tag)
    left = [path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert left == []
    assert len(before) == 1


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


async def _here(function: Any, *args: Any) -> Any:
    return function(*args)


def test_keys_are_kept_and_erased_by_many_at_once(tmp_path: Path) -> None:
    """Whoever makes one while another erases has a key that is there or is gone, and no error."""
    keys, failures = KeyFiles(tmp_path), list[BaseException]()

    def work(number: int) -> None:
        try:
            for turn in range(20):
                if number:
                    keys.put(f"{number}-{turn}", b"x" * 96, "tag")
                    assert set(keys.tagged("tag").values()) <= {b"x" * 96}
                else:
                    keys.purge("tag")
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    keys.purge("tag")
    assert list((tmp_path / "tag").iterdir()) == []


def test_a_key_that_is_made_during_an_erasure_is_whole_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is overwritten can no longer get the name of a key that is there."""
    keys, folder = KeyFiles(tmp_path), tmp_path / "tag"
    folder.mkdir()
    fresh, place = folder / ".k.new", folder / "k.key"
    fresh.write_bytes(b"x" * 96)

    def late(path: Path) -> None:
        with path.open("r+b") as stream:
            with suppress(FileNotFoundError):  # whoever makes the key is done just now
                fresh.replace(place)
            stream.write(bytes(96))
        path.unlink(missing_ok=True)

    monkeypatch.setattr(_envelope, "_shred", late)
    keys.purge("tag")
    assert list(folder.iterdir()) == []


async def test_files_of_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """And show neither a key nor a name."""
    async with sealing(tmp_path) as line:
        await line.run(ask())
    (path,) = (tmp_path / "keys").rglob("*.key")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert "ada" not in str(path)


async def test_export_chooses_and_proves(tmp_path: Path) -> None:
    """By tenant, user, session, call, kind and time; names that are digests with the key."""
    from lamella_middlewares.audit._keys import DigestKey
    from lamella_middlewares.audit._prove import check_proof

    async with pipeline(tmp_path / "log", identities="digest", sign_with=signer("a")) as line:
        for user in ("ada", "bob"):
            await line.run(ask(user=user))
        ports = line.ports
    everything = records(tmp_path / "log", "intent", "outcome")
    key = DigestKey.of(KEY.reveal())
    at = everything[0]["at"]

    async def count(**wanted: Any) -> int:
        return len([one async for one in export(tmp_path / "log", Choice(**wanted), ports)])

    kinds = frozenset({"intent", "outcome"})
    assert await count(kinds=kinds) == 4
    assert await count(tenant="acme", user="ada", key=key) == 2
    assert await count(tenant="acme", user="ada") == 0
    assert await count(session="s1", tenant="acme", key=key, kinds=frozenset({"intent"})) == 2
    assert await count(call=everything[0]["call"]) == 2
    assert await count(kinds=kinds, since=at) == 4
    assert await count(kinds=kinds, until=at) == 0
    told = Exported()
    found = export(tmp_path / "log", Choice(kinds=kinds), ports, proofs=True, told=told)
    async for record in found:
        assert "not signed with a key" in str(check_proof(record["proof"]))
        assert json.loads(record["proof"]["record"])["seq"] == record["seq"]
    assert told.records == [4]
