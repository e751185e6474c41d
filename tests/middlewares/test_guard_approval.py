"""Guard: somebody is asked first."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    ApprovalRequired,
    BlockedError,
    ChatRequest,
    Context,
    DeadlineExceeded,
    Image,
    InspectionError,
    Message,
    Outcome,
    Pipeline,
    Request,
    Secret,
    SecretError,
    Text,
    middleware,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.guard import (
    Approval,
    Guard,
    Inspection,
    Review,
    Rule,
    Verdict,
    allow,
    ask,
    blocked_terms,
    rule,
)

pytestmark = pytest.mark.anyio

TEXT = "make a wire transfer of all that there is"
WIRE = blocked_terms(["wire transfer"], action="ask", name="wire")


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


def request(text: str = TEXT, **context: Any) -> ChatRequest:
    """A request of somebody's."""
    return ChatRequest.of(text, model="m", context=Context(**context))


async def approval_id(guard: Guard, asked: ChatRequest) -> str:
    """The id of the question that a request raises."""
    transport = Scripted(["x"])
    with pytest.raises(ApprovalRequired) as caught:
        await pipeline([guard], transport).run(asked)
    assert transport.requests == []
    return caught.value.approval_id


class Approver:
    """Says always the same, and remembers what it was asked."""

    def __init__(self, answer: Any = True, seconds: float = 0) -> None:
        self.answer = answer
        self.seconds = seconds
        self.asked: list[Approval] = []

    async def __call__(self, approval: Approval) -> Any:
        """Answer, after a time."""
        self.asked.append(approval)
        await anyio.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_without_an_approver_approval_is_required() -> None:
    """The error says which rule asks, and how to go on; never the text."""
    transport = Scripted(["x"])
    with pytest.raises(ApprovalRequired, match="approvals") as caught:
        await pipeline([Guard(WIRE)], transport).run(request())
    error = caught.value
    assert error.rule == "wire"
    assert error.approval_id in str(error)
    assert (error.outcome, error.retryable, transport.requests) == (Outcome.NOT_SENT, False, [])
    assert "transfer" not in str(error) + repr(error)


async def test_the_id_is_that_of_the_question() -> None:
    """The same for the same question in any process; another for another text, tenant or user."""
    guard = Guard(WIRE)
    first = await approval_id(guard, request())
    assert await approval_id(Guard(WIRE), request()) == first
    others = [
        request(f"{TEXT}!"),
        request(tenant="a"),
        request(tenant="ab"),
        request(tenant="a", user="b"),
        request(session="s"),
        request(user="b"),
    ]
    ids = {await approval_id(guard, other) for other in others}
    assert len(ids | {first}) == len(others) + 1
    another = blocked_terms(["wire transfer"], action="ask", name="other")
    assert await approval_id(Guard(another), request()) != first


async def test_an_approval_that_was_given_lets_it_pass() -> None:
    """That question only; each further one needs its own."""
    guard = Guard(WIRE)
    given = await approval_id(guard, request())
    approvals = {"approvals": [given]}
    pipe = pipeline([guard], Scripted(["done"], repeat=True))
    response = await pipe.run(request(attributes=approvals))
    assert response.text == "done"
    assert [note.name for note in response.trace.notes] == ["guard.approved"]
    for other in (request(f"{TEXT}.", attributes=approvals), request(attributes={"approvals": []})):
        with pytest.raises(ApprovalRequired):
            await pipe.run(other)
    both = [Message.user(TEXT), Message.user(f"now {TEXT}")]
    conversation = ChatRequest.of(both, model="m", context=Context(attributes=approvals))
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(conversation)
    more = {"approvals": frozenset({given, caught.value.approval_id})}
    context = Context(attributes=more)
    assert (await pipe.run(conversation.evolve(context=context))).text == "done"


async def test_a_single_id_is_no_list_of_ids() -> None:
    """Text contains much; as approvals it gives nothing."""
    guard = Guard(WIRE)
    given = await approval_id(guard, request())
    with pytest.raises(ApprovalRequired):
        await pipeline([guard], Scripted(["x"])).run(request(attributes={"approvals": given}))


async def test_an_approver_is_asked_and_may_take_its_time() -> None:
    """It learns what it needs; a preview only if it is to have one."""
    approver = Approver(seconds=3600)
    context = {"tenant": "t", "user": "u", "session": "s"}
    guard = Guard(WIRE, approve=approver, timeout=1)
    response = await pipeline([guard], Scripted(["done"])).run(request(**context))
    assert response.text == "done"
    (asked,) = approver.asked
    assert (asked.rule, asked.reason, asked.kinds, asked.direction) == (
        "wire",
        "term",
        ("term",),
        "in",
    )
    assert (asked.tenant, asked.user, asked.session, asked.preview) == ("t", "u", "s", "")
    assert asked.id == await approval_id(Guard(WIRE), request(**context))
    assert [note.name for note in response.trace.notes] == ["guard.asked", "guard.approved"]
    shown = Approver()
    await pipeline([Guard(WIRE, approve=shown, preview=6)], Scripted(["done"])).run(request())
    assert shown.asked[0].preview == TEXT[:6]
    assert TEXT[:6] not in repr(shown.asked[0])


async def test_no_means_no() -> None:
    """The request is blocked, and not sent."""
    transport = Scripted(["x"])
    with pytest.raises(BlockedError, match="denied") as caught:
        await pipeline([Guard(WIRE, approve=Approver(False))], transport).run(request())
    assert caught.value.rule == "wire"
    assert transport.requests == []


@pytest.mark.parametrize("answer", [None, 1, "yes", ValueError(TEXT)])
async def test_anything_else_is_no_answer(answer: Any) -> None:
    """It does not pass; what the approver said is not kept."""
    with pytest.raises(InspectionError, match="approver") as caught:
        await pipeline([Guard(WIRE, approve=Approver(answer))], Scripted(["x"])).run(request())
    error = caught.value
    chain: list[BaseException] = [error]
    for one in chain:
        chain += [other for other in (one.__cause__, one.__context__) if other is not None]
    assert {type(one) for one in chain} == {InspectionError}
    assert not any(word in str(error) for word in ("transfer", "yes"))


async def test_the_deadline_ends_the_wait() -> None:
    """Nobody waits longer than the call may take."""
    guard = Guard(WIRE, approve=Approver(seconds=100))
    with pytest.raises(DeadlineExceeded):
        await pipeline([Deadline(5), guard], Scripted(["x"])).run(request())


async def test_a_question_is_asked_once_in_a_call() -> None:
    """Two texts, two turns: the same question has the same answer."""
    approver = Approver()

    @middleware(phase="compose")
    async def twice(asked: Request[Any], call_next: Any) -> Any:
        await call_next(asked.turn(1))
        return await call_next(asked.turn(2))

    pipe = pipeline([twice, Guard(WIRE, approve=approver)], Scripted(["a", "b"]))
    await pipe.run(ChatRequest.of([Message.user(TEXT), Message.user(TEXT)], model="m"))
    assert len(approver.asked) == 1


async def test_an_answer_can_be_asked_about() -> None:
    """It has been paid for, and is shown once somebody agrees."""
    guard = Guard(WIRE, direction="out")
    pipe = pipeline([guard], Scripted([TEXT], repeat=True))
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(request("hi"))
    assert caught.value.outcome is Outcome.FAILED
    approvals = {"approvals": [caught.value.approval_id]}
    assert (await pipe.run(request("hi", attributes=approvals))).text == TEXT


async def test_a_review_can_ask_about_the_whole_request() -> None:
    """The question is about all its texts."""

    class Large(Rule):
        name = "large"
        direction = "in"

        def review(self, review: Review, /) -> Verdict:
            return ask("large", messages=len(getattr(review.request, "messages", ())))

    guard = Guard(Large())
    given = await approval_id(guard, request())
    assert await approval_id(guard, request("other")) != given
    pipe = pipeline([guard], Scripted(["done"]))
    assert (await pipe.run(request(attributes={"approvals": [given]}))).text == "done"


async def test_approval_of_one_request_is_none_of_another() -> None:
    """With the same words, but another picture, or more answers."""

    class Pictures(Rule):
        name = "pictures"

        def review(self, review: Review, /) -> Verdict:
            return ask("picture")

    def showing(data: bytes, **fields: Any) -> ChatRequest:
        parts: list[Any] = [Text("look at this"), Image(data=data, media_type="image/png")]
        return ChatRequest.of([Message.user(parts)], model="m", **fields)

    shown = Approver()
    guard = Guard(Pictures(), direction="in", approve=shown, preview=7)
    await pipeline([guard], Scripted(["x"])).run(showing(b"harmless"))
    assert shown.asked[0].preview == "look at"
    guard = Guard(Pictures(), direction="in")
    given = {"approvals": [await approval_id(guard, showing(b"harmless"))]}
    pipe = pipeline([guard], Scripted(["done"]))
    context = Context(attributes=given)
    for other in (showing(b"harmful"), showing(b"harmless", n=9)):
        with pytest.raises(ApprovalRequired):
            await pipe.run(other.evolve(context=context))
    assert (await pipe.run(showing(b"harmless").evolve(context=context))).text == "done"
    odd = ChatRequest.of("x", model="m", extra={"odd": object()})
    with pytest.raises(InspectionError, match="no key"):
        await pipe.run(odd)


async def test_approval_of_one_kind_is_none_of_another() -> None:
    """Another guard may have a rule of the same name, which finds something else."""

    def found(kind: str) -> Guard:
        judge = rule(lambda _: ask("flagged", kinds=[kind]), name="moderation", direction="in")
        return Guard(judge)

    given = await approval_id(found("violence"), request())
    assert await approval_id(found("violence"), request()) == given
    pipe = pipeline([found("sexual")], Scripted(["x"]))
    with pytest.raises(ApprovalRequired):
        await pipe.run(request(attributes={"approvals": [given]}))


async def test_with_a_key_nobody_else_can_make_an_id() -> None:
    """The same key makes the same id; another, or none, another one."""
    keys = [None, Secret.of_value("one"), Secret.of_value("one"), Secret.of_value("two")]
    none, one, same, other = [
        await approval_id(Guard(WIRE, approval_key=key), request()) for key in keys
    ]
    assert one == same
    assert len({none, one, other}) == 3
    guard = Guard(WIRE, approval_key=keys[1], direction="in")
    given = {"approvals": [one]}
    assert (await pipeline([guard], Scripted(["ok"])).run(request(attributes=given))).text == "ok"
    lost = Guard(WIRE, approval_key="env:LAMELLA_TEST_NOT_SET")
    transport = Scripted(["x"])
    with pytest.raises(SecretError):
        await pipeline([lost], transport).run(request("harmless"))
    assert transport.requests == []


async def test_asked_by_several_rules_each_needs_an_answer() -> None:
    """In order; the first no ends it."""
    approver = Approver()

    def unsure(inspection: Inspection) -> Verdict:
        return ask("doubt") if inspection.direction == "in" else allow()

    guard = Guard([WIRE, rule(unsure, name="unsure")], approve=approver)
    await pipeline([guard], Scripted(["done"])).run(request())
    assert [asked.rule for asked in approver.asked] == ["wire", "unsure"]
