"""The error of several targets that have all failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lamella._errors import LamellaError, TargetsFailedError
from lamella._outcomes import Outcome
from lamella._repeatable import valid_hint
from lamella._usage import Usage

_GRAVEST: Final = (
    Outcome.UNKNOWN,
    Outcome.TIMED_OUT,
    Outcome.TRUNCATED,
    Outcome.FAILED,
)
"""What several failures amount to, the first that is among them: what may have been billed was not
undone by an attempt that was never sent."""


def targets_failed(
    errors: Sequence[Exception], message: str, *, layer: str | None = None
) -> TargetsFailedError:
    """One error for all: it is of the first one's class as well, and carries that one's data.

    It may pass if tried again where one of them may; its `retry_after` is the least of theirs.

    Args:
        errors: What each target failed with, in the order tried; at least one.
        message: What happened.
        layer: Who raises it.
    """
    first = errors[0]
    error: Any = _raw(_class_for(type(first)), message)
    error.__dict__.update(first.__dict__)
    ours = [one for one in errors if isinstance(one, LamellaError)]
    outcomes = {one.outcome if isinstance(one, LamellaError) else Outcome.FAILED for one in errors}
    usages = [one.usage for one in ours if one.usage is not None]
    waits = [wait for one in ours if (wait := valid_hint(one.retry_after)) is not None]
    error.__dict__.update(
        message=message,
        errors=tuple(errors),
        retryable=any(one.retryable for one in ours),
        elsewhere=any(one.elsewhere for one in ours),
        retry_after=min(waits, default=None),
        outcome=next((one for one in _GRAVEST if one in outcomes), Outcome.NOT_SENT),
        usage=sum(usages, Usage()) if usages else None,
        should_retry=None,
        committed=False,
        layer=layer,
        hint="`errors` has what each of them said, and `attempts` every attempt.",
    )
    error.__cause__ = first
    found: TargetsFailedError = error
    return found


_classes: dict[type[Exception], type[TargetsFailedError]] = {}


def _class_for(kind: type[Exception]) -> type[TargetsFailedError]:
    made = _classes.get(kind)
    if made is None:
        # Of two threads that make it at once, one is heard.
        made = _classes.setdefault(kind, _joined(kind))
    return made


def _raw(cls: type[TargetsFailedError], *args: Any) -> TargetsFailedError:
    """An error of that class; what its other base wants to be made of is not at hand."""
    error = cls.__new__(cls, *args)
    error.args = args
    return error


def _joined(kind: type[Exception]) -> type[TargetsFailedError]:
    if issubclass(kind, TargetsFailedError):
        return kind

    def reduce(self: TargetsFailedError) -> Any:
        # The class is made as it is needed, so that pickle cannot find it by its name.
        return _restored, (kind, self.args, self.__dict__)

    body = {"__module__": "lamella", "__doc__": TargetsFailedError.__doc__, "__reduce__": reduce}
    name = TargetsFailedError.__name__
    try:
        joined = type(name, (TargetsFailedError, kind), body)
        _raw(joined, "").copy()
    except TypeError:  # a class that cannot be joined with another; the first of `errors` is of it
        return TargetsFailedError
    return joined


def _restored(kind: type[Exception], args: tuple[Any, ...], data: dict[str, Any]) -> Any:
    error = _raw(_class_for(kind), *args)
    error.__dict__.update(data)
    return error
