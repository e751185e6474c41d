"""Which failures lead to the next target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from lamella import (
    AttemptLimitError,
    ClosedError,
    ConfigurationError,
    ContentFilteredError,
    ContextLengthError,
    DeadlineExceeded,
    InvalidRequestError,
    LamellaError,
    MisuseError,
    Request,
    Response,
)
from lamella._options import is_async
from lamella._repeatable import maybe_processed, stateless

CONTENT_FILTER: Final = "content_filter"

Verdict: TypeAlias = Literal["next", "end", "raise"]
"""Another target; no other target, as this one's failure is the answer; or, besides, not even a
summary, because it is not about a target at all."""

_HINT: Final = (
    f"Give {CONTENT_FILTER!r}, exception types, plain functions of the exception, or several of "
    "them in a list."
)


@attrs.frozen
class Triggers:
    """What leads to the next target besides what errors say themselves.

    Attributes:
        content_filter: Whether an answer that a provider's filter has refused does.
        kinds: Exception types that do.
        tests: Functions of the exception that may say so.
    """

    content_filter: bool = False
    kinds: tuple[type[Exception], ...] = ()
    tests: tuple[Callable[[Exception], bool], ...] = ()

    @classmethod
    def of(cls, on: Any) -> Triggers:
        """What `Fallback(on=...)` asks for.

        Raises:
            ConfigurationError: If it cannot be meant.
        """
        if on is None:
            return cls()
        single = isinstance(on, str | type) or not isinstance(on, Iterable)
        items: list[object] = [on] if single else list(cast("Iterable[object]", on))
        kinds: list[type[Exception]] = []
        tests: list[Callable[[Exception], bool]] = []
        for item in items:
            kind = _kind(item)
            if kind is not None:
                kinds.append(kind)
            elif _is_test(item):
                tests.append(cast("Callable[[Exception], bool]", item))
            elif item != CONTENT_FILTER:
                raise ConfigurationError(f"Fallback(on={item!r}) cannot be understood.", hint=_HINT)
        return cls(CONTENT_FILTER in items, tuple(kinds), tuple(tests))

    def asks(self, error: Exception) -> bool:
        """Whether the caller wants another target after this error.

        Raises:
            Exception: What a function of the caller's raises.
        """
        if self.content_filter and isinstance(error, ContentFilteredError):
            return True
        return isinstance(error, self.kinds) or any(test(error) for test in self.tests)

    def judge(
        self, error: Exception, request: Request[Any], min_useful: float, *, first: bool
    ) -> Verdict:
        """What follows from a target's failure.

        Args:
            error: The failure.
            request: What was asked, as the target had it.
            min_useful: Seconds that a further target needs.
            first: Whether no target has failed before.
        """
        context = request.context
        if not isinstance(error, LamellaError):
            return "next" if self.asks(error) and stateless(request) else "raise"
        if error.committed or isinstance(error, ClosedError | MisuseError) or context.call.closing:
            return "raise"
        if isinstance(error, AttemptLimitError):
            return "next" if context.bound.left > 0 else "end"
        late = isinstance(error, DeadlineExceeded)
        if late and context.left() < min_useful:
            return "raise"
        if maybe_processed(error) and not stateless(request):
            return "end"
        if late:
            return "next"  # a nested pipeline has had a nearer deadline of its own
        if error.elsewhere or isinstance(error, ContextLengthError) or self.asks(error):
            return "next"
        # The first target's word on the request is final. A later one's is about a request that was
        # written for the first, which has not judged it: the next one may take it.
        refusal = isinstance(error, InvalidRequestError | ConfigurationError)
        filters = isinstance(error, ContentFilteredError)
        return "next" if refusal and not filters and not first else "end"


def filtered(response: Response) -> ContentFilteredError | None:
    """The failure that an answer stands for which a provider's filter left nothing of."""
    if not response.complete or response.answer.finish_reason != CONTENT_FILTER:
        return None
    if any(event.semantic for event in response.events):
        return None
    head = response.head
    return ContentFilteredError(
        "The provider's content filter left nothing of the answer.",
        code=CONTENT_FILTER,
        status=head.status,
        provider=head.provider,
        request_id=head.request_id,
        usage=response.answer.usage,
    )


def _is_test(item: object) -> bool:
    return callable(item) and not isinstance(item, type) and not is_async(item)


def _kind(item: object) -> type[Exception] | None:
    return item if isinstance(item, type) and issubclass(item, Exception) else None
