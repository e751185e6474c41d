"""What makes two requests the same: the key of caches and of shared flights.

The key covers every field of the request, those of message parts and tools included, because it is
made from the fields that the classes have and not from a list of them. What it leaves out is listed
here, and nothing else is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from lamella._canonical import encode, fields_form, form, leave_out, remember
from lamella._fingerprints import fingerprint
from lamella._messages import Message
from lamella._remembered import is_fixed
from lamella._requests import Request

VERSION: Final = 1
"""Of the canonical form: another one makes other keys of everything."""

EXCLUDED: Final = frozenset({"context", "stream", "target"})
"""The fields of a request that are not part of its key.

`stream` says how the answer is read and not what it is. Of `context` only the tenant is part of it:
ids, time, priorities and labels change no answer. A `target` counts by its name and its transport;
what it changes in the request is there already. It is the same for a request within a request:
the conversation whose tokens are counted.
"""

leave_out(Request, EXCLUDED)
leave_out(Message, {"pinned"})  # it is not sent
remember(Message, is_fixed)


def request_key(request: Request[Any], *, inside: str = "") -> str:
    """The key of a request: equal for two if and only if they ask the same for the same tenant.

    SHA-256 over a version, the tenant (None is no tenant, and not the empty one), what stands
    inside, the target, and the canonical form of every field, unknown ones in `extra` included.
    Images and other media count by their content.

    Args:
        request: What is asked.
        inside: What else decides the answer: `lamella.inside(call_next)`, where keys of several
            stacks may meet.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: If a field holds something that has no canonical form. The message names the
            field and the type, and shows no content.
    """
    return key_of_tenant(request, request.context.tenant, inside)


def key_of_tenant(request: Request[Any], tenant: str | None, inside: str) -> str:
    """The same for a tenant that need not be the one whom the request names."""
    kind = type(request)
    make = _MAKERS.get(kind)
    if make is None:
        make = _MAKERS[kind] = fields_form(kind, EXCLUDED)
    target = request.target
    aimed = None if target is None else [target.name, fingerprint(target.transport)]
    try:
        data = encode([VERSION, tenant, inside, aimed, kind.operation, make(request)])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unkeyable(request, error) from None
    return hashlib.sha256(data, usedforsecurity=False).hexdigest()


_MAKERS: dict[type, Callable[[Any], Any]] = {}


def _unkeyable(request: Request[Any], error: Exception) -> TypeError:
    """The error of a request without a key, naming the field."""
    name = type(request).__name__
    for field in vars(request):
        if field in EXCLUDED:
            continue
        try:
            encode(form(getattr(request, field)))
        except (TypeError, ValueError, OverflowError, RecursionError) as found:
            return TypeError(
                f"{name} has no key: its field {field!r} holds {_what(found)}. Give text, bytes, "
                "numbers up to 64 bits, booleans, None, lists, mappings with text as keys, or "
                "attrs classes of these."
            )
    return TypeError(f"{name} has no key: its tenant or target holds {_what(error)}.")


def _what(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "itself"
    if isinstance(error, OverflowError):
        return "an integer beyond 64 bits"
    if isinstance(error, UnicodeError):
        return "text that is not Unicode"
    text = str(error)
    return "a mapping whose keys are not text" if "keys" in text else text
