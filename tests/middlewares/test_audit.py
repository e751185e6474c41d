"""Audit: an intent before anything is sent, and exactly one outcome, whatever becomes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import anyio
import attrs
import pytest
from audit_disks import segments
from audit_logs import KEY, ask, pipeline, records

from lamella import (
    BlockedError,
    ChatRequest,
    ConfigurationError,
    ConnectionLostError,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    OrderError,
    Outcome,
    Pipeline,
    RateLimitError,
    Request,
    Secret,
    StreamTruncated,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella._registry import registry
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares.audit import Audit, Heads, verify
from lamella_middlewares.audit._keys import DigestKey
from lamella_middlewares.cost import Cost
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

DIGESTS = DigestKey.of(KEY.reveal())
PRICES = {"m": {"input": "1", "output": "4"}}
USED = Usage(uncached_input=1000, text_output=200)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_has_an_intent_and_an_outcome(tmp_path: Path, stream: bool) -> None:
    """They say who asked what of whom, how it ended, and what it cost; streamed or not alike."""
    script = [[TextDelta("Hel"), TextDelta("lo."), UsageReport(USED), Finish("stop")]]
    async with pipeline(tmp_path, script, inside=(Cost(PRICES),)) as line:
        if stream:
            async with line.stream(ask()) as response:
                await response.collect()
        else:
            await line.run(ask())
    intent, outcome = records(tmp_path, "intent", "outcome")
    for record in (intent, outcome):
        assert [record[name] for name in ("tenant", "user", "session")] == ["acme", "ada", "s1"]
        assert record["call"] == intent["call"]
    assert [intent["operation"], intent["model"], intent["provider"]] == ["chat", "m", "scripted"]
    assert intent["stream"] is stream
    assert len(intent["layers"]) == 32
    assert outcome["intent"] == {"segment": segments(tmp_path)[0].stem, "seq": intent["seq"]}
    assert [outcome["outcome"], outcome["finish_reason"]] == ["complete", "stop"]
    assert outcome["usage"] == {"uncached_input": 1000, "text_output": 200}
    assert outcome["cost"] == {"USD": 1_800_000}
    assert outcome["attempts"] == [
        {
            "branch": "", "provider": "scripted", "model": "m", "outcome": "complete",
            "usage": outcome["usage"], "cost": {"USD": 1_800_000},
        }
    ]  # fmt: skip
    assert outcome["served"]["provider"] == "scripted"


async def test_the_intent_is_there_before_the_provider_is_asked(tmp_path: Path) -> None:
    """It is durable when the request goes on."""
    seen: list[int] = []

    async def look(request: Request[Any], call_next: Any) -> Any:
        seen.append(len(records(tmp_path, "intent")))
        return await call_next(request)

    async with pipeline(tmp_path, inside=(look,)) as line:
        await line.run(ask())
    assert seen == [1]


async def test_content_is_in_digests_that_need_the_key(tmp_path: Path) -> None:
    """No text is in the log; whoever has the key and the text can show that it was that text."""
    async with pipeline(tmp_path, ["Hello Ada."]) as line:
        request = ask()
        answer = await line.run(request)
        await line.run(ask(tenant="other"))
    text = segments(tmp_path)[0].read_text("utf-8")
    assert "Ada" not in text
    assert "Hello" not in text
    intent, outcome, other, _ = records(tmp_path, "intent", "outcome")
    made = DIGESTS.content("acme", "messages", request.messages)
    assert intent["request_digests"] == {"messages": made}
    assert outcome["answer_digests"] == {
        "messages": DIGESTS.content("acme", "messages", answer.messages)
    }
    assert intent["digest_key"] == DIGESTS.id
    assert other["request_digests"]["messages"] != made  # no two tenants' texts can be compared


async def test_each_field_has_a_digest_of_its_own(tmp_path: Path) -> None:
    """What a request says besides its messages is covered too, and what it leaves out is not."""
    async with pipeline(tmp_path) as line:
        await line.run(ask().evolve(temperature=0.5, extra={"a": [1]}))
        await line.run(ask().evolve(temperature=0.6))
    first, second = (record["request_digests"] for record in records(tmp_path, "intent"))
    assert first.keys() == {"messages", "temperature", "extra"}
    assert second.keys() == {"messages", "temperature"}
    assert first["messages"] == second["messages"]
    assert first["temperature"] != second["temperature"]


async def test_large_content_has_the_same_digest(tmp_path: Path) -> None:
    """It is made in a thread, so that the event loop is not held up by it."""
    threads: list[Any] = []
    ports = virtual_ports()

    async def thread(function: Any, *args: Any) -> Any:
        threads.append(function)
        return function(*args)

    async with pipeline(tmp_path, ports=attrs.evolve(ports, thread=thread)) as line:
        request = ask("word " * 100_000)
        await line.run(request)
    (intent,) = records(tmp_path, "intent")
    made = DIGESTS.content("acme", "messages", request.messages)
    assert intent["request_digests"] == {"messages": made}
    assert "content" in [getattr(function, "__name__", "") for function in threads]


async def test_a_file_can_say_what_code_can(tmp_path: Path, monkeypatch: Any) -> None:
    """A preset's table makes the same layer, heads included."""
    monkeypatch.setenv("AUDIT_TEST_KEY", KEY.reveal())
    table = {
        "directory": str(tmp_path / "log"),
        "key": "env:AUDIT_TEST_KEY",
        "heads": {"every": 2, "sinks": [str(tmp_path / "heads")]},
    }
    audit = registry().make("middlewares", "audit", table)
    assert isinstance(audit, Audit)
    assert audit.heads.every == 2
    async with Pipeline([audit], Scripted(["x"]), ports=virtual_ports()) as line:
        await line.run(ask())
    assert (tmp_path / "heads").exists()


async def test_names_can_be_digests(tmp_path: Path) -> None:
    """With `identities="digest"` no name is in the log, and the same name has the same digest."""
    async with pipeline(tmp_path, identities="digest") as line:
        await line.run(ask())
        await line.run(ask(user="bob"))
    ada, _, bob, _ = records(tmp_path, "intent", "outcome")
    assert ada["user"] == DIGESTS.identity("user", "acme", "ada")
    assert bob["user"] != ada["user"]
    assert bob["tenant"] == ada["tenant"]
    assert not {"ada", "bob", "acme"} & {str(value) for value in (*ada.values(), *bob.values())}


async def test_who_asks_is_in_every_record_even_if_nobody_said(tmp_path: Path) -> None:
    """The fields are there, and null."""
    async with pipeline(tmp_path, content="none", key=None) as line:
        await line.run(ChatRequest.of("hi", model="m"))
    for record in records(tmp_path, "intent", "outcome"):
        assert [record[name] for name in ("tenant", "user", "session")] == [None, None, None]
        assert not [name for name in record if "digest" in name]


async def test_failures_are_told_without_their_messages(tmp_path: Path) -> None:
    """Class, status and code, and each attempt; what an error says may quote the prompt."""
    script = [RateLimitError("Ada asks too much", status=429, code="slow"), "Hello."]
    async with pipeline(tmp_path, script, inside=(Retry(2),)) as line:
        await line.run(ask())
    async with pipeline(tmp_path, [script[0]]) as line:
        with pytest.raises(RateLimitError):
            await line.run(ask())
    good, bad = records(tmp_path, "outcome")
    assert [attempt["outcome"] for attempt in good["attempts"]] == ["failed", "complete"]
    assert good["attempts"][0]["error"] == "RateLimitError"
    assert good["attempts"][0]["status"] == 429
    assert good["notes"]["retry.wait"] == 1
    assert "error" not in good
    assert bad["outcome"] == "failed"
    assert bad["error"]["class"] == "RateLimitError"
    assert [bad["error"]["status"], bad["error"]["code"]] == [429, "slow"]
    assert "too much" not in "".join(path.read_text("utf-8") for path in segments(tmp_path))


async def test_what_a_guard_blocks_is_written_down(tmp_path: Path) -> None:
    """A refusal inside has an intent and an outcome, with the layer that refused."""

    async def guard(request: Request[Any], call_next: Any) -> Any:
        request.context.note("guard", "guard.blocked", rule="terms")
        raise BlockedError("blocked", layer="guard")

    async with pipeline(tmp_path, inside=(guard,)) as line:
        with pytest.raises(BlockedError):
            await line.run(ask())
    (outcome,) = records(tmp_path, "outcome")
    assert outcome["outcome"] == "not_sent"
    assert outcome["error"]["layer"] == "guard"
    assert outcome["notes"] == {"guard.blocked": 1}
    assert outcome["attempts"] == []


async def test_the_tools_that_an_answer_asks_for_are_named(tmp_path: Path) -> None:
    """Their names, not their arguments."""
    call = ToolCallDelta(0, "c1", "look_up", '{"name": "Ada"}')
    async with pipeline(tmp_path, [[call, Finish("tool_calls")]]) as line:
        await line.run(ask())
    (outcome,) = records(tmp_path, "outcome")
    assert outcome["tools"] == ["look_up"]


async def test_other_operations_are_written_down_too(tmp_path: Path) -> None:
    """An embedding's inputs and vectors have digests."""
    answer = EmbeddingResponse.of([[1.0, 2.0]], usage=USED)
    async with pipeline(tmp_path, [answer]) as line:
        await line.run(EmbeddingRequest(inputs=["a text"], model="e"))
    intent, outcome = records(tmp_path, "intent", "outcome")
    assert intent["operation"] == "embeddings"
    assert intent["request_digests"].keys() == {"inputs"}
    assert outcome["answer_digests"].keys() == {"vectors"}


async def test_an_answer_that_is_left_or_breaks_off_has_an_outcome(tmp_path: Path) -> None:
    """`left` and `truncated`, with the digest of what had come."""
    broken = [TextDelta("one"), TextDelta("two"), ConnectionLostError("lost")]
    async with pipeline(tmp_path, [broken]) as line:
        async with line.stream(ask()) as response:
            async for _ in response:
                break
        async with line.stream(ask()) as response:
            with pytest.raises(ConnectionLostError):
                await response.collect()
    left, lost = records(tmp_path, "outcome")
    assert left["outcome"] == "left"
    assert [lost["error"]["class"], lost["error"]["committed"]] == ["ConnectionLostError", True]
    assert left["answer_digests"] != lost["answer_digests"]


async def test_a_stream_without_an_end_is_no_good_answer(tmp_path: Path) -> None:
    """The outcome is what the protocol says, not what the text looks like."""
    line = pipeline(tmp_path, [[TextDelta("Hello.")]])
    async with line, line.stream(ask()) as response:
        with pytest.raises(StreamTruncated):
            await response.collect()
    (outcome,) = records(tmp_path, "outcome")
    assert outcome["error"]["class"] == "StreamTruncated"


@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_every_intent_has_one_outcome_wherever_it_is_cancelled(
    anyio_backend_name: str, stream: bool, by_task: bool
) -> None:
    """Cancelled at each step: what was sent has an intent, and every intent one outcome."""

    def make() -> tuple[Any, Any]:
        directory = Path(mkdtemp(prefix="lamella-audit-"))
        transport = Scripted(["Hello there."], repeat=True, delay=0.01, gap=0.01)
        line = pipeline(directory, transport=transport)

        async def scenario() -> None:
            if not stream:
                await line.run(ask())
                return
            async with line.stream(ask()) as response:
                await response.collect()

        async def check() -> None:
            await anyio.sleep(30)  # what was owed is tried again in the background
            await line.aclose()
            begun, ended = (records(directory, kind) for kind in ("intent", "outcome"))
            assert len(begun) >= len(transport.requests)
            assert [record["intent"]["seq"] for record in ended if record["intent"]] == [
                record["seq"] for record in begun
            ][: len([record for record in ended if record["intent"]])]
            assert len(ended) == len(begun)

        return scenario, check

    assert each_step(make, backend=anyio_backend_name, by_task=by_task) > 3


async def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each call has its own two records, and outcomes name the right intents."""
    async with pipeline(tmp_path) as line, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(line.run, ask(f"question {number}"))
    begun = {record["call"]: record for record in records(tmp_path, "intent")}
    ended = {record["call"]: record for record in records(tmp_path, "outcome")}
    assert len(begun) == 50
    assert begun.keys() == ended.keys()
    assert all(ended[call]["intent"]["seq"] == one["seq"] for call, one in begun.items())


async def test_layers_with_the_same_options_share_a_file(tmp_path: Path) -> None:
    """Pipelines made for each request do not begin a file each."""
    ports = virtual_ports()
    lines = [pipeline(tmp_path, ports=ports) for _ in range(5)]
    for line in lines:
        await line.run(ask())
    assert len(segments(tmp_path)) == 1
    for line in lines:
        await line.aclose()


async def test_a_turn_tells_only_of_itself(tmp_path: Path) -> None:
    """Where a layer outside asks twice in one call, each record has its own attempts and notes."""

    async def twice(request: Request[Any], call_next: Any) -> Any:
        await call_next(request.turn(1))
        request.context.note("outside", "outside.between")
        return await call_next(request.turn(2))

    audit = Audit(tmp_path, KEY, fsync="none")
    transport = Scripted(["Hello."], repeat=True)
    layers: list[Any] = [twice, audit]
    async with Pipeline(layers, transport, ports=virtual_ports()) as line:
        await line.run(ask())
    one, two = records(tmp_path, "outcome")
    assert [record["branch"] for record in (one, two)] == ["/turn1", "/turn2"]
    assert [len(record["attempts"]) for record in (one, two)] == [1, 1]


async def test_detached_work_has_records_of_its_own(tmp_path: Path) -> None:
    """It is another call, and says which one it came from, however that has ended."""

    async def refresh(request: Request[Any], call_next: Any) -> Any:
        child = request.detach("refresh")

        async def work() -> None:
            await anyio.sleep(1)
            response = await call_next(child)
            await response.collect()
            await child.context.call.close(Outcome.COMPLETE)

        request.context.background.spawn(work, name="refresh")
        return await call_next(request)

    layers: list[Any] = [refresh, Audit(tmp_path, KEY, fsync="none")]
    transport = Scripted(["Hello."], repeat=True)
    async with Pipeline(layers, transport, ports=virtual_ports()) as line:
        async with line.stream(ask()):
            pass  # the caller leaves at once
        await anyio.sleep(2)
    (left, own), (first, second) = records(tmp_path, "intent"), records(tmp_path, "outcome")
    assert [own["parent"], own["branch"]] == [left["call"], "/refresh"]
    assert [(first["call"], first["outcome"]), (second["call"], second["outcome"])] == [
        (left["call"], "left"),
        (own["call"], "complete"),
    ]


async def test_nested_pipelines_write_the_same_log(tmp_path: Path) -> None:
    """Where the layer stands in both, each has its two records, and they tell of one call."""
    ports = virtual_ports()
    inner = pipeline(tmp_path, ports=ports)
    async with pipeline(tmp_path, ports=ports, transport=inner) as line:
        await line.run(ask())
    found = records(tmp_path, "intent", "outcome")
    assert [record["kind"] for record in found] == ["intent", "intent", "outcome", "outcome"]
    assert len({record["call"] for record in found}) == 1
    assert len({record["layers"] for record in found[:2]}) == 2
    assert [record["intent"]["seq"] for record in found[2:]] == [2, 1]


async def test_layers_with_other_options_write_files_of_their_own(tmp_path: Path) -> None:
    """In one directory, and in one log: neither takes the other's file for a dead one."""
    ports = virtual_ports()
    lines = [pipeline(tmp_path, ports=ports, fsync=fsync) for fsync in ("none", "group", "each")]
    for line in [*lines, *lines]:
        await line.run(ask())
    for line in lines:
        await line.aclose()
    report = verify(tmp_path)
    assert report.ok
    assert [one.records for one in report.segments] == [7, 7, 7]
    assert not records(tmp_path, "adopted", "note", "recovered")


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "digests need a key"),
        ({"key": "no reference"}, "A secret is given by reference"),
        ({"key": 7}, "Audit(key='...')"),
        ({"key": KEY, "content": "all"}, "Audit(content='all')"),
        ({"key": KEY, "on_failure": "ignore"}, "on_failure='ignore'"),
        ({"key": KEY, "fsync": "always"}, "fsync='always'"),
        ({"key": KEY, "max_bytes": 10}, "max_bytes=10"),
        ({"key": KEY, "group_seconds": -1}, "group_seconds=-1"),
        ({"key": KEY, "heads": 5}, "heads=5"),
        ({"key": KEY, "sign_with": [7]}, "sign_with='...'"),
        ({"key": KEY, "content": "sealed"}, "has nowhere to take keys from"),
        ({"key": KEY, "subject_keys": 7}, "subject_keys=7"),
        ({"key": KEY, "subjects": "user"}, "subjects='user'"),
        ({"identities": "digest", "content": "none"}, "digests need a key"),
    ],
)
def test_wrong_options_are_refused_when_the_layer_is_made(
    options: dict[str, Any], words: str
) -> None:
    """Each with a sentence that says what to give."""
    with pytest.raises(ConfigurationError) as caught:
        Audit("audit", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("directory", ["", None, 7])
def test_it_needs_a_directory(directory: Any) -> None:
    """There is no place where a log is by default."""
    with pytest.raises(ConfigurationError, match="the directory of the log"):
        Audit(directory, KEY)


@pytest.mark.parametrize("options", [{"every": 0}, {"seconds": 0}, {"sinks": [7]}, {"sinks": [""]}])
def test_wrong_heads_are_refused(options: dict[str, Any]) -> None:
    """As for the layer's own options; a file's table of them is read as `Heads`."""
    with pytest.raises(ConfigurationError, match="Heads"):
        Heads(**options)
    with pytest.raises(ConfigurationError, match="Heads"):
        Audit("audit", KEY, heads=options)


@pytest.mark.parametrize("option", ["sign_with", "content"])
def test_without_the_extra_it_says_what_to_install(
    option: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Signing and sealing need cryptography; chain, tree and digests do not."""
    find_spec = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "cryptography" else find_spec(name, *more),
    )
    known: dict[str, dict[str, Any]] = {
        "sign_with": {"sign_with": KEY},
        "content": {"content": "sealed", "seal_with": KEY, "subject_keys": "keys"},
    }
    with pytest.raises(ConfigurationError, match=r"pip install \"lamella\[audit\]\""):
        Audit(tmp_path, KEY, **known[option])
    Audit(tmp_path, KEY)


def test_it_stands_outside_of_what_answers_by_itself(tmp_path: Path) -> None:
    """A flight outside would let followers pass without a record."""
    audit = Audit(tmp_path, KEY)
    with pytest.raises(OrderError, match="would not be written down"):
        Pipeline([SingleFlight(), audit], Scripted(["x"]))
    arranged = Pipeline.arrange([SingleFlight(), audit], Scripted(["x"]))
    assert arranged.layers[0] is audit


def test_nothing_of_a_key_is_shown(tmp_path: Path) -> None:
    """Neither the layer nor its parts print what its secrets are."""
    keys = tmp_path / "keys"
    audit = Audit(tmp_path / "log", KEY, content="sealed", seal_with=KEY, subject_keys=keys)
    assert KEY.reveal()[:16] not in repr(audit)
    assert KEY.reveal()[:16] not in repr(DIGESTS)
    assert KEY.reveal()[:16] not in str(Pipeline([audit], Scripted(["x"])).explain())


@pytest.mark.parametrize("inside", ["", "keys", "a/b"])
def test_keys_of_subjects_do_not_lie_in_the_log(tmp_path: Path, inside: str) -> None:
    """Whoever copies the log must not copy what opens it."""
    with pytest.raises(ConfigurationError, match="lies in the log's directory"):
        Audit(tmp_path, content="sealed", seal_with=KEY, subject_keys=tmp_path / inside)
    Audit(tmp_path / "log", content="sealed", seal_with=KEY, subject_keys=tmp_path / "log.keys")


async def test_short_keys_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """A key of a few letters could be tried out."""
    transport = Scripted(["x"], repeat=True)
    async with pipeline(tmp_path, transport=transport, key=Secret.of_value("short")) as line:
        with pytest.raises(Exception, match="less than 16 bytes"):
            await line.run(ask())
    assert not transport.requests


def test_records_are_made_of_whole_numbers_and_texts() -> None:
    """Whatever stands in a trace, a record has one canonical form."""
    from lamella_middlewares.audit._payload import exact, micros, usage_of

    assert exact(2**53) == str(2**53)
    assert exact(-(2**53 - 1)) == -(2**53 - 1)
    assert micros(1.5) == 1_500_000
    usage = Usage(cache_write={"5m": 3}, tool_units={"search": 1}, estimated=True)
    assert usage_of(usage) == {
        "cache_write": {"5m": 3}, "tool_units": {"search": 1}, "estimated": True,
    }  # fmt: skip


async def test_halves_of_characters_in_names_are_written_as_escapes(tmp_path: Path) -> None:
    """A name that is no Unicode neither breaks the log nor refuses the request."""
    async with pipeline(tmp_path) as line:
        await line.run(ask(user="a\ud800b"))
    assert records(tmp_path, "intent")[0]["user"] == "a\\ud800b"
