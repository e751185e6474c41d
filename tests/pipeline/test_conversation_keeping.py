"""Keeping conversations: as JSON, in files, in SQLite; across processes, and their ends."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from lamella import (
    Audio,
    ConfigurationError,
    Context,
    Conversation,
    ConversationStore,
    File,
    Image,
    Message,
    MisuseError,
    Opaque,
    Pipeline,
    Reasoning,
    SQLiteConversations,
    StoreUnavailableError,
    Text,
    ToolCall,
    UnknownNameError,
)
from lamella.testing import Scripted

pytestmark = pytest.mark.anyio

EVERYTHING = [
    Message.user([Text("see \ud800 é"), Image(data=b"\x89PNG\0", media_type="image/png")]),
    Message(
        "assistant",
        [
            Reasoning("hm", signature="sealed", id="r1", extra={"provider": "x"}),
            Opaque({"type": "thing", "n": [1, None]}, provider="x"),
            ToolCall("c1", "look_up", '{"a": 1}', extra={"seal": "y"}),
        ],
    ),
    Message.tool("c1", [Text("page"), Image(url="https://example.org/a.png")], error=True),
    Message.assistant("done"),
    Message.user([File(data=b"%PDF", filename="a.pdf"), Audio(data=b"RIFF", format="wav")]),
]


def pipeline(*script: Any) -> Pipeline:
    """A pipeline over a script, `"yes"` for ever by default."""
    return Pipeline([], Scripted(script or ["yes"], repeat=not script))


def contents(folder: Path) -> dict[Path, bytes]:
    """What is in the files of a folder."""
    return {file: file.read_bytes() for file in folder.iterdir()}


async def varied(**options: Any) -> Conversation:
    """A conversation with all kinds of parts, branches and pins."""
    talking = Conversation(
        pipeline(), system="Be brief.", tags={"a": "b"}, messages=EVERYTHING, **options
    )
    await talking.say("first")
    talking.edit(0, "edited")
    await talking.regenerate()
    await talking.say(Message.user("second"))
    talking.undo()
    talking.pin(0)
    return talking


async def test_json_brings_all_of_it_back() -> None:
    """Pictures, sealed reasoning, branches and pins; how it goes on is said anew."""
    talking = await varied(session="s-1", tenant="acme", temperature=1)
    text = talking.to_json()
    again = Conversation.from_json(pipeline(), text, temperature=0)
    assert again.record() == talking.record()
    assert again.to_json() == text
    assert again.messages == talking.messages
    assert [branch.entries for branch in again.branches] == [b.entries for b in talking.branches]
    assert again.branches[0].messages[:5] == tuple(EVERYTHING)
    assert [message.pinned for message in again.messages] == [True, False]
    await again.say("go on")
    assert again.pipeline.transport.requests[0].temperature == 0
    other = Conversation.from_json(pipeline(), text.encode(), system="Be long.", user="bob")
    assert other.system == Message.system("Be long.")
    assert other.user == "bob"


async def test_json_that_is_none_is_refused() -> None:
    """Each message says what is wrong, and nothing of what was said."""
    talking = Conversation(pipeline())
    await talking.say("secret")
    good = json.loads(talking.to_json())
    first = good["entries"][0]
    for changes, why in (
        ({"version": 2}, "version 2.*Install a newer"),
        ({"version": "1"}, "version is '1'"),
        ({"format": "other"}, "lamella.conversation"),
        ({"session": 3}, "session is of the type int"),
        ({"session": "\ud800"}, "no Unicode"),
        ({"head": "x"}, "no entry 'x'"),
        ({"entries": [first, first]}, "twice"),
        ({"entries": [{**first, "parent": "later"}]}, "comes before"),
        ({"entries": [{**first, "message": {"role": "secret"}}]}, r"entries\[0\].message"),
        ({"entries": [7]}, r"entries\[0\] is no table"),
        ({"system": 7}, "system is no message"),
        ({"created": float("nan")}, "created is no time"),
        ({"entries": [{**first, "at": 10**400}]}, r"entries\[0\].at is no time"),
    ):
        with pytest.raises(ConfigurationError, match=why) as caught:
            Conversation.from_json(pipeline(), json.dumps({**good, **changes}))
        assert "secret" not in str(caught.value)
    for text in ("", "[]", "{", "[" * 100_000):
        with pytest.raises(ConfigurationError, match="no conversation that was kept"):
            Conversation.from_json(pipeline(), text)
    for options, why in (
        ({"session": "x"}, "not 'x'"),
        ({"tenant": "t"}, "not 't'"),
        ({"messages": "hi"}, "messages="),
    ):
        with pytest.raises(ConfigurationError, match=why):
            Conversation.from_json(pipeline(), talking.to_json(), **options)


async def test_a_list_of_messages_is_a_conversation_too(tmp_path: Path) -> None:
    """As other programs write them, and older ones of this; it goes on in the same file."""
    said = [Message.user("hi"), Message("assistant", ToolCall("c", "f", "{}"))]
    said += [Message.tool("c", "r"), Message.assistant("hello"), Message.user("so?")]
    listed = [message.to_dict() for message in (Message.system("Be brief."), *said)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(listed))
    talking = await Conversation.load(pipeline(), path)
    assert (talking.messages, talking.system) == (tuple(said), Message.system("Be brief."))
    flags = [(entry.begins, entry.answer) for entry in talking.entries]
    assert flags == [(True, False), (False, True), (False, True), (False, True), (True, False)]
    await talking.resume()
    again = await Conversation.load(pipeline(), path)
    assert (again.session, again.messages) == (talking.session, talking.messages)
    assert len(again.messages) == 6
    assert json.loads(path.read_text())["format"] == "lamella.conversation"
    path.write_text(json.dumps([*listed[:3], {"role": "secret"}]))
    with pytest.raises(ConfigurationError, match=r"\[3\] is no message"):
        await Conversation.load(pipeline(), path)
    with pytest.raises(ConfigurationError, match=r"is a list of messages.*messages="):
        Conversation.from_json(pipeline(), json.dumps(listed))
    path.write_text(json.dumps(listed))
    with pytest.raises(ConfigurationError, match="holds another conversation"):
        await Conversation(pipeline(), store=path).say("not its own")
    path.write_text(json.dumps([listed[3]]))
    with pytest.raises(MisuseError, match="alone would be 'c'"):
        await Conversation.load(pipeline(), path)


async def test_what_json_cannot_say_is_refused(tmp_path: Path) -> None:
    """An object in `extra` is told, in JSON and in SQLite, and harms nothing else."""
    odd = Message("user", [Text("a", extra={"x": object()})])
    talking = Conversation(pipeline(), session="odd", messages=[odd])
    with pytest.raises(MisuseError, match="`extra`"):
        talking.to_json()
    store = SQLiteConversations(tmp_path / "c.db")
    other = Conversation(pipeline(), session="even", messages=EVERYTHING)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.save, store)
        with pytest.raises(MisuseError, match="role 'user'"):
            await talking.save(store)
    assert [info.session for info in await store.find()] == ["even"]
    await store.aclose()


async def test_a_file_holds_one_conversation(tmp_path: Path) -> None:
    """It is written as a whole after each turn, for its user's eyes, and loaded by its path."""
    path = tmp_path / "chat.json"
    talking = await Conversation.open(pipeline(), path, session="s-1", messages="hello")
    await talking.say("first")
    assert path.stat().st_mode & 0o777 == 0o600
    again = await Conversation.open(pipeline(), path, messages="ignored")
    assert (again.session, again.messages) == ("s-1", talking.messages)
    await again.say("second")
    assert len((await Conversation.load(pipeline(), str(path))).messages) == 5
    assert list(contents(tmp_path)) == [path]
    with pytest.raises(ConfigurationError, match="holds another conversation than 's-2'"):
        await Conversation.load(pipeline(), path, "s-2")
    with pytest.raises(ConfigurationError, match="holds another conversation than 's-2'"):
        await again.branch(session="s-2").say("second")
    other = again.branch(3)
    await other.say("to the other")
    await again.say("third")
    kept = await Conversation.load(pipeline(), path)
    assert kept.messages == again.messages
    assert [branch.entries for branch in kept.branches] == [other.entries]
    with pytest.raises(UnknownNameError, match="no conversation"):
        await Conversation.load(pipeline(), tmp_path / "none.json")
    (tmp_path / "wrong.json").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="no conversation that was kept"):
        await Conversation.load(pipeline(), tmp_path / "wrong.json")
    with pytest.raises(ConfigurationError, match="no conversation that was kept"):
        await talking.save(tmp_path / "wrong.json")
    with pytest.raises(ConfigurationError, match="directory"):
        await talking.save(tmp_path / "nowhere" / "chat.json")
    assert isinstance(again.store, ConversationStore)
    assert [info.entries for info in await again.store.find(where={"user": None})] == [9]
    assert await again.store.find(where={"tenant": "acme"}) == []
    draft = tmp_path / ".chat.json.4711.0.draft"
    draft.write_text("what a process that was killed has left of it")
    assert await again.store.delete("s-1")
    assert not await again.store.delete("s-1")
    assert not draft.exists()


async def test_a_store_keeps_conversations_apart(tmp_path: Path) -> None:
    """By session and tenant together; they are found by whose they are, the latest first."""
    store = SQLiteConversations(tmp_path / "c.db")
    talks: list[Conversation] = []
    for tenant, user in (("acme", "ada"), ("acme", "bob"), (None, "ada")):
        name = f"of {user}" if tenant else "alone"
        talks.append(await varied(session=name, tenant=tenant, user=user))
        await talks[-1].save(store)
    same = Conversation(pipeline(), session="alone", tenant="acme")
    await same.save(store)
    for talking in talks:
        found = await Conversation.load(pipeline(), store, talking.session, tenant=talking.tenant)
        assert found.record() == talking.record()
    assert [info.session for info in await store.find()] == ["alone", "alone", "of bob", "of ada"]
    by_user = await store.find(where={"tenant": "acme", "user": "ada"})
    assert [(info.session, info.entries, dict(info.tags)) for info in by_user] == [
        ("of ada", 11, {"a": "b"})
    ]
    assert [info.user for info in await store.find(where={"tenant": None})] == ["ada"]
    assert [info.session for info in await store.find(limit=1, offset=2)] == ["of bob"]
    with pytest.raises(UnknownNameError, match="'of ada'"):
        await Conversation.load(pipeline(), store, "of ada", tenant="other")
    with pytest.raises(ConfigurationError, match="session="):
        await Conversation.load(pipeline(), store)
    with pytest.raises(ConfigurationError, match="'colour'"):
        await store.find(where={"colour": "red"})
    with pytest.raises(ConfigurationError, match="limit=0"):
        await store.find(limit=0)
    assert await store.delete("alone", tenant="acme")
    assert not await store.delete("alone", tenant="acme")
    assert len(await store.find()) == 3
    assert (await store.health()).well
    await store.aclose()


async def test_whose_it_is_may_stand_on_the_context(tmp_path: Path) -> None:
    """Session and tenant of the context count as those given by name; a stranger's is not found."""
    store = SQLiteConversations(tmp_path / "c.db")
    nobodys = await Conversation.open(pipeline(), store, "s")
    await nobodys.say("of nobody")
    acme = Context(session="s", tenant="acme")
    for count in (2, 4):
        talking = await Conversation.open(pipeline(), store, context=acme)
        await talking.say("of acme")
        assert (talking.tenant, len(talking.messages)) == ("acme", count)
    assert [one.text for one in (await Conversation.load(pipeline(), store, "s")).messages] == [
        "of nobody",
        "yes",
    ]
    for context in (Context(tenant="acme"), Context(session="other")):
        with pytest.raises(ConfigurationError, match="Leave"):
            Conversation.from_json(pipeline(), nobodys.to_json(), context=context)
    await store.aclose()


async def test_a_file_of_another_conversation_is_told_before_anything_is_paid(
    tmp_path: Path,
) -> None:
    """Also where it is not opened by `open`, which would have found it."""
    path = tmp_path / "chat.json"
    await Conversation(pipeline(), store=path).say("first")
    model = pipeline()
    for talking in (
        Conversation(model, store=path),
        (await Conversation.open(model, path)).branch(session="own"),
    ):
        with pytest.raises(ConfigurationError, match="holds another conversation"):
            await talking.say("second")
        assert (talking.busy, len(talking.entries)) == (False, len(talking.messages))
    assert model.transport.requests == []
    talking.store = str(tmp_path / "other.json")
    await talking.say("second")
    assert (tmp_path / "other.json").exists()


async def test_lines_written_to_a_file_at_once_are_all_there(tmp_path: Path) -> None:
    """Who saves reads what the other has saved, however they come together."""
    path = tmp_path / "chat.json"
    talking = await Conversation.open(pipeline(), path, messages="hi")
    await talking.regenerate()
    lines = [talking.branch() for _ in range(6)]
    async with anyio.create_task_group() as tasks:
        for line in lines:
            tasks.start_soon(line.say, "at once")
    found = (await Conversation.load(pipeline(), path)).record()
    assert {line.entries[-1].id for line in lines} <= {entry.id for entry in found.entries}


async def test_lines_of_several_programs_are_all_kept(tmp_path: Path) -> None:
    """Two go on from the same past: the one that saved last is found, the other is a branch."""
    path = tmp_path / "c.db"
    one, two = SQLiteConversations(path), SQLiteConversations(path)
    first = await Conversation.open(pipeline("a", "b"), one, "s", messages="hi")
    await first.regenerate()
    second = await Conversation.load(pipeline("c"), two, "s")
    assert second.messages == first.messages
    await first.say("to the first")
    await second.say("to the second")
    found = await Conversation.load(pipeline(), one, "s")
    assert [message.text for message in found.messages] == ["hi", "a", "to the second", "c"]
    assert [branch.messages[-1].text for branch in found.branches] == ["b"]
    await one.aclose()
    await two.aclose()


async def test_what_was_deleted_is_not_in_the_file(tmp_path: Path) -> None:
    """It is overwritten, in the file and in its log."""
    path = tmp_path / "c.db"
    store = SQLiteConversations(path)
    talking = await Conversation.open(pipeline(), store, "s")
    await talking.say("a very private matter")
    assert await store.delete("s")
    assert not any(b"private" in content for content in contents(tmp_path).values())
    await store.aclose()


async def test_a_turn_that_cannot_be_saved_is_not_lost(tmp_path: Path) -> None:
    """The error has the answer; the turn stands, and is saved with the next."""
    path = tmp_path / "c.db"
    store = SQLiteConversations(path)
    talking = await Conversation.open(pipeline(), store, "s")
    await talking.say("first")
    await store.aclose()
    path.rename(tmp_path / "away.db")
    path.write_text("this is no database, but some other file of somebody's" * 20)
    with pytest.raises(StoreUnavailableError) as caught:
        await talking.say("second")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "yes"
    with pytest.raises(ZeroDivisionError):
        async with talking.say_stream("third") as response:
            await response.collect()
            raise ZeroDivisionError
    assert len(talking.messages) == 6
    assert not talking.busy
    path.unlink()
    (tmp_path / "away.db").rename(path)
    await talking.say("fourth")
    assert len((await Conversation.load(pipeline(), store, "s")).messages) == 8
    await store.aclose()


async def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """The error says which version it has."""
    path = tmp_path / "c.db"
    store = SQLiteConversations(path)
    await store.find()
    await store.aclose()
    link = sqlite3.connect(path)
    link.execute("PRAGMA user_version = 2")
    link.close()
    with pytest.raises(StoreUnavailableError, match="has version 2"):
        await store.find()
    await store.aclose()


DIES = """
import os, sys
from lamella import Conversation, Finish, Pipeline, SQLiteConversations
from lamella.testing import Scripted

model = Scripted(["one", "two", ["thr", "ee", Finish("stop")]])
store = SQLiteConversations(sys.argv[1])
talking = Conversation.open_sync(Pipeline([], model), store, "s")
talking.say_sync("first")
talking.say_sync("second")
with talking.say_stream_sync("third") as response:
    next(iter(response))
    os._exit(3)
"""


def test_a_process_that_dies_loses_the_turn_under_way(tmp_path: Path) -> None:
    """And no other: the next one finds all that had been answered."""
    path = tmp_path / "c.db"
    done = subprocess.run([sys.executable, "-c", DIES, str(path)], check=False)
    assert done.returncode == 3
    store = SQLiteConversations(path)
    found = Conversation.load_sync(pipeline(), store, "s")
    assert [message.text for message in found.messages] == ["first", "one", "second", "two"]
    found.save_sync(tmp_path / "copy.json")
    copy = Conversation.load_sync(pipeline(), tmp_path / "copy.json")
    assert copy.record() == found.record()
