"""Options of `PII` that belong together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import attrs

from lamella import ConfigurationError
from lamella._options import flag, one_of, refused, seconds, span, whole
from lamella._safe_patterns import SafePattern
from lamella_middlewares.pii._detect._custom import allowed_pattern


def _look_behind(record: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        whole(1)(record, option, value)


def _text(record: Any, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise refused(record, option, value, "a regular expression, such as r'.*@example\\.com'")


def _compiled(record: Any) -> SafePattern:
    return allowed_pattern(record.pattern, ignore_case=record.ignore_case)


@attrs.frozen
class Scan:
    """How texts are looked into.

    Args:
        timeout: Seconds, or a timedelta, that looking into one request or one answer may take where
            it does not happen at once: more than 4,096 characters, or a detector that blocks.
        max_characters: The most characters of one request, or of one answer; 1 or more. What has
            more is not looked into, and so not let through.
        look_behind: Characters of a streamed answer that are held back while something might begin
            in them, where answers are looked into; 1 or more. None takes what the detectors ask
            for: the whole of each text where one of them does not say how far it looks. Fewer than
            they ask for show text earlier, and may miss what is longer.
        unread: What becomes of a request with parts that nobody can look into: pictures, sound,
            binary documents, files that the provider holds. `"pass"` sends it, with a note;
            `"refuse"` does not.
    """

    timeout: float | timedelta = attrs.field(default=10.0, converter=seconds, validator=span)
    max_characters: int = attrs.field(default=4_000_000, validator=whole(1))
    look_behind: int | None = attrs.field(default=None, validator=_look_behind)
    unread: Literal["pass", "refuse"] = attrs.field(
        default="pass", validator=one_of("pass", "refuse")
    )


@attrs.frozen
class Vault:
    """Where values are while placeholders stand for them.

    Args:
        max_values: The most values of one request, and of one session; 1 or more.
        max_bytes: The most bytes that a request's values may take together; 1 or more.
        ttl: Seconds, or a timedelta, for which a session's values are kept after their last use.
            Without sessions, values are kept as long as the call lasts.
        timeout: Seconds, or a timedelta, that reading all of a session's values may take, and
            writing all new ones. A store that does not answer at all is given up sooner: see
            `GuardedBlobs`.
    """

    max_values: int = attrs.field(default=10_000, validator=whole(1))
    max_bytes: int = attrs.field(default=1 << 20, validator=whole(1))
    ttl: float | timedelta = attrs.field(default=86_400.0, converter=seconds, validator=span)
    timeout: float | timedelta = attrs.field(default=1.0, converter=seconds, validator=span)


@attrs.frozen
class Matching:
    r"""Values that are nobody's data, as a regular expression: `Matching(r".*@example\.com")`.

    Args:
        pattern: Must match the whole of what was found.
        ignore_case: Whether the case of letters is ignored.

    Raises:
        ConfigurationError: If it is no expression that is safe on anybody's text.
    """

    pattern: str = attrs.field(validator=_text)
    ignore_case: bool = attrs.field(default=False, validator=flag)
    safe: SafePattern = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_compiled, takes_self=True)
    )


def allowed(value: object) -> str | Matching:
    """One entry of an allow-list.

    Raises:
        ConfigurationError: If it is none.
    """
    if isinstance(value, Matching) or (isinstance(value, str) and value):
        return value
    # Not repeated: it may be somebody's data.
    msg = f"PII(allow=...): a {type(value).__name__} is no entry."
    raise ConfigurationError(
        msg, hint="Give texts, or Matching(...) with a regular expression, that are to stay."
    )
