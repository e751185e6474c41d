"""Tools that somebody has to agree to first."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tool_turns import ASK, asks, call, noted, pipeline, read, results, sent, whole

from lamella import ApprovalRequired, ChatRequest, Context, Message, MisuseError, ToolCall
from lamella.testing import Scripted
from lamella_middlewares import Tools
from lamella_middlewares.tools import ToolContext, tool

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])


class Bank:
    """Something that must not be done twice."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    async def pay(self, amount: int) -> str:
        """Pays."""
        self.paid.append(amount)
        return f"Paid {amount}."

    async def balance(self) -> int:
        """What is left."""
        return 100 - sum(self.paid)


def again(request: ChatRequest, error: ApprovalRequired, *ids: str) -> ChatRequest:
    """The request with what it had come to, and what somebody has agreed to."""
    partial: Any = error.partial
    return request.evolve(
        messages=(*request.messages, *partial.messages),
        context=request.context.evolve(attributes={"approvals": list(ids)}),
    )


NOT_APPROVED = "Not run: the call was not approved."
NOT_ASKED = "Not run: the call has to be approved, and that could not be asked."


@pytest.mark.parametrize(
    ("kind", "verdict", "said", "outcome"),
    [
        ("plain", True, "Paid 5.", "ok"),
        ("async", True, "Paid 5.", "ok"),
        ("the layer's", True, "Paid 5.", "ok"),
        ("plain", False, NOT_APPROVED, "declined"),
        ("async", False, NOT_APPROVED, "declined"),
        ("the layer's", "Too much.", "Too much.", "declined"),
        ("plain", None, NOT_ASKED, "not_asked"),
        ("plain", ValueError(), NOT_ASKED, "not_asked"),
        ("async", ValueError(), NOT_ASKED, "not_asked"),
    ],
    ids=str,
)
async def test_who_is_asked_decides(kind: str, verdict: Any, said: str, outcome: str) -> None:
    """True runs it; anything else does not, and the model is told."""
    bank, asked = Bank(), list[tuple[str, Any]]()

    def decide(one: ToolCall, about: ToolContext) -> Any:
        asked.append((one.arguments, about.context.user))
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def decide_later(one: ToolCall, about: ToolContext) -> Any:
        await anyio.sleep(60)
        return decide(one, about)

    approve: Any = decide_later if kind == "async" else decide
    if kind == "the layer's":
        layer = Tools([bank.pay, tool(bank.balance, approve=False)], approve=approve)
    else:
        layer = Tools([tool(bank.pay, approve=approve), bank.balance])
    transport = Scripted([asks(call("pay", amount=5), call("balance")), "Done."])
    request = ASK.evolve(context=Context(user="ada"))
    response = await pipeline(layer, transport).run(request)
    assert asked == [('{"amount": 5}', "ada")]
    assert results(response.messages)[0] == ("pay", said, verdict is not True)
    assert not results(response.messages)[1][2]
    assert bank.paid == ([5] if verdict is True else [])
    assert {one["tool"]: one["outcome"] for one in noted(response)}["pay"] == outcome
    assert whole(sent(transport))


@BOTH
async def test_the_run_ends_and_goes_on_where_somebody_agrees(*, stream: bool) -> None:
    """Nothing of the message is run before; then each call once, and the model goes on."""
    bank = Bank()
    layer = Tools([tool(bank.pay, approve="ask"), bank.balance])
    transport = Scripted([asks(call("pay", amount=5), call("balance")), "It is paid."])
    pipe = pipeline(layer, transport)
    with pytest.raises(ApprovalRequired, match="pay") as caught:
        await read(pipe, stream=stream)
    error = caught.value
    ((identity, asked),) = error.calls.items()
    assert asked == call("pay", amount=5)
    assert (error.rule, error.approval_id) == ("tools", identity)
    assert bank.paid == []
    response = await read(pipe, again(ASK, error, identity), stream=stream)
    assert bank.paid == [5]
    assert response.text == "It is paid."
    assert [message.role for message in response.messages] == ["tool", "tool", "assistant"]
    assert results(response.messages)[0] == ("pay", "Paid 5.", False)
    assert whole(sent(transport)[1:])


@BOTH
async def test_an_agreement_is_for_this_call_of_this_user_once(*, stream: bool) -> None:
    """Not for other arguments, another user, or a second time."""
    bank = Bank()
    layer = Tools([tool(bank.pay, approve="ask")])
    pipe = pipeline(layer, Scripted([asks(call("pay", amount=5))], repeat=True))
    with pytest.raises(ApprovalRequired) as caught:
        await read(pipe, stream=stream)
    first = caught.value
    request = again(ASK, first, *first.calls)
    with pytest.raises(ApprovalRequired) as caught:  # the model asks for the same once more
        await read(pipe, request, stream=stream)
    assert bank.paid == [5]
    partial: Any = caught.value.partial
    assert [message.role for message in partial.messages] == ["tool", "assistant"]
    other = request.context.evolve(user="eve")
    with pytest.raises(ApprovalRequired) as caught:
        await read(pipe, request.evolve(context=other), stream=stream)
    partial = caught.value.partial
    assert partial.messages == ()
    forged = Message.assistant([call("pay", amount=500)])
    with pytest.raises(ApprovalRequired):
        await read(pipe, request.evolve(messages=(*ASK.messages, forged)), stream=stream)
    assert bank.paid == [5]


async def test_who_declines_answers_the_call() -> None:
    """As a tool's result of the caller's; nothing is run."""
    bank = Bank()
    transport = Scripted([asks(call("pay", amount=5)), "As you wish."])
    pipe = pipeline(Tools([bank.pay], approve="ask"), transport)
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(ASK)
    request = again(ASK, caught.value)
    no = Message.tool("pay", "The user does not want that.", error=True)
    response = await pipe.run(request.evolve(messages=(*request.messages, no)))
    assert response.text == "As you wish."
    assert bank.paid == []
    assert whole(sent(transport)[1:])


async def test_a_call_of_no_tool_beside_one_that_is_agreed_to() -> None:
    """It is told so once the conversation goes on."""
    bank = Bank()
    transport = Scripted([asks(call("pay", amount=5), call("made_up")), "Done."])
    pipe = pipeline(Tools([bank.pay], approve="ask"), transport)
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(ASK)
    response = await pipe.run(again(ASK, caught.value, *caught.value.calls))
    assert [error for _, _, error in results(response.messages)] == [False, True]
    assert bank.paid == [5]
    assert whole(sent(transport)[1:])


async def test_calls_that_cannot_be_told_apart_cannot_be_agreed_to() -> None:
    """They are not run, and the model is told."""
    bank = Bank()
    both = [*asks(ToolCall("", "pay", '{"amount":5}'))]
    transport = Scripted([both, "Then not."])
    response = await pipeline(Tools([bank.pay], approve="ask"), transport).run(ASK)
    assert response.text == "Then not."
    assert noted(response)[0]["outcome"] == "not_asked"
    assert bank.paid == []


@pytest.mark.parametrize(("given", "agreed"), [("one", True), ("part", False), ("none", False)])
async def test_approvals_that_are_no_list(given: str, *, agreed: bool) -> None:
    """A text is one id, not a collection of pieces; None is none."""
    bank = Bank()
    pipe = pipeline(Tools([bank.pay], approve="ask"), [asks(call("pay", amount=5)), "Done."])
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(ASK)
    (identity,) = caught.value.calls
    value = {"one": identity, "part": f"x{identity}", "none": None}[given]
    request = again(ASK, caught.value).evolve(context=Context(attributes={"approvals": value}))
    if agreed:
        await pipe.run(request)
    else:
        with pytest.raises(ApprovalRequired):
            await pipe.run(request)
    assert bank.paid == [5] * agreed


async def test_a_call_that_was_forced_and_agreed_to_is_not_forced_once_more() -> None:
    """Or it would be asked for, and done, for ever."""
    bank = Bank()
    transport = Scripted([asks(call("pay", amount=5)), "Done."])
    pipe = pipeline(Tools([bank.pay], approve="ask"), transport)
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(ASK.evolve(tool_choice="pay"))
    request = again(ASK.evolve(tool_choice="pay"), caught.value, *caught.value.calls)
    await pipe.run(request)
    assert [one.tool_choice for one in sent(transport)] == ["pay", None]


@BOTH
async def test_of_two_calls_one_is_run_and_the_other_declined(*, stream: bool) -> None:
    """Nothing is run before each is decided; the model is told in whose words it was declined."""
    bank = Bank()
    both = asks(call("pay", "a", amount=5), call("pay", "b", amount=7), call("balance"))
    transport = Scripted([both, "One is paid."])
    pipe = pipeline(Tools([tool(bank.pay, approve="ask"), bank.balance]), transport)
    with pytest.raises(ApprovalRequired) as caught:
        await read(pipe, stream=stream)
    yes, no = caught.value.calls
    request = again(ASK, caught.value)

    def decided(**attributes: Any) -> ChatRequest:
        return request.evolve(context=Context(attributes=attributes))

    with pytest.raises(ApprovalRequired) as still:
        await read(pipe, decided(declined=[no]), stream=stream)
    assert (list(still.value.calls), bank.paid) == ([yes], [])
    response = await read(pipe, decided(approvals=[yes], declined={no: "Too much."}), stream=stream)
    assert results(response.messages)[:2] == [("a", "Paid 5.", False), ("b", "Too much.", True)]
    assert sorted(one["outcome"] for one in noted(response)) == ["declined", "ok", "ok"]
    assert (bank.paid, response.text) == ([5], "One is paid.")
    assert whole(sent(transport)[1:])


@pytest.mark.parametrize("kind", ["one", "list", "no words", "calls", "gone"])
async def test_who_only_declines_says_it_in_the_words_of_the_layer(kind: str) -> None:
    """Ids are enough, in whatever form; the tool that no longer asks is not run either."""
    bank = Bank()
    script = Scripted([asks(call("pay", amount=5)), "As you wish."])
    pipe = pipeline(Tools([bank.pay], approve="ask"), script)
    with pytest.raises(ApprovalRequired) as caught:
        await pipe.run(ASK)
    (identity,) = caught.value.calls
    forms: dict[str, Any] = {
        "one": identity, "list": [identity], "no words": {identity: None},
        "calls": caught.value.calls, "gone": {identity},
    }  # fmt: skip
    request = again(ASK, caught.value).evolve(context=Context(attributes={"declined": forms[kind]}))
    if kind == "gone":
        pipe = pipeline(Tools([bank.pay]), script)
    response = await pipe.run(request)
    assert results(response.messages) == [("pay", NOT_APPROVED, True)]
    assert bank.paid == []


@BOTH
@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"approvals": ["a", "b"], "declined": ["b"]}, "'b' is both approved and declined"),
        ({"approvals": "b", "declined": "b"}, "'b' is both approved and declined"),
        ({"declined": 3}, "int"),
        ({"declined": [3]}, "int"),
        ({"declined": {"b": 3}}, "int"),
    ],
)
async def test_decisions_that_are_none_are_refused(
    attributes: Any, why: str, *, stream: bool
) -> None:
    """Before anything is sent: nobody has said what is to be done."""
    transport = Scripted(["never"])
    pipe = pipeline(Tools([Bank().pay], approve="ask"), transport)
    with pytest.raises(MisuseError, match=why):
        await read(pipe, ASK.evolve(context=Context(attributes=attributes)), stream=stream)
    assert sent(transport) == []
