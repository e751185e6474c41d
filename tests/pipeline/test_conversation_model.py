"""Conversations beside lists of messages: whatever happens, each is well-formed, and as it was."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
from histories import history
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella import (
    Conversation,
    Finish,
    Message,
    MisuseError,
    Pipeline,
    ServerError,
    SQLiteConversations,
    ToolCall,
    ToolCallDelta,
    Turn,
    answered,
)
from lamella.testing import Scripted, virtual_ports

T = TypeVar("T")

TURN = Turn((Message("assistant", ToolCall("t", "f", "{}")), Message.tool("t", "result")))
TOOLS = [ToolCallDelta(0, "t", "f", "{}"), TURN, "so"]
GO_ON = "go on"
BROKEN = ServerError("gone", status=500)
WHICH = st.integers(0, 7)
PLACE = st.integers(-9, 9)
GOOD = ["fine", [*TOOLS, Finish("stop")], [Finish("content_filter")], ToolCall("own", "mine", "{}")]
BAD = [BROKEN, ["half", BROKEN], [*TOOLS, BROKEN], [*TOOLS[:1], BROKEN], ["left", 1e9]]


@attrs.define(eq=False)
class Talk:
    """A conversation, and what it should be."""

    real: Conversation
    messages: tuple[Message, ...]


class Talks(RuleBasedStateMachine):
    """Several conversations that came of one, and what each should say."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.store = SQLiteConversations(self.folder / "c.db", thread=inline)
        self.next: Any = "fine"
        model = Scripted([lambda _: self.next], repeat=True)
        self.pipeline = Pipeline([], model, ports=virtual_ports())
        before = history(3, turns=2, tools=1, orphans=0)[:-1]
        while not answered(before):
            before = before[:-1]
        self.talks = [
            Talk(Conversation(self.pipeline, messages=before, keep_partial=kept), before)
            for kept in (False, True)
        ]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the loop."""
        return self.loop.run(work)

    def pick(self, which: int) -> Talk:
        """One of the conversations."""
        return self.talks[which % len(self.talks)]

    @rule(which=WHICH, answer=st.sampled_from(GOOD), streamed=st.booleans())
    def say(self, which: int, answer: Any, streamed: bool) -> None:
        """A turn that ends well adds its question and its answer, tools included."""
        talk, self.next = self.pick(which), answer
        question = self.question(talk)
        before = talk.messages
        self.run(self.ask(talk.real, question, streamed))
        now = talk.real.messages
        assert now[: len(before) + len(question)] == (*before, *question)
        added = now[len(before) + len(question) :]
        assert [m.role for m in added] in ([], ["assistant"], ["assistant", "tool", "assistant"])
        assert bool(added) == (answer is not GOOD[2])
        talk.messages = now

    @rule(which=WHICH, answer=st.sampled_from(BAD), streamed=st.booleans(), again=st.booleans())
    def fail(self, which: int, answer: Any, streamed: bool, again: bool) -> None:
        """A turn that does not changes nothing, or adds what came and can stand by itself."""
        talk, self.next = self.pick(which), answer
        question = None if again else self.question(talk)
        with suppress(ServerError, MisuseError):
            self.run(self.ask(talk.real, question, streamed, cancelled=answer is BAD[-1]))
        now = talk.real.messages
        if now != talk.messages:
            assert talk.real.keep_partial
            assert talk.real.entries[-1].partial
            assert not talk.real.messages[-1].tool_calls
        talk.messages = now

    @rule(which=WHICH, streamed=st.booleans())
    def go_on(self, which: int, streamed: bool) -> None:
        """Only what has no whole answer goes on, and not past calls that nobody answers."""
        talk, self.next = self.pick(which), "and so on"
        last = talk.real.entries[-1] if talk.messages else None
        try:
            self.run(self.ask(talk.real, GO_ON, streamed))
        except MisuseError:
            assert last is None or last.message.tool_calls or not last.partial
            return
        assert last is not None
        assert not last.message.tool_calls
        half = last.partial and last.message.role == "assistant"
        talk.messages = (*talk.messages[: -1 if half else None], Message.assistant("and so on"))

    @rule(which=WHICH, place=PLACE)
    def edit(self, which: int, place: int) -> None:
        """An edit drops what came after it; what would leave a call alone is refused."""
        talk = self.pick(which)
        try:
            talk.real.edit(place, Message.user("edited"))
        except (IndexError, MisuseError):
            return
        talk.messages = (*talk.messages[:place], Message.user("edited"))

    @rule(which=WHICH, place=st.none() | PLACE, own=st.booleans())
    def branch(self, which: int, place: int | None, own: bool) -> None:
        """A branch has the past up to its place, and nothing of what is said later elsewhere."""
        talk = self.pick(which)
        session = f"own-{len(self.talks)}" if own else None
        try:
            other = talk.real.branch(place, session=session)
        except (IndexError, MisuseError):
            return
        self.talks.append(Talk(other, talk.messages[:place]))

    @rule(which=WHICH, line=WHICH)
    @precondition(lambda self: any(talk.real.branches for talk in self.talks))
    def turn_back(self, which: int, line: int) -> None:
        """A line that was left can be gone on with."""
        talk = self.pick(which)
        branches = talk.real.branches
        if branches:
            branch = branches[line % len(branches)]
            self.talks.append(Talk(talk.real.branch(branch.id), branch.messages))

    @rule(which=WHICH)
    def undo(self, which: int) -> None:
        """A turn that is taken back leaves what was before it."""
        talk = self.pick(which)
        gone = talk.real.undo()
        assert talk.messages[len(talk.messages) - len(gone) :] == gone
        talk.messages = talk.messages[: len(talk.messages) - len(gone)]

    @rule(which=WHICH, place=PLACE, pinned=st.booleans())
    def pin(self, which: int, place: int, pinned: bool) -> None:
        """A pin changes nothing that is said."""
        talk = self.pick(which)
        if -len(talk.messages) <= place < len(talk.messages):
            talk.real.pin(place, pinned=pinned)
            assert talk.real.messages[place].pinned is pinned

    @rule(which=WHICH)
    def by_json(self, which: int) -> None:
        """JSON gives the very same conversation, and its text again."""
        talk = self.pick(which)
        again = Conversation.from_json(
            self.pipeline, talk.real.to_json(), keep_partial=talk.real.keep_partial
        )
        assert again.record() == talk.real.record()
        assert again.branches == talk.real.branches
        talk.real = again

    @rule(which=WHICH)
    def by_store(self, which: int) -> None:
        """The file gives it with all that others of the session have saved."""
        talk = self.pick(which)
        self.run(talk.real.save(self.store))
        again = self.run(Conversation.load(self.pipeline, self.store, talk.real.session))
        assert again.messages == talk.messages
        pins = [message.pinned for message in again.messages]
        assert pins == [message.pinned for message in talk.real.messages]
        ours, kept = talk.real.record(), again.record()
        assert {entry.id for entry in ours.entries} <= {entry.id for entry in kept.entries}
        assert len(self.run(self.store.find(limit=99))) <= len(self.talks)

    @invariant()
    def well_formed(self) -> None:
        """Each is what it should be; only calls at its very end wait for an answer."""
        for talk in self.talks:
            now = talk.real.messages
            assert now == talk.messages
            assert not talk.real.busy
            assert answered(now[:-1] if now and now[-1].tool_calls else now)

    def question(self, talk: Talk) -> tuple[Message, ...]:
        """What can be said: results first if calls wait for them."""
        last = talk.messages[-1:]
        results = [Message.tool(call.id, "mine") for m in last for call in m.tool_calls]
        return (*results, Message.user("next"))

    async def ask(
        self, real: Conversation, question: Any, streamed: bool, *, cancelled: bool = False
    ) -> None:
        """A turn; one that never ends is cancelled, or left."""
        ways: dict[Any, tuple[Any, Any]] = {
            None: (real.regenerate, real.regenerate_stream),
            GO_ON: (real.resume, real.resume_stream),
        }
        run, stream = ways.get(question) or (
            lambda: real.say(question),
            lambda: real.say_stream(question),
        )
        if streamed:
            async with stream() as response:
                if cancelled:
                    await anext(aiter(response))
                else:
                    await response.collect()
            return
        turn = asyncio.ensure_future(run())
        if not cancelled:
            await turn
            return
        for _ in range(20):
            await asyncio.sleep(0)
        turn.cancel()
        await asyncio.wait([turn])

    def teardown(self) -> None:
        """Close what is open."""
        self.run(self.store.aclose())
        self.run(self.pipeline.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


async def inline(function: Any, /, *args: Any) -> Any:
    """Run blocking work here."""
    await asyncio.sleep(0)
    return function(*args)


TestTalks = Talks.TestCase
TestTalks.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
