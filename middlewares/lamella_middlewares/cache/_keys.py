"""What answers are kept under: the key of a request, or of each input where it has several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, cast

from lamella import Handler, Request, inside
from lamella._canonical import encode, form
from lamella._evolve import changed
from lamella._request_keys import key_of_tenant

_REQUIRE: Final = "require"
"""The attribute with what the targets inside must be: an answer from another one will not do."""


def key_of(request: Request[Any], call_next: Handler, tenant: str, vary: Sequence[str]) -> str:
    """The key of a request: every field, the tenant, what stands inside, and what else may vary.

    Raises:
        TypeError: If a field, or what it varies by, has no canonical form.
    """
    context = request.context
    # Where it names no tenant it has the layer's, as if it had named that.
    key = key_of_tenant(request, tenant, inside(call_next))
    require = context.attributes.get(_REQUIRE)
    if not vary and require is None:
        return key
    try:
        data = encode([key, form(require), *[form(getattr(context, name)) for name in vary]])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        what = type(error).__name__
        raise TypeError(f"What it varies by has no canonical form ({what}).") from None
    return hashlib.sha256(data, usedforsecurity=False).hexdigest()


def keys_of_inputs(
    request: Request[Any], call_next: Handler, tenant: str, vary: Sequence[str]
) -> list[str]:
    """The key of each input of a request that batches, in their order.

    An input has the same key whatever it is sent together with.

    Raises:
        TypeError: As for `key_of`.
    """
    inputs: Sequence[Any] = cast("Any", request).inputs
    base = hashlib.sha256(usedforsecurity=False)
    base.update(key_of(changed(request, "inputs", ()), call_next, tenant, vary).encode())
    keys: list[str] = []
    for one in inputs:
        try:
            data = encode(form(one))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            what = type(error).__name__
            raise TypeError(f"An input has no canonical form ({what}).") from None
        # The base has a fixed length, so that it cannot run together with the input.
        found = base.copy()
        found.update(data)
        keys.append(found.hexdigest())
    return keys


def batches(request: Request[Any]) -> bool:
    """Whether a request has inputs that are answered one by one, each like every other."""
    kind = type(request)
    found = _BATCHES.get(kind)
    if found is None:
        found = all(hasattr(request, name) for name in ("inputs", "split", "merge"))
        _BATCHES[kind] = found
    return found


_BATCHES: dict[type, bool] = {}
"""What is known of classes: asking an object for what it has not costs more than all else here."""
