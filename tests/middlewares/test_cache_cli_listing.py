"""How kept answers are shown: facts in a line, the same in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    BlobInfo,
    ChatRequest,
    ChatResponse,
    Context,
    Head,
    Money,
    Pipeline,
    ToolCall,
    Usage,
)
from lamella._answer_codec import KeptAnswer
from lamella._kept_answers import KeptAnswers
from lamella._memory_stores import memory_blobs
from lamella._packing import Packer, Packing
from lamella._tally import CacheStats
from lamella.cli import main
from lamella.testing import Scripted
from lamella_middlewares.cache._listing import Entry, Kept, content_of, size, span
from lamella_middlewares.cache._shelves import Shelf, namespace_of
from lamella_middlewares.cache._summary import told

STORE = memory_blobs()
SHELF = Shelf("cache", "", STORE, KeptAnswers("cache", "", STORE, Packer(Packing())))
INFO = BlobInfo("cache::0123:" + "abcdef" * 10, 2_048, age=90.0, expires_in=7_200.0)
ANSWER = KeptAnswer(
    events=tuple(ChatResponse.of("It is  four.", usage=Usage(uncached_input=1_000)).events),
    head=Head(model="m-1"),
    operation="chat",
    model="m",
    tenant="acme",
    tags=frozenset({"b", "a"}),
    fresh_for=100.0,
    cost=Money.of("0.01"),
)


def entry(answer: KeptAnswer | None = ANSWER, **info: Any) -> Entry:
    """An entry of the shelf."""
    return Entry(SHELF, attrs.evolve(INFO, **info), answer)


def test_a_line_says_it_all() -> None:
    """Key, tenant, model, operation, age, freshness, the store's time, size, tokens, tags."""
    assert entry().line(content=False) == (
        "abcdefabcdef", "acme", "m", "chat", "90 s", "10 s", "2 h", "2.0 KiB", "1,000", "a, b",
    )  # fmt: skip
    assert entry().line(content=True)[-1] == "It is four."


@pytest.mark.parametrize(
    ("answer", "info", "cells"),
    [
        (ANSWER, {"age": 100.0}, ("stale", "2 h")),
        (ANSWER, {"expires_in": None}, ("10 s", "ever")),
        (attrs.evolve(ANSWER, fresh_for=None), {}, ("ever", "2 h")),
        (None, {}, ("-", "2 h")),
    ],
)
def test_how_long_it_is_good_for(
    answer: KeptAnswer | None, info: dict[str, Any], cells: tuple[str, str]
) -> None:
    """Stale is what is older than it is fresh for; what has no end is for ever."""
    assert entry(answer, **info).line(content=False)[5:7] == cells


def test_what_cannot_be_read_is_listed_as_such() -> None:
    """The store knows its size and age, and nobody the rest."""
    line = entry(None).line(content=True)
    assert line[1:4] == ("?", "?", "cannot be read")
    assert line[-3:] == ("-", "-", "-")
    form = entry(None).form(content=True)
    assert (form["readable"], form["tenant"], form["size"], form["content"]) == (
        False, None, 2_048, None,
    )  # fmt: skip


def test_the_same_in_json() -> None:
    """Money is a decimal in a text, times are seconds."""
    form = entry().form(content=True)
    assert json.loads(json.dumps(form)) == form
    assert form["cost"] == str(Money.of("0.01"))
    assert (form["age"], form["fresh_for"], form["expires_in"]) == (90.0, 10.0, 7_200.0)
    assert (form["tokens"], form["tags"]) == (1_000, ["a", "b"])


def test_content_is_text_and_the_tools_that_were_asked_for() -> None:
    """Whatever is no text, such as a vector, has none."""
    call = ToolCall("c1", "look", '{"at": 1}')
    asked = attrs.evolve(ANSWER, events=tuple(ChatResponse.of([call]).events))
    assert content_of(asked) == 'look({"at": 1})'
    assert content_of(attrs.evolve(ANSWER, operation="embeddings")) is None


def test_what_is_kept_is_added_up() -> None:
    """By tenant, model and operation; the largest first."""
    kept = Kept()
    other = attrs.evolve(ANSWER, tenant="globex")
    for one in (entry(), entry(), entry(other, size=10_000), entry(None), entry(age=1_000.0)):
        kept.add(one)
    form = kept.form()
    assert (form["entries"], form["bytes"], form["stale"], form["unreadable"]) == (
        5, 18_192, 1, 1,
    )  # fmt: skip
    assert [(one["tenant"], one["entries"], one["tokens"]) for one in form["kept"]] == [
        ("globex", 1, 1_000),
        ("acme", 3, 3_000),
    ]
    assert [line[0] for line in kept.lines()] == ["globex", "acme"]


def test_what_it_was_good_for() -> None:
    """Hits, what they have saved, and why the rest were none."""
    stats = CacheStats(
        hits=3,
        stale_hits=1,
        missed={"absent": 2, "corrupt": 3},
        saved_input_tokens=1_000,
        saved_output_tokens=234,
        saved_money={"USD": 1_500_000_000},
        not_stored={"length": 1},
    )
    assert told(stats) == [
        "3 hits of 8 (37.5%), 1 of them stale",
        f"saved 1,234 tokens and {Money(1_500_000_000)}",
        "misses: corrupt 3, absent 2",
        "not stored: length 1",
    ]
    assert "nobody" in told(CacheStats())[0]


def test_sizes_and_spans_are_short() -> None:
    """With the unit that fits."""
    assert [size(one) for one in (0, 1_023, 1_024, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip
    assert [span(one) for one in (0, 119.4, 120, 7_199, 7_200, 172_799, 172_800)] == [
        "0 s", "119 s", "2 min", "120 min", "2 h", "48 h", "2 d",
    ]  # fmt: skip


@pytest.mark.parametrize("namespace", ["", "a", "a:b", "%3A", "a%b:", "\u00e4 \n", "::"])
def test_a_namespace_is_read_from_a_key(namespace: str) -> None:
    """Whatever it holds; keys of another form have none."""
    kept = KeptAnswers("cache", namespace, STORE, Packer(Packing()))
    assert namespace_of(kept.address("tenant:x", "k"), "cache") == namespace
    assert namespace_of("cache:x", "cache") is None


def test_what_is_compared_by_meaning_is_listed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own tags, and with the question only where content is asked for."""
    pytest.importorskip("numpy")
    from lamella_middlewares import SemanticCache

    store = {"use": "sqlite", "path": str(tmp_path / "a.db")}
    layer = SemanticCache(Pipeline([], "mock"), store=store, tags=("faq",))
    request = ChatRequest.of("Two and two?", model="m", temperature=0)

    async def fill() -> None:
        async with Pipeline([layer], Scripted(["It is four."])) as pipeline:
            await pipeline.run(request.evolve(context=Context(tenant="acme")))

    anyio.run(fill)
    arguments = ["cache", "list", "--path", str(tmp_path / "a.db"), "--json"]
    assert main(arguments) == 0
    (plain,) = json.loads(capsys.readouterr().out)
    assert (plain["layer"], plain["tenant"], plain["tags"]) == ("semantic_cache", "acme", ["faq"])
    assert "four" not in str(plain)
    assert main([*arguments, "--content"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["question"], shown["content"]) == ("Two and two?", "It is four.")
    assert main(["cache", "stats", "--path", str(tmp_path / "a.db"), "--json"]) == 0
    (counted,) = json.loads(capsys.readouterr().out)
    assert counted["since"]["stored"] == 1  # written down when the pipeline was closed
