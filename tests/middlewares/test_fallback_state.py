"""Pools of credentials, and state that only one provider understands."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lamella import (
    AuthenticationError,
    ChatRequest,
    CircuitOpenError,
    ContextLengthError,
    CredentialsExhaustedError,
    File,
    InvalidRequestError,
    Message,
    Opaque,
    PermissionDeniedError,
    Pipeline,
    QuotaError,
    RateLimitError,
    Reasoning,
    ServerError,
    Target,
    TargetsFailedError,
    Text,
)
from lamella._key_pools import Rests
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
REVOKED = AuthenticationError("x", status=401)
EMPTY = QuotaError("x", status=429, code="insufficient_quota")
FORBIDDEN = PermissionDeniedError("x", status=403)


def key(*script: Any) -> Scripted:
    """A transport with one of the credentials."""
    return Scripted(script, repeat=True, name="acme")


def throttled(seconds: float | None = None) -> Scripted:
    """One whose limit is reached."""
    return key(RateLimitError("x", status=429, retry_after=seconds))


def through(pool: Target, *layers: Any, targets: Any = None, **more: Any) -> Pipeline:
    """A pipeline whose first target is a pool."""
    fallback = Fallback(targets or [Scripted(["elsewhere"], repeat=True, name="elsewhere")],
                        primary=pool)  # fmt: skip
    more.setdefault("ports", virtual_ports())
    return Pipeline([Deadline(600), fallback, *layers], Scripted(["never"]), **more)


def served(response: Any) -> list[str]:
    """Which credentials were asked."""
    return [attempt.provider for attempt in response.trace.attempts]


# --- walking a pool ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("retry", [False, True])
async def test_the_next_credential_is_asked_at_once(stream: bool, retry: bool) -> None:
    """Whatever is wrong with the others: no wait, and Retry inside does not stand in the way."""
    keys = [key(REVOKED), key(EMPTY), key(FORBIDDEN), throttled(30), key("fine")]
    pipe = through(Target.pool("acme", keys), *[Retry()] * retry)
    if stream:
        async with pipe.stream(ASK) as opened:
            response = await opened.collect()
    else:
        response = await pipe.run(ASK)
    assert (response.text, response.served_by, pipe.ports.monotonic()) == ("fine", "acme#5", 0)
    assert [len(one.requests) for one in keys] == [1, 1, 1, 1, 1]
    assert [one.branch for one in response.trace.attempts][-1] == "/acme/key5"


async def test_what_is_not_the_credentials_is_not_asked_of_the_next() -> None:
    """An outage and a bad request are the provider's and the caller's: no key mends them."""
    spare = key("never")
    for error in (InvalidRequestError("x", status=400), ContextLengthError("x", status=400)):
        pipe = through(Target.pool("acme", [key(error), spare]))
        with pytest.raises(InvalidRequestError):
            await pipe.run(ASK)
    response = await through(Target.pool("acme", [key(ServerError("x")), spare])).run(ASK)
    assert (response.text, spare.requests) == ("elsewhere", [])


async def test_no_credential_left_is_an_error_of_its_own() -> None:
    """Distinct from a single refusal, and another target may do better."""
    keys = [key(REVOKED), key(EMPTY)]
    response = await through(Target.pool("acme", keys)).run(ASK)
    assert (response.text, served(response)) == ("elsewhere", ["acme#1", "acme#2", "elsewhere"])
    pipe = through(Target.pool("acme", keys), targets=[key(REVOKED)])
    with pytest.raises(CredentialsExhaustedError) as caught:
        await pipe.run(ASK)
    assert "2 in all; AuthenticationError, QuotaError" in str(caught.value.errors[0])  # type: ignore[attr-defined]
    assert [len(one.requests) for one in keys] == [2, 2]


async def test_all_throttled_is_throttled_for_the_least_of_their_waits() -> None:
    """Dead ones do not count: those that are accepted will be free again."""
    pool = Target.pool("acme", [throttled(30), key(REVOKED), throttled(20)])
    pipe = through(pool, targets=[throttled(40)])
    with pytest.raises(RateLimitError) as caught:
        await pipe.run(ASK)
    assert caught.value.retry_after == 20


async def test_the_last_credential_is_worth_waiting_for() -> None:
    """Retry inside waits for it as for any that has no spare."""
    keys = [throttled(30), key(RateLimitError("x", status=429, retry_after=2), "fine")]
    pipe = through(Target.pool("acme", keys), Retry())
    response = await pipe.run(ASK)
    assert (response.text, served(response)) == ("fine", ["acme#1", "acme#2", "acme#2"])
    assert 2 <= pipe.ports.monotonic() < 3


async def test_later_calls_avoid_what_was_refused_for_a_while() -> None:
    """For `rest` seconds, or until the throttle is over; then it has its chance again."""
    keys = [key(REVOKED, "renewed"), throttled(5), key("fine")]
    pipe = through(Target.pool("acme", keys, rest=60))
    ports = pipe.ports
    assert served(await pipe.run(ASK)) == ["acme#1", "acme#2", "acme#3"]
    assert served(await pipe.run(ASK)) == ["acme#3"]
    await ports.sleep(6)
    assert served(await pipe.run(ASK)) == ["acme#2", "acme#3"]
    await ports.sleep(60)
    assert served(await pipe.run(ASK)) == ["acme#1"]
    assert served(await pipe.run(ASK.evolve(model="other"))) == ["acme#1", "acme#2", "acme#3"]


async def test_with_all_at_rest_the_next_to_be_free_is_asked() -> None:
    """One attempt, not one for each; a throttled one before a dead one."""
    pipe = through(Target.pool("acme", [key(REVOKED), throttled(5), throttled(9)]))
    assert len(served(await pipe.run(ASK))) == 4
    assert served(await pipe.run(ASK)) == ["acme#2", "elsewhere"]
    pipe = through(Target.pool("dead", [key(REVOKED), key(REVOKED)]))
    assert len(served(await pipe.run(ASK))) == 3
    assert served(await pipe.run(ASK)) == ["dead#1", "elsewhere"]


async def test_calls_may_be_spread_over_the_credentials() -> None:
    """In turn, and each still falls back on the others."""
    keys = [key("a"), key(REVOKED), key("c")]
    pipe = through(Target.pool("acme", keys, spread=True))
    seen = [served(await pipe.run(ASK)) for _ in range(4)]
    assert seen == [["acme#1"], ["acme#2", "acme#3"], ["acme#3"], ["acme#1"]]


async def test_what_is_held_back_here_for_one_credential_is_asked_of_the_next() -> None:
    """A limit or a breaker counts each credential apart."""

    async def breaker(request: Any, call_next: Any) -> Any:
        if request.context.provider == "acme#1":
            raise CircuitOpenError("open")
        return await call_next(request)

    pipe = through(Target.pool("acme", [key("never"), key("fine")]), breaker)
    assert served(await pipe.run(ASK)) == ["acme#2"]


async def test_inner_layers_know_how_many_credentials_are_left() -> None:
    """So that waiting for one of them is nobody's idea."""
    spares: list[int] = []

    async def look(request: Any, call_next: Any) -> Any:
        spares.append(request.context.spare_credentials)
        return await call_next(request)

    await through(Target.pool("acme", [key(REVOKED), throttled(), key(REVOKED)]), look).run(ASK)
    assert spares == [2, 1, 0, 0]


# --- what only one provider understands -------------------------------------------------------

SEALED = Reasoning("thinking", signature="sealed", extra={"provider": "own-responses"})
HIDDEN = Reasoning("", signature="sealed", redacted=True)
FOREIGN = Opaque({"type": "search"}, "own")
UNKNOWN = Opaque({"type": "video_url"})
TALK = ChatRequest(
    messages=(
        Message.user("hi"),
        Message.assistant([SEALED, Text("hello"), FOREIGN]),
        Message.assistant([HIDDEN]),
        Message.user([Text("and now?"), UNKNOWN]),
    ),
    model="m",
)


def failing(*layers: Any) -> tuple[Pipeline, Scripted, Scripted]:
    """A pipeline whose own transport fails, with it and its backup."""
    own = Scripted([ServerError("x")], repeat=True, name="own")
    backup = Scripted(["fine"], repeat=True, name="backup")
    return Pipeline([Fallback([backup], *layers)], own, ports=virtual_ports()), own, backup


async def test_seals_of_another_provider_are_left_out() -> None:
    """Its reasoning stays as text, what is nobody else's goes; a note says so."""
    pipe, own, backup = failing()
    response = await pipe.run(TALK)
    assert own.requests[0].messages == TALK.messages  # type: ignore[attr-defined]
    _, said, asked = backup.requests[0].messages  # type: ignore[attr-defined]
    assert said.parts == (Reasoning("thinking"), Text("hello"))
    assert asked == TALK.messages[-1]
    [note] = [note for note in response.trace.notes if note.name == "fallback.stripped"]
    assert note.fields == {"target": "backup", "parts": 3}


async def test_another_model_of_the_provider_gets_everything() -> None:
    """And so does the provider that the state came from, wherever the conversation went since."""
    own = Scripted([ServerError("x"), "fine"], name="own")
    await Pipeline([Fallback(["m2"])], own).run(TALK)
    assert own.requests[1].messages == TALK.messages  # type: ignore[attr-defined]
    back = Scripted(["fine"], name="own")
    first = Scripted([ServerError("x")], name="first")
    only = ChatRequest(messages=TALK.messages[:2], model="m")
    await Pipeline([Fallback([back])], first).run(only)
    assert back.requests[0].messages == only.messages  # type: ignore[attr-defined]


async def test_a_target_may_be_left_out_instead() -> None:
    """Where an answer without the model's own thoughts is worth less than none."""
    backup = Scripted(["never"], name="backup")
    own = Scripted([ServerError("x")], name="own")
    with pytest.raises(ServerError):
        await Pipeline([Fallback([backup], state="refuse")], own).run(TALK)
    assert backup.requests == []


@pytest.mark.parametrize(
    "request_",
    [
        ASK.evolve(extra={"previous_response_id": "r1"}),
        ASK.evolve(extra={"conversation": "c1"}),
        ChatRequest.of(Message.user([Text("read"), File(id="f1")])),
        ASK.evolve(tools=[Opaque({"type": "web_search"}, "own")]),
    ],
    ids=["previous response", "conversation", "file", "hosted tool"],
)
async def test_what_stands_for_content_is_never_left_out(request_: ChatRequest) -> None:
    """Without it the question would be another one: the target is left out."""
    backup = Scripted(["never"], repeat=True, name="backup")
    unsent = ServerError("x", status=500)
    with pytest.raises(ServerError):
        await Pipeline([Fallback([backup])], Scripted([unsent], name="own")).run(request_)
    assert backup.requests == []
    # Whatever the first target is, the request was written for it.
    for first in (Scripted(["own"], name="b"), Target.pool("b", [Scripted(["own"])])):
        pipe = Pipeline([Fallback([backup], primary=first)], Scripted(["never"]))
        response = await pipe.run(request_)
        assert (response.text, response.trace.notes) == ("own", [])


async def test_the_first_target_gets_all_that_was_written_for_it() -> None:
    """Sealed reasoning of unknown origin included, in whatever form it was given."""
    first = Scripted(["fine"], name="b")
    await Pipeline([Fallback(["m2"], primary=first)], Scripted(["never"])).run(TALK)
    assert first.requests[0].messages == TALK.messages  # type: ignore[attr-defined]


# --- what calls at once are told of a credential ----------------------------------------------


def test_of_what_calls_at_once_are_told_the_strictest_holds() -> None:
    """A throttle without a hint does not shorten one with; a later word replaces it."""
    rests = Rests(2)
    rests.rest(0, 61, asked=0, now=1, dead=False)
    rests.rest(0, 7, asked=0, now=2, dead=False)
    assert rests.order(60, spread=False) == [1]
    rests.rest(0, 13, asked=3, now=4, dead=False)
    assert rests.order(13, spread=False) == [0, 1]


def test_a_success_that_was_asked_earlier_does_not_end_a_rest() -> None:
    """The provider has changed its mind since; one that was asked later does."""
    rests = Rests(2)
    rests.rest(0, 61, asked=5, now=6, dead=False)
    rests.revive(0, 2)
    assert rests.order(10, spread=False) == [1]
    rests.revive(0, 10)
    assert rests.order(10, spread=False) == [0, 1]


@pytest.mark.parametrize("hint", [math.inf, math.nan, -1.0, 0.0, 1e300])
async def test_junk_hints_do_not_lock_a_credential_up(hint: float) -> None:
    """Nor do they keep it in use: it rests as without a hint, or for a day."""
    keys = [Scripted([RateLimitError("x", status=429, retry_after=hint), "back"], repeat=True),
            key("fine")]  # fmt: skip
    pipe = through(Target.pool("acme", keys))
    assert (await pipe.run(ASK)).served_by == "acme#2"
    assert (await pipe.run(ASK)).served_by == "acme#2"
    await pipe.ports.sleep(86_401)
    assert (await pipe.run(ASK)).served_by == "acme#1"


async def test_the_least_wait_of_a_pool_counts_credentials_that_were_not_visited() -> None:
    """One that rests for three seconds is free before one that has just said thirty."""
    keys = [throttled(3), Scripted(["fine", RateLimitError("x", status=429, retry_after=30)])]
    pipe = through(Target.pool("acme", keys))
    assert (await pipe.run(ASK)).served_by == "acme#2"
    with pytest.raises(TargetsFailedError) as caught:
        await through(
            Target.pool("acme", keys), targets=[Scripted([ServerError("x")])], ports=pipe.ports
        ).run(ASK)
    assert caught.value.errors[0].retry_after == pytest.approx(3)  # type: ignore[attr-defined]


async def test_a_bound_that_cuts_a_walk_short_says_so_with_what_the_keys_said() -> None:
    """The error is the last key's, and not one of attempts."""
    pool = Target.pool("acme", [key(REVOKED) for _ in range(4)])
    pipe = through(pool, max_attempts=3)
    with pytest.raises(AuthenticationError, match="1 more credentials") as caught:
        await pipe.run(ASK)
    assert len(caught.value.attempts) == 3


async def test_no_key_is_asked_again_before_it_said() -> None:
    """P8: Retry outside comes back sooner, for a target that fails without a hint."""
    pool = Target.pool("acme", [throttled(20), throttled(9)])
    own = Scripted([ServerError("x", status=500), ServerError("x", status=500), "back"], name="own")
    pipe = Pipeline([Retry(), Fallback([pool])], own, ports=virtual_ports())
    response = await pipe.run(ASK)
    assert served(response) == ["own", "acme#1", "acme#2", "own", "own"]


async def test_another_account_of_the_provider_keeps_its_seals() -> None:
    """A transport says how its API's parts are marked, where that is not its name."""
    own = Scripted([ServerError("x")], repeat=True, name="own")
    backup = Scripted(["fine"], name="own again")
    backup.origin = "own"  # type: ignore[attr-defined]
    await Pipeline([Fallback([backup])], own, ports=virtual_ports()).run(TALK)
    assert backup.requests[0].messages[1] == TALK.messages[1]  # type: ignore[attr-defined]
