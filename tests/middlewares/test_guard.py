"""Guard: what passes, changed or not, what does not, and what is said of it."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from lamella import (
    BlockedError,
    ChatRequest,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    Head,
    Image,
    InspectionError,
    LamellaError,
    Message,
    OrderError,
    Outcome,
    Pipeline,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    Usage,
    middleware,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares import SingleFlight, guard
from lamella_middlewares.guard import (
    Guard,
    Inspection,
    Review,
    Rule,
    Verdict,
    allow,
    ask,
    block,
    blocked_terms,
    change,
    max_length,
    rule,
)
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

SECRET = "swordfish"
ASK = ChatRequest.of("hello", model="m")


def pipeline(layers: list[Any], transport: Any, **more: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports(), **more)


def notes(trace: Any) -> list[tuple[str, str]]:
    """What the guard wrote down: the fact and the rule."""
    return [(note.name, note.fields["rule"]) for note in trace.notes if note.layer == "guard"]


@rule(look_behind=0)
def shout(inspection: Inspection) -> Verdict:
    """Everything in capitals."""
    return change(inspection.text[: inspection.start] + inspection.text[inspection.start :].upper())


@rule(look_behind=8)
def no_secret(inspection: Inspection) -> Verdict:
    """The secret does not pass."""
    return block("secret", kinds=["word"]) if SECRET in inspection.text else allow()


class Everything(Rule):
    """Notes whose texts it is shown."""

    name = "everything"
    look_behind = 0

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def inspect(self, inspection: Inspection, /) -> Verdict:
        """Look and allow."""
        place = inspection.surface or inspection.channel
        self.seen.append((inspection.text, place))
        return allow()


# --- requests ------------------------------------------------------------------------------------


async def test_a_blocked_request_is_never_sent() -> None:
    """And is not retried; the error says which rule, and of what kind."""
    transport: Any = Scripted(["no"])
    pipe = pipeline([Guard(no_secret), Retry(base=0.01)], transport)
    with pytest.raises(BlockedError) as caught:
        await pipe.run(ChatRequest.of(f"tell me the {SECRET}", model="m"))
    error = caught.value
    assert (error.rule, error.kinds, error.outcome) == ("no_secret", ("word",), Outcome.NOT_SENT)
    assert (error.layer, error.committed, error.retryable) == ("guard", False, False)
    assert transport.requests == []
    assert SECRET not in str(error) + repr(error)
    assert error.__cause__ is None


async def test_every_text_of_a_request_is_looked_at() -> None:
    """Tool arguments as their strings, tools, names, system prompts."""
    everything = Everything()
    call = ToolCall("c", "find", '{"where": "n\\u0061me", "n": 1}')
    conversation = [
        Message.system("be kind"),
        Message.user([Text("look"), Image(url="https://example.com/x.png")]),
        Message.assistant([Reasoning("hm"), call]),
        Message.tool("c", "found"),
    ]
    tools = [{"type": "function", "function": {"name": "find", "description": "finds"}}]
    request = ChatRequest.of(conversation, model="m", tools=tools)
    await pipeline([Guard(everything, direction="in")], Scripted(["fine"])).run(request)
    texts = {text for text, _ in everything.seen}
    assert {"be kind", "look", "https://example.com/x.png", "hm", "name", "found", "finds"} <= texts


async def test_a_changed_request_is_sent_changed() -> None:
    """The caller's own is as it was."""
    transport: Any = Scripted(["Fine."])
    request = ChatRequest.of("hello", model="m")
    response = await pipeline([Guard(shout)], transport).run(request)
    assert transport.requests[0].messages[0].text == "HELLO"
    assert request.messages[0].text == "hello"
    assert response.text == "FINE."
    assert notes(response.trace) == [("guard.changed", "shout"), ("guard.changed", "shout")]


async def test_other_operations_are_guarded_too() -> None:
    """Embeddings have texts as well."""
    transport: Any = Scripted(["x"])
    with pytest.raises(BlockedError):
        await pipeline([Guard(no_secret)], transport).run(
            EmbeddingRequest.of([f"a {SECRET}"], model="m")
        )
    assert transport.requests == []


async def test_rules_look_at_roles_if_they_say_so() -> None:
    """A term in the system prompt is the program's own."""
    guard = Guard(blocked_terms([SECRET], roles=["user", "tool"]), direction="in")
    conversation = [Message.system(f"never say {SECRET}"), Message.user("hi")]
    pipe = pipeline([guard], Scripted(["fine"]))
    assert (await pipe.run(ChatRequest.of(conversation, model="m"))).text == "fine"
    with pytest.raises(BlockedError):
        await pipe.run(ChatRequest.of([*conversation, Message.user(SECRET)], model="m"))


# --- several rules -------------------------------------------------------------------------------


async def test_each_rule_sees_what_those_before_have_left() -> None:
    """In order: changes compose."""

    def add(inspection: Inspection) -> Verdict:
        return change(inspection.text + "!")

    transport: Any = Scripted(["fine"])
    both = Guard([add, shout], direction="in")
    await pipeline([both], transport).run(ASK)
    assert transport.requests[0].messages[0].text == "HELLO!"
    hidden = Guard([rule(lambda _: change("x"), name="hide"), no_secret], direction="in")
    await pipeline([hidden], Scripted(["fine"])).run(ChatRequest.of(SECRET, model="m"))


async def test_the_strictest_verdict_holds() -> None:
    """Somebody is asked only if no rule blocks, whichever comes first."""
    asked: list[str] = []

    async def approve(approval: Any) -> bool:
        asked.append(approval.rule)
        return True

    unsure = rule(lambda _: ask("doubt"), name="unsure", direction="in")
    for rules in ([unsure, no_secret], [no_secret, unsure]):
        pipe = pipeline([Guard(rules, approve=approve)], Scripted(["fine"]))
        with pytest.raises(BlockedError):
            await pipe.run(ChatRequest.of(SECRET, model="m"))
    assert asked == []
    await pipeline([Guard([unsure, no_secret], approve=approve)], Scripted(["fine"])).run(ASK)
    assert asked == ["unsure"]


async def test_a_review_sees_and_changes_the_whole_request() -> None:
    """Between other rules, in its place."""

    class Shorter(Rule):
        name = "shorter"
        direction = "in"

        async def review(self, review: Review, /) -> Verdict:
            await anyio.lowlevel.checkpoint()
            request = review.request
            assert isinstance(request, ChatRequest)
            assert request.messages[-1].text == "TWO"  # what the rule before made of it
            return change(request.evolve(messages=request.messages[-1:]), "shortened")

    transport: Any = Scripted(["fine"])
    conversation = [Message.user("one"), Message.user("two")]
    guard = Guard([shout, Shorter()], direction="in")
    response = await pipeline([guard], transport).run(ChatRequest.of(conversation, model="m"))
    assert [message.text for message in transport.requests[0].messages] == ["TWO"]
    assert ("guard.changed", "shorter") in notes(response.trace)


# --- answers -------------------------------------------------------------------------------------


async def test_a_blocked_answer_has_been_paid_for() -> None:
    """The error says how much; nothing of the text is in it."""
    transport: Any = Scripted([ScriptedAnswer([f"the {SECRET}", *_end(3)])])
    pipe = pipeline([Guard(no_secret)], transport)
    with pytest.raises(BlockedError) as caught:
        await pipe.run(ASK)
    error = caught.value
    assert error.outcome is Outcome.FAILED
    assert error.usage == Usage(text_output=3)
    assert [attempt.outcome for attempt in error.attempts] == [Outcome.COMPLETE]
    assert SECRET not in str(error) + repr(error)


def _end(tokens: int) -> list[Any]:
    from lamella import Finish, UsageReport

    return [UsageReport(Usage(text_output=tokens)), Finish("stop")]


async def test_all_texts_of_an_answer_are_looked_at() -> None:
    """Reasoning, refusals, and the strings in tool arguments however they are written."""
    for part in (
        Reasoning(f"a {SECRET}"),
        Refusal(f"a {SECRET}"),
        ToolCall("c", "f", '{"a": ["\\u0073wordfish"]}'),
        ToolCall("c", "f", '{"\\u0073wordfish": 1}'),
        ToolCall("c", "f", f"broken {SECRET}"),
    ):
        with pytest.raises(BlockedError):
            await pipeline([Guard(no_secret)], Scripted([Message.assistant([part])])).run(ASK)


async def test_changed_arguments_are_still_json() -> None:
    """What is put in is escaped."""

    def quote(inspection: Inspection) -> Verdict:
        return change(inspection.text.replace("a", '"'))

    call = ToolCall("c", "f", '{"x":  "b\\u0061", "n": 5}')
    pipe = pipeline([Guard(quote, direction="out")], Scripted([Message.assistant([call])]))
    response = await pipe.run(ASK)
    assert response.tool_calls[0].arguments == '{"x":  "b\\"", "n": 5}'


async def test_the_raw_answer_is_dropped() -> None:
    """It would show what was taken out; with rules for requests only it stays."""
    answer = ScriptedAnswer(["fine", *_end(1)], head=Head(raw=b"{}"))
    guarded = await pipeline([Guard(shout)], Scripted([answer])).run(ASK)
    assert guarded.raw is None
    free = await pipeline([Guard(shout, direction="in")], Scripted([answer])).run(ASK)
    assert (free.raw, free.text) == (b"{}", "fine")


# --- in a call -----------------------------------------------------------------------------------


async def test_a_child_call_runs_through_the_layers_inside() -> None:
    """In the same call, with a branch of its own; its failure is the rule's."""

    async def judged(inspection: Inspection) -> Verdict:
        question = ChatRequest.of(f"fine? {inspection.text}", model="judge")
        answer = await inspection.child(question, purpose="judge")
        return allow("judged", score=len(answer.text))

    transport: Any = Scripted(["yes", "answer"])
    response = await pipeline([Guard(judged, direction="in")], transport).run(ASK)
    assert [attempt.branch for attempt in response.trace.attempts] == ["/judge", ""]
    (note,) = [note for note in response.trace.notes if note.name == "guard.noted"]
    assert note.fields["score"] == 3
    failing = Scripted([LamellaError("no", code="odd"), "answer"])
    with pytest.raises(InspectionError, match=r"LamellaError \(odd\)"):
        await pipeline([Guard(judged, direction="in")], failing).run(ASK)


async def test_what_is_kept_is_kept_for_a_call() -> None:
    """For all its turns, and no longer."""
    counts: list[int] = []

    def counted(inspection: Inspection) -> Verdict:
        inspection.kept["n"] = inspection.kept.get("n", 0) + 1
        counts.append(inspection.kept["n"])
        return allow()

    @middleware(phase="compose")
    async def twice(request: Request[Any], call_next: Any) -> Any:
        await call_next(request.turn(1))
        return await call_next(request.turn(2))

    pipe = pipeline([twice, Guard(counted, direction="in")], Scripted(["a", "b", "c", "d"]))
    await pipe.run(ASK)
    await pipe.run(ASK)
    assert counts == [1, 2, 1, 2]


async def test_long_work_leaves_the_loop() -> None:
    """A blocking rule, and a long text, are judged in a thread; a short one is not."""
    threaded: list[str] = []

    async def thread(function: Any, /, *args: Any) -> Any:
        threaded.append(args[0].direction)
        return function(*args)

    def judge(inspection: Inspection) -> Verdict:
        return allow()

    ports = attrs.evolve(virtual_ports(), thread=thread)
    long = ChatRequest.of("x" * 70_000, model="m")
    short = Scripted(["a"], repeat=True)
    pipe = Pipeline([Guard(judge, direction="in")], short, ports=ports)
    await pipe.run(long)
    await pipe.run(ASK)
    assert threaded == ["in"]
    slow = Guard(rule(judge, blocking=True))
    await Pipeline([slow], Scripted(["a"]), ports=ports).run(ASK)
    assert threaded == ["in", "in", "out"]
    threaded.clear()
    many = ChatRequest.of([Message.user("x" * 1000)] * 100, model="m")
    await pipe.run(many)
    assert threaded == ["in"] * 3  # so does much in many texts, for each part of it
    threaded.clear()
    for answer in (["a"], ["x" * 20_000] * 2):
        transport = Scripted([[*answer, *_end(1)]], repeat=True)
        answers = Pipeline([Guard(judge, direction="out")], transport, ports=ports)
        await answers.run(ASK)
        async with answers.stream(ASK) as response:
            await response.collect()
        assert response.text == "".join(answer)
    assert threaded == ["out", "out"]


def test_cancelled_at_each_step_nothing_stays_open(anyio_backend: tuple[str, Any]) -> None:
    """With rules that wait, in a stream."""

    async def waits(inspection: Inspection) -> Verdict:
        await anyio.sleep(0.01)
        return allow()

    def make() -> Any:
        transport: Any = Scripted([["a", "b", *_end(1)]])
        pipe = pipeline([Guard([waits, no_secret], look_behind=1)], transport)

        async def scenario() -> None:
            async with pipe.stream(ASK) as response:
                async for _ in response:
                    pass

        async def check() -> None:
            assert transport.open_sources == 0
            await pipe.aclose()

        return scenario, check

    assert each_step(make, backend=anyio_backend[0]) > 3


# --- construction --------------------------------------------------------------------------------


class NoName(Rule):
    """A rule without a name."""

    def inspect(self, inspection: Inspection, /) -> Verdict:
        """Allow."""
        return allow()


class DoesNothing(Rule):
    """A rule that overrides nothing."""

    name = "nothing"


class OnlyReviews(Rule):
    """A rule of requests."""

    name = "reviews"

    def review(self, review: Review, /) -> Verdict:
        """Allow."""
        return allow()


async def _later(_: Inspection) -> Verdict:
    return allow()


untyped: Any = guard  # mistakes are made on purpose


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: untyped.Guard([]), "give a rule"),
        (lambda: untyped.Guard("terms"), "give a rule"),
        (lambda: untyped.Guard([5]), "is no rule"),
        (lambda: untyped.Guard([NoName]), "is no rule"),
        (lambda: untyped.Guard(NoName()), "no name"),
        (lambda: untyped.Guard(OnlyReviews(), direction="out"), "nothing to look at"),
        (lambda: untyped.Guard(max_length(3, direction="in"), direction="out"), "nothing to"),
        (lambda: untyped.Guard(max_length(3), preview=5), "approve"),
        (lambda: rule(_later, blocking=True), "asynchronous"),
        (lambda: untyped.Guard(max_length(3), approval_key="key"), "reference"),
        (lambda: untyped.Guard(DoesNothing()), "overrides neither"),
        (lambda: untyped.Guard({"use": "nothing"}), "no rule 'nothing'"),
        (
            lambda: untyped.Guard({"use": "max_length", "length": 3}),
            "length: is no option",
        ),
        (lambda: untyped.Guard(no_secret, direction="up"), "direction='up'"),
        (lambda: untyped.Guard(no_secret, on_failure="ignore"), "on_failure"),
        (lambda: untyped.Guard(no_secret, timeout=0), "timeout=0"),
        (lambda: untyped.Guard(no_secret, look_behind=-1), "look_behind=-1"),
        (lambda: untyped.Guard(no_secret, preview=-1), "preview=-1"),
        (lambda: untyped.Guard(no_secret, approve=lambda _: True), "async function"),
        (lambda: untyped.rule(_later, name="two words"), "no name that is a word"),
        (lambda: untyped.rule(_later, look_behind=1.5), "look_behind=1.5"),
        (lambda: untyped.rule(_later, direction="up"), "direction='up'"),
        (lambda: untyped.rule(_later, roles="user"), "roles='user'"),
        (lambda: untyped.block(f"found {SECRET}!"), "is a word"),
        (lambda: untyped.ask("ok", kinds=["two words"]), "is a word"),
        (lambda: untyped.change(5), "takes the whole new text"),
        (lambda: untyped.edit([(3, 4, ""), (1, 2, "")]), "in order"),
        (lambda: untyped.allow("word", count="x"), "numbers"),
    ],
    ids=range(28),
)
def test_mistakes_are_told_when_they_are_made(make: Any, said: str) -> None:
    """Which option, what was given, and what to give; never the text of a verdict."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        make()
    assert SECRET not in str(caught.value)


def test_rules_can_be_named_in_files() -> None:
    """A table names a ready rule and its options."""
    guard = Guard([{"use": "max_length", "characters": 3}])
    assert guard.rules == (max_length(3),)


@middleware(phase="compose", name="tools")
async def tools(request: Request[Any], call_next: Any) -> Any:
    """Stands for the layer of that name."""
    return await call_next(request)


@middleware(phase="remember", name="cache")
async def cache(request: Request[Any], call_next: Any) -> Any:
    """Stands for the layer of that name."""
    return await call_next(request)


def test_an_order_that_lets_things_past_is_refused() -> None:
    """Tools outside, what replays or shares answers inside."""
    guard = Guard(no_secret)
    pipeline([tools, guard, cache, SingleFlight()], Scripted(["x"]))
    for wrong in ([guard, tools], [cache, guard], [SingleFlight(), guard]):
        with pytest.raises(OrderError, match="guard"):
            pipeline(wrong, Scripted(["x"]))


async def test_two_guards_in_one_stack() -> None:
    """Each with rules of its own."""
    outer, inner = Guard(no_secret), Guard(shout)
    response = await pipeline([outer, inner], Scripted(["fine"])).run(
        ChatRequest.of("hi", model="m", context=Context(tenant="t"))
    )
    assert response.text == "FINE"


def test_every_ready_rule_can_be_a_table() -> None:
    """A file says what code says of each of them."""
    tables: list[dict[str, Any]] = [
        {"use": "addresses", "allow_hosts": ["*.example.com"], "timeout": 2, "fetch": True},
        {"use": "blocked_terms", "terms": ["nightfall"], "action": "ask", "roles": ["user"]},
        {"use": "consumption", "max_messages": 5, "max_output_tokens": 10},
        {"use": "injection_markers", "label": "always", "trusted_tools": ["clock"]},
        {"use": "max_length", "characters": 3, "action": "cut", "direction": "in"},
        {"use": "moderation", "thresholds": {"violence": 1}, "categories": ["violence"]},
        {"use": "pattern", "name": "ticket", "expression": "T[0-9]{3}", "action": "redact"},
    ]
    made = Guard(tables).rules
    assert [rule.name for rule in made] == [
        "ticket" if table["use"] == "pattern" else table["use"] for table in tables
    ]


def test_all_mistakes_of_tables_are_told_at_once() -> None:
    """Each has its place in the list."""
    with pytest.raises(ConfigurationError) as caught:
        untyped.Guard([{"use": "max_length"}, {"use": "nothing"}, {"use": "pattern", "nam": "x"}])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "rules[0].characters",
        "rules[1]",
        "rules[2].nam",
        "rules[2].name",
        "rules[2].expression",
    ]
