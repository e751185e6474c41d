"""How long a conversation may be."""

from __future__ import annotations

from typing import Any, Final

import attrs

from lamella._errors import ConfigurationError
from lamella._options import is_number, refused

TARGET: Final = 0.8
"""How much of the trigger a cut leaves where no target is given."""


def _whole_or_none(size: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise refused(size, option, value, f"a whole number of {option.name}, 1 or more, or None")


def _share_or_none(size: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or not 0 < value <= 1):
        raise refused(size, option, value, "a share of the model's context window, up to 1 (0.7)")


@attrs.frozen(kw_only=True)
class Size:
    """How long a conversation is or may be; at least one of the three is given.

    As a trigger it is passed as soon as one of them is; as a target all of them are to be met.

    Attributes:
        tokens: Tokens of all that is sent: messages, tools, and the format of the answer.
        messages: Messages, instructions included.
        share: The part of the model's context window that the tokens take, above 0 and up to 1.

    Raises:
        ConfigurationError: If none is given, or one cannot be.
    """

    tokens: int | None = attrs.field(default=None, validator=_whole_or_none)
    messages: int | None = attrs.field(default=None, validator=_whole_or_none)
    share: float | None = attrs.field(default=None, validator=_share_or_none)

    def __attrs_post_init__(self) -> None:
        if self.tokens is None and self.messages is None and self.share is None:
            msg = "Size() says nothing: give tokens=, messages=, or share= of the model's window."
            raise ConfigurationError(msg)

    def scaled(self, factor: float) -> Size:
        """The same in smaller or larger, never below one token or message.

        Args:
            factor: Above 0. A share never becomes more than 1.
        """
        tokens, messages, share = self.tokens, self.messages, self.share
        return Size(
            tokens=None if tokens is None else max(1, int(tokens * factor)),
            messages=None if messages is None else max(1, int(messages * factor)),
            share=None if share is None else min(1.0, share * factor),
        )

    def within(self, window: int | None) -> Size | None:
        """The same without a share: that of a model's context window, in tokens.

        Args:
            window: In tokens; None where nobody knows it, and then the share counts for nothing.

        Returns:
            None if nothing is left that can be passed.
        """
        if self.share is None:
            return self
        found = [] if self.tokens is None else [self.tokens]
        if window is not None:
            found.append(max(1, int(window * self.share)))
        if not found and self.messages is None:
            return None
        return Size(tokens=min(found, default=None), messages=self.messages)

    def holds(self, tokens: int, messages: int) -> bool:
        """Whether a conversation is no longer than this. A share counts for nothing."""
        return (self.tokens is None or tokens <= self.tokens) and (
            self.messages is None or messages <= self.messages
        )


def target_of(trigger: Size, target: Size | None = None) -> Size:
    """Where a cut goes to: what is given, or four fifths of the trigger."""
    return trigger.scaled(TARGET) if target is None else target


def sizes_within(
    trigger: Size, target: Size | None, window: int | None
) -> tuple[Size, Size] | None:
    """When a conversation is cut, and down to what; without shares.

    Args:
        trigger: How long it may become.
        target: How long it is after a cut. What it leaves open, and None, is four fifths of the
            trigger; it is never more than the trigger.
        window: The tokens that shares are of; None where nobody knows them, and then shares count
            for nothing.

    Returns:
        None if the trigger has nothing but a share, and nobody knows of what.
    """
    most = trigger.within(window)
    if most is None:
        return None
    least = None if target is None else target.within(window)
    usual = target_of(most)
    if least is None:
        return most, usual
    return most, Size(
        tokens=_smaller(least.tokens, usual.tokens, most.tokens),
        messages=_smaller(least.messages, usual.messages, most.messages),
    )


def _smaller(wanted: int | None, usual: int | None, most: int | None) -> int | None:
    if wanted is None or most is None:
        return usual if wanted is None else wanted
    return min(wanted, most)
