"""What layers that keep or share answers are asked in common, and how it is checked.

Which requests, of which tenant, by what apart, under which tags: the words are the same in each of
them, and so is what is wrong with a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from lamella._errors import MisuseError
from lamella._options import Check, is_async, refused
from lamella._repeatable import deterministic, stateless
from lamella._requests import Request

When: TypeAlias = Literal["deterministic", "all"] | Callable[[Request[Any]], bool]
Tags: TypeAlias = tuple[str, ...] | Callable[[Request[Any]], Iterable[str]]

VARIES: Final = ("user", "session", "priority", "tags")
"""What of a context may tell answers apart besides the tenant."""

_NO_TAGS: Final[frozenset[str]] = frozenset()


# --- checks of options ---------------------------------------------------------------------------


def when(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Which requests: two words, or a function."""
    if value in ("deterministic", "all") or (callable(value) and not is_async(value)):
        return
    want = '"deterministic", "all", or a plain function of the request'
    raise refused(layer, option, value, want)


def tenant(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A tenant's name, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        want = 'the tenant of requests that name none, such as "shared", or None to refuse them'
        raise refused(layer, option, value, want)


def namespace(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Any text."""
    if not isinstance(value, str):
        raise refused(layer, option, value, "a text; the empty one is a namespace, too")


def listed(value: Any) -> Any:
    """One word, or several, as a tuple; functions as they are."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if hasattr(value, "__iter__") else value


def vary(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Names of what a context has."""
    if value.__class__ is not tuple or any(name not in VARIES for name in value):
        raise refused(layer, option, value, f"names out of {', '.join(map(repr, VARIES))}")


def words(record: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Words, none of them empty."""
    if not are_words(value):
        raise refused(record, option, value, "a list of words, none of them empty")


def tags(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Words, or a function that finds some."""
    if callable(value) and not is_async(cast("object", value)):
        return
    if not are_words(value):
        raise refused(layer, option, value, "words, or a plain function of the request")


def are_words(value: Any) -> bool:
    """Whether it is a tuple of texts, none of them empty."""
    return value.__class__ is tuple and all(isinstance(word, str) and word for word in value)


def of_table(option: str, kind: type[Any], value: Any) -> Any:
    """An option that is a class of options, where it may be given as a table of these.

    Raises:
        ConfigurationError: If the table is wrong.
    """
    if not isinstance(value, Mapping):
        return value
    from lamella._structuring import build_option

    return build_option(option, kind, cast("Mapping[str, Any]", value))


def must_be(kind: type[Any]) -> Check:
    """A check that an option is an object of its class of options."""

    def check(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            want = f"{kind.__name__}(...), or a table of its options"
            raise refused(layer, option, value, want)

    return check


# --- what they say of a request ------------------------------------------------------------------


def why_passed(request: Request[Any], chosen: When, *, always: bool = False) -> str:
    """Why a request passes a layer that keeps answers without being looked up; empty if not.

    Args:
        request: What is asked.
        chosen: The layer's `when`.
        always: Whether the request says that it is to be looked up whatever that is.
    """
    if request.context.attempt is not None:
        return "an attempt is under way here"
    if not stateless(request):
        return "it leaves something behind at the provider"
    if always or chosen == "all":
        return ""
    if chosen == "deterministic":
        return "" if deterministic(request) else "not deterministic"
    return "" if cast("Callable[..., bool]", chosen)(request) else "when"


def tags_of(
    request: Request[Any], chosen: Tags, more: tuple[str, ...], *, layer: str, called: str
) -> frozenset[str]:
    """The words by which the answer to a request can be purged.

    Args:
        request: What is asked.
        chosen: The layer's `tags`.
        more: The request's own.
        layer: The layer's name.
        called: Its class's name, for messages.

    Raises:
        MisuseError: If the layer's function gives something else.
    """
    found: Any = chosen
    if callable(chosen):
        found = listed(chosen(request))
        if not are_words(found):
            raise MisuseError(
                f"{called}(tags=...): the function returned {_kinds(found)}.",
                hint="It is to return words, each a text that is not empty.",
                layer=layer,
            )
    return frozenset((*found, *more)) if found or more else _NO_TAGS


def _kinds(found: Any) -> str:
    """What was returned, without its content."""
    if found.__class__ is not tuple:
        return f"a {type(found).__name__}"
    return f"items of {', '.join(sorted({type(tag).__name__ for tag in found}))}, or an empty text"
