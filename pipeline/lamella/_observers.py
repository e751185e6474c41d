"""Who sees the attempts of a call: what is billed, measured or drawn for each of them.

A layer sees one call, from its place. What the call sets off is more: tries, copies that race each
other, children, and work that outlives it. An observer that a layer has put on the context sees
each attempt of all of them, where the core opens and closes it, and so exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lamella._evolve import changed

if TYPE_CHECKING:
    from lamella._attempts import OpenAttempt
    from lamella._requests import Request
    from lamella._responses import Response

R = TypeVar("R", bound="Response")


class AttemptObserver(Protocol):
    """Told of every attempt of the calls that it is put on, and of what is detached from them.

    Its methods are plain functions that return at once: they run on the event loop, on the way of
    every request. What they raise harms nobody; it is noted in the trace. They are called from
    whichever thread and loop the attempt runs on.
    """

    def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """An attempt begins; nothing has been sent.

        Args:
            attempt: Its record. `attempt.headers` may be set to what is to go along with it.
            request: What is about to be sent; its context has no attempt yet.
        """
        ...

    def attempt_closed(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """It has ended: outcome, usage and cost are what they will be. Once for each attempt.

        Args:
            attempt: The same record.
            request: What was sent.
        """
        ...


def observed(request: Request[R], observer: AttemptObserver) -> Request[R]:
    """The request with an observer of its attempts; the same if it has that one already.

    A layer sends this on instead of the request. It holds for all that is inside of it, nested
    pipelines and detached work included.
    """
    context = request.context
    if any(known is observer for known in context.observers):
        return request
    observers = (*context.observers, observer)
    return changed(request, "context", changed(context, "observers", observers))


def tell_opened(attempt: OpenAttempt, request: Request[Any]) -> None:
    """Tell the observers of a request that an attempt begins."""
    for observer in request.context.observers:
        try:
            observer.attempt_opened(attempt, request)
        except Exception as error:  # noqa: BLE001 - an observer never harms what it observes
            _note(request, observer, error)


def tell_closed(attempt: OpenAttempt, request: Request[Any]) -> None:
    """Tell the observers of a request that an attempt has ended."""
    for observer in request.context.observers:
        try:
            observer.attempt_closed(attempt, request)
        except Exception as error:  # noqa: BLE001 - as above
            _note(request, observer, error)


def _note(request: Request[Any], observer: AttemptObserver, error: Exception) -> None:
    request.context.note(
        "core", "observer.failed", observer=type(observer).__name__, error=type(error).__name__
    )
