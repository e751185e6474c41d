"""`python -m benchmarks.long_conversations`: what they cost whole, trimmed and summarised.

Dialogues are drawn from a seed: short questions, long answers, and every third turn a tool with a
long result. Each is run turn by turn through a real pipeline before a provider that only counts.
Tokens are those of the estimator. A provider's prompt cache is imitated as its vendor describes it:
what a request has in common, from its beginning on, with one before it is read at a tenth of the
price, from 1,024 tokens on; where prompts have to be written to the cache, what is new costs a
quarter more. The answers are the same for all and not counted; the summaries are, at five times the
price of input, with what the model that writes them has to read. Nothing depends on the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import attrs

from lamella import ChatRequest, ChatResponse, Message, Pipeline, Size, ToolCall
from lamella._message_sizes import Measure
from lamella._token_estimate import ESTIMATOR
from lamella.testing import virtual_ports
from lamella_middlewares import Summarise, Trim

RESULTS: Final = Path(__file__).parent / "results"
TURNS: Final = 120
TRIGGER: Final = Size(tokens=12_000)
CACHED_FROM: Final = 1_024
READ, WRITE, OUTPUT, SMALL = 0.1, 1.25, 5.0, 0.2
"""Prices, in those of a token of input: a cached token, one that is written to a cache, one that is
put out; and a token of a small model."""

LAYERS: Final[dict[str, Callable[[], list[Any]]]] = {
    "whole": list,
    "Trim": lambda: [Trim(TRIGGER, counter=None)],
    "Trim to half": lambda: [Trim(TRIGGER, Size(tokens=6_000), counter=None)],
    "Trim each turn": lambda: [Trim(TRIGGER, TRIGGER, strategies="sliding_window", counter=None)],
    "Summarise": lambda: [Summarise(TRIGGER, counter=None)],
    "Summarise, by a small model": lambda: [Summarise(TRIGGER, model="small", counter=None)],
}


@attrs.define
class Bill:
    """What the conversations of one contender have cost.

    Attributes:
        calls: How many requests were sent, those for summaries not counted.
        read: Tokens of them.
        cached: Of these, tokens that an automatic cache had.
        longest: Tokens of the longest one.
        begun: How often a request did not begin as one before it.
        summaries: How many summaries were written.
        plain: The price without any cache, in tokens of input.
        automatic: The price with a cache that costs nothing to fill.
        written: The price with a cache that costs something to fill.
    """

    calls: int = 0
    read: int = 0
    cached: int = 0
    longest: int = 0
    begun: int = 0
    summaries: int = 0
    plain: float = 0.0
    automatic: float = 0.0
    written: float = 0.0


class Counting:
    """A provider that answers and counts. One for each conversation."""

    name = "counting"

    def __init__(self, bill: Bill, drawn: Random) -> None:
        self._bill = bill
        self._drawn = drawn
        self._measure = Measure(ESTIMATOR, None)
        self._seen: list[tuple[Message, ...]] = []

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """Count a request. The answer is not part of the conversation."""
        if request.context.asked_by == "summarise":
            return self._summary(request)
        bill, messages = self._bill, request.messages
        tokens = self._measure.count_all(messages)
        common = max([_common(messages, one) for one in self._seen], default=0)
        cached = self._measure.count_all(messages[:common])
        cached = 0 if cached < CACHED_FROM else cached
        bill.calls += 1
        bill.read += tokens
        bill.cached += cached
        bill.longest = max(bill.longest, tokens)
        bill.begun += bool(self._seen) and common < len(self._seen[-1])
        bill.plain += tokens
        bill.automatic += tokens - cached + READ * cached
        bill.written += WRITE * (tokens - cached) + READ * cached
        self._seen.append(messages)
        return ChatResponse.of("ok")

    def _summary(self, request: ChatRequest) -> ChatResponse:
        text = words(self._drawn, 450)
        price = SMALL if request.model == "small" else 1.0
        cost = price * (
            self._measure.count_all(request.messages) + OUTPUT * ESTIMATOR.count([text])
        )
        self._bill.summaries += 1
        self._bill.plain += cost
        self._bill.automatic += cost
        self._bill.written += cost
        return ChatResponse.of(text)


def words(drawn: Random, count: int) -> str:
    """Words of three to nine letters."""
    return " ".join(
        "".join(drawn.choices("etaoinshrdlu", k=drawn.randint(3, 9))) for _ in range(count)
    )


@cache  # the same for all contenders
def dialogue(seed: int, turns: int) -> tuple[Sequence[Message], Sequence[int]]:
    """What is said, and how many messages there are each time that the model is asked."""
    drawn = Random(seed)
    said = [Message.system(words(drawn, 250))]
    asked: list[int] = []
    for turn in range(turns):
        said.append(Message.user(words(drawn, drawn.randint(10, 60))))
        asked.append(len(said))
        if turn % 3 == 2:
            call = ToolCall(f"call-{turn}", "look_up", '{"words": "some"}')
            said.append(Message("assistant", [call]))
            said.append(Message.tool(call.id, words(drawn, 400)))
            asked.append(len(said))
        said.append(Message.assistant(words(drawn, drawn.randint(80, 260))))
    return said, asked


def run(
    *, seeds: int, turns: int = TURNS, contenders: Iterable[str] = tuple(LAYERS)
) -> dict[str, Bill]:
    """The bill of each contender for the same dialogues."""
    bills = {name: Bill() for name in contenders}
    for name, bill in bills.items():
        for seed in range(seeds):
            anyio.run(_converse, LAYERS[name], bill, seed, turns)
    return bills


async def _converse(make: Callable[[], list[Any]], bill: Bill, seed: int, turns: int) -> None:
    pipeline = Pipeline(make(), Counting(bill, Random(seed)), ports=virtual_ports(seed))
    said, asked = dialogue(seed, turns)
    for count in asked:
        await pipeline.run(ChatRequest(messages=said[:count], model="any"))
    await pipeline.aclose()


def _common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages two requests begin with alike."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left is not right and left != right:
            return place
    return min(len(one), len(other))


def markdown(bills: dict[str, Bill]) -> str:
    """A table: prices as parts of those of the whole conversation, without and with caches."""
    whole = bills["whole"]
    head = "what is sent", "tokens read", "longest request", "begun anew", "summaries"
    prices = "no cache", "automatic cache", "cache with writes"
    lines = [f"| {' | '.join((*head, *prices))} |", "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, bill in bills.items():
        shares = (
            f"{bill.plain / whole.plain:.2f}",
            f"{bill.automatic / whole.plain:.3f}",
            f"{bill.written / whole.plain:.3f}",
        )
        lines.append(
            f"| {name} | {bill.read:,} | {bill.longest:,} | {bill.begun} of {bill.calls} "
            f"| {bill.summaries} | {' | '.join(shares)} |"
        )
    return "\n".join(lines)


def broken() -> list[str]:
    """What a short run finds wrong: `benchmarks.smoke` asks."""
    bills = run(seeds=1, turns=60, contenders=("whole", "Trim", "Summarise"))
    sys.stdout.write(markdown(bills) + "\n")
    found: list[str] = []
    whole = bills.pop("whole")
    for name, bill in bills.items():
        if bill.plain > 0.7 * whole.plain or bill.automatic > 1.1 * whole.automatic:
            found.append(f"TOO DEAR: {name} costs {bill.plain / whole.plain:.2f} of the whole")
        if bill.begun > bill.calls // 8:
            found.append(f"UNSTABLE: {name} begins anew {bill.begun} times of {bill.calls}")
        if bill.longest > 12_000:
            found.append(f"TOO LONG: {name} sent {bill.longest} tokens")
    return found


def main() -> None:
    """Run, print, write."""
    text = markdown(run(seeds=5))
    sys.stdout.write(text + "\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "long_conversations.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
