"""The conformance kit: what holds of every middleware and every transport, as checks to run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeAlias

import attrs

from lamella._chat import ChatRequest
from lamella._context import Context
from lamella._embeddings import EmbeddingRequest
from lamella._handlers import Layer, Transport
from lamella._layers import info_of
from lamella._loops import TrioLoop, current_loop
from lamella._moderation import ModerationRequest
from lamella._pipeline import Pipeline
from lamella._ports import default_ports
from lamella._requests import Request
from lamella._token_counts import TokenCountRequest
from lamella.testing import _conformance_answers as answers
from lamella.testing import _conformance_calls as calls
from lamella.testing import _conformance_endings as endings
from lamella.testing import _conformance_transport as transport
from lamella.testing._conformance_world import Subject
from lamella.testing._virtual import run_virtual, virtual_ports

Settled: TypeAlias = Callable[[Pipeline], Awaitable[object] | object]
"""Checks that nothing is left of a call; raises an AssertionError otherwise."""


@attrs.frozen
class Check:
    """One rule of the contract, to be checked by awaiting a call: `await check()`.

    Attributes:
        name: What to call it in a report.
        rule: The rule, as a sentence.
    """

    name: str
    rule: str
    _subject: str
    _run: Callable[[], Awaitable[None]] = attrs.field(repr=False)

    async def __call__(self) -> None:
        """Check the rule.

        Raises:
            AssertionError: If it is broken; the message says which rule and how.
        """
        try:
            await self._run()
        except AssertionError as error:
            raise AssertionError(f"{self._subject}: {self.rule} {error}") from error
        except Exception as error:
            error.add_note(f"{self._subject}: raised while checking that: {self.rule}")
            raise

    def __str__(self) -> str:
        return self.name


_MIDDLEWARE: tuple[Callable[[Subject], Awaitable[None]], ...] = (
    answers.answers,
    answers.same_streamed_or_not,
    answers.same_however_it_is_cut,
    answers.empty_answers,
    answers.whole_answers,
    answers.events_of_all_kinds,
    endings.errors_before_commitment,
    endings.errors_after_commitment,
    endings.foreign_errors,
    endings.expired_deadlines,
    endings.cancelled_anywhere,
    endings.left_early,
    endings.dropped,
    endings.failing_callbacks,
    calls.called_again,
    calls.many_at_once,
    calls.nested,
    calls.loop_after_loop,
    calls.context_variables,
    calls.nothing_private,
)


def middleware_checks(
    make: Callable[[], Layer],
    *,
    requests: Sequence[Request[Any]] = (),
    stack: Callable[[Layer], Sequence[Layer]] | None = None,
    skip: Collection[str] = (),
    settled: Settled | None = None,
    virtual: bool = True,
) -> tuple[Check, ...]:
    """Every check of a middleware, by name, for a parametrised test.

    ::

        @pytest.mark.parametrize("check", middleware_checks(MyLayer), ids=str)
        async def test_it_keeps_the_contract(check):
            await check()

    Args:
        make: Makes a new layer; its class will do.
        requests: What to ask. Empty asks one of each kind that the layer handles.
        stack: Puts the layer among others that it needs: `lambda layer: [layer, Other()]`. None
            leaves it alone.
        skip: Names of checks that do not apply to it; `calls twice` and so on.
        settled: Called with the pipeline after every call; checks that the layer has nothing left.
        virtual: Whether to run in virtual time, on an event loop of its own that is of the same
            kind as the caller's. False is for layers that need real time or the caller's loop.

    Raises:
        ValueError: If `skip` names no check.
    """
    probe = make()
    asked = tuple(requests) or _requests(probe)
    name = info_of(probe).name
    found: list[Check] = []
    for request in asked:
        subject = Subject(
            make=make,
            request=request,
            stack=stack or _alone,
            ports=virtual_ports if virtual else default_ports,
            settled=settled,
        )
        kind = f" ({request.operation})" if len(asked) > 1 else ""
        for function in _MIDDLEWARE:
            run = _bound(function, subject, virtual=virtual)
            found.append(_check(function, f"Layer {name!r}{kind}", kind, run))
    return _without(found, skip)


async def check_middleware(
    make: Callable[[], Layer],
    *,
    requests: Sequence[Request[Any]] = (),
    stack: Callable[[Layer], Sequence[Layer]] | None = None,
    skip: Collection[str] = (),
    settled: Settled | None = None,
    virtual: bool = True,
) -> None:
    """Check that a middleware keeps the contract; see `middleware_checks` for the arguments.

    Run it on both event loops.

    Raises:
        AssertionError: If it breaks a rule; the message says which.
    """
    for check in middleware_checks(
        make, requests=requests, stack=stack, skip=skip, settled=settled, virtual=virtual
    ):
        await check()


def transport_checks(
    make: Callable[[], Transport],
    request: Request[Any],
    *,
    failing: Sequence[Request[Any]] = (),
    skip: Collection[str] = (),
    settled: Settled | None = None,
) -> tuple[Check, ...]:
    """Every check of a transport, by name, for a parametrised test.

    They run on the caller's event loop and in its time, with the sockets that are there.

    Args:
        make: Makes a new transport; what it gives is closed by the checks.
        request: A request that it answers well, and the same way each time.
        failing: Requests that it answers with an error.
        skip: Names of checks that do not apply to it.
        settled: Called with the pipeline after every call; checks that no connection is left.

    Raises:
        ValueError: If `skip` names no check.
    """
    subject = transport.Subject(make=make, request=request, failing=failing, settled=settled)
    found = [
        _check(function, "Transport", "", partial(function, subject))
        for function in transport.CHECKS
    ]
    return _without(found, skip)


async def check_transport(
    make: Callable[[], Transport],
    request: Request[Any],
    *,
    failing: Sequence[Request[Any]] = (),
    skip: Collection[str] = (),
    settled: Settled | None = None,
) -> None:
    """Check that a transport keeps the contract; see `transport_checks` for the arguments.

    Raises:
        AssertionError: If it breaks a rule; the message says which.
    """
    for check in transport_checks(make, request, failing=failing, skip=skip, settled=settled):
        await check()


def _alone(layer: Layer) -> Sequence[Layer]:
    return [layer]


def _check(
    function: Callable[..., object], subject: str, kind: str, run: Callable[[], Awaitable[None]]
) -> Check:
    name = function.__name__.replace("_", " ")
    rule = (function.__doc__ or "").strip()
    return Check(f"{name}{kind}", rule, subject, run)


def _bound(
    function: Callable[[Subject], Awaitable[None]], subject: Subject, *, virtual: bool
) -> Callable[[], Awaitable[None]]:
    async def here() -> None:
        await function(subject)

    async def in_virtual_time() -> None:
        backend = "trio" if isinstance(current_loop(), TrioLoop) else "asyncio"
        calls.in_thread(lambda: run_virtual(function, subject, backend=backend))

    return in_virtual_time if virtual else here


def _without(found: Sequence[Check], skip: Collection[str]) -> tuple[Check, ...]:
    names = {check.name for check in found}
    unknown = sorted(name for name in skip if not any(_named(known, name) for known in names))
    if unknown:
        raise ValueError(f"skip={unknown!r} names no check; there are: {', '.join(sorted(names))}.")
    return tuple([check for check in found if not any(_named(check.name, name) for name in skip)])


def _named(name: str, skipped: str) -> bool:
    return skipped in {name, name.partition(" (")[0]}


def _requests(layer: Layer) -> tuple[Request[Any], ...]:
    handled = info_of(layer).requests
    context = Context(tenant="tenant", user="user", session="session", tags={"team": "blue"})
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks something up.",
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
        },
    }
    chat = ChatRequest.of(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Who is Ada? Her number is +44 20 7946 0958."},
        ],
        model="a-model",
        tools=[tool],
        temperature=0.0,
        extra={"nested": {"list": [1, {"deep": "value"}]}},
        context=context,
    )
    embedding = EmbeddingRequest.of(
        ["one text", "another"],
        model="a-model",
        extra={"nested": {"list": [1]}},
        context=context,
    )
    known: tuple[Request[Any], ...] = (chat, embedding)
    found = tuple([request for request in known if isinstance(request, handled)])
    if found:
        return found
    # To a layer these are further operations that are not streamed, as an embedding is.
    moderation = ModerationRequest.of(["one text", "another"], model="a-model", context=context)
    others: tuple[Request[Any], ...] = (moderation, TokenCountRequest.of(chat, context=context))
    return tuple([request for request in others if isinstance(request, handled)]) or others[1:]
