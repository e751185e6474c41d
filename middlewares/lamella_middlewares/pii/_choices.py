"""Reading the options of `PII`, and saying what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from lamella import Secret
from lamella._options import Check, one_of, refused
from lamella_middlewares.pii._records import Matching, allowed
from lamella_middlewares.pii._strategies import STRATEGIES

_SEVERAL: Final = (list, tuple, set, frozenset)


def names(value: Sequence[str] | None) -> Any:
    """Names as a tuple; what is none stays, to be refused."""
    return tuple(value or ()) if is_list(value) else value


def tools(value: bool | Sequence[str]) -> Any:  # noqa: FBT001 - an option
    """The same of tools, of which one may be given alone."""
    given: Any = value
    if isinstance(given, str):
        return (given,)
    return tuple(given) if is_list(given) else given


def entries(value: Sequence[str | Matching]) -> tuple[str | Matching, ...]:
    """The entries of an allow-list.

    Raises:
        ConfigurationError: If one of them is none.
    """
    return tuple([allowed(one) for one in several(value)])


def several(value: Sequence[Any]) -> tuple[Any, ...]:
    """Any number of things, of which one may be given alone."""
    return tuple(value) if is_list(value) else (value,)


def words_for(detectors: Sequence[Any]) -> str:
    """Detectors as they are shown: without what they look for, which may be somebody's data."""
    return f"({', '.join([_word_for(one) for one in detectors])})"


def _word_for(detector: Any) -> str:
    if isinstance(detector, str):
        return repr(detector)
    if not is_table(detector):
        return type(detector).__name__
    kind = detector.get("kind")
    return f"{detector.get('use')!r}" if kind is None else f"{detector.get('use')!r} of {kind!r}"


def key(value: Secret | str | None) -> Secret | None:
    """A key, or the reference of one."""
    return None if value is None else Secret.of(value)


def built_in(pii: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Names of built-in kinds, or None."""
    from lamella_middlewares.pii._detect._builtin import BUILTIN

    if value is None or (
        is_list(value) and all(isinstance(one, str) and one in BUILTIN for one in value)
    ):
        return
    raise refused(pii, option, value, f"a list of names out of {', '.join(sorted(BUILTIN))}")


def strategies(pii: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A strategy for each of some kinds that are looked for."""
    if not is_table(value):
        raise refused(pii, option, value, 'a table such as {"card": "block"}')
    wrong = sorted(str(one) for one in value if one not in pii.finds)
    if wrong:
        want = f"strategies for what is looked for: {', '.join(sorted(pii.finds))}"
        raise refused(pii, option, wrong, want)
    for strategy in value.values():
        one_of(*STRATEGIES)(pii, option, strategy)


def tool_names(pii: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """True, False, or the names of tools."""
    if isinstance(value, bool):
        return
    if not is_list(value) or not all(isinstance(one, str) and one for one in value):
        want = "the names of tools, True for all of them, or False for none"
        raise refused(pii, option, value, want)


def is_table(value: Any) -> bool:
    """Whether it is a mapping. It may hold anything."""
    return isinstance(value, Mapping)


def is_list(value: Any) -> bool:
    """Whether it is one of several things. They may be anything."""
    return isinstance(value, _SEVERAL)


def record(kind: type[Any]) -> Check:
    """A record of that class."""

    def check(pii: Any, option: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise refused(pii, option, value, f"{kind.__name__}(...)")

    return check
