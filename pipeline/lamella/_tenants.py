"""Whose an answer is: caches ask before they look, and before they forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella._errors import MisuseError

if TYPE_CHECKING:
    from lamella._context import Context


def tenant_of(context: Context, own: str | None, layer: str, called: str) -> str:
    """The tenant of a request, or that of the requests which name none.

    An empty one is none: it is what is left of a header that was not there, and all that lack it
    would share.

    Args:
        context: The request's.
        own: The tenant of requests that name none; None if these are refused.
        layer: The layer's name.
        called: Its class's name, for messages.

    Raises:
        MisuseError: If there is none, or it is no text. The message shows no tenant.
    """
    tenant: Any = context.tenant
    if tenant is None:
        tenant = own
    if isinstance(tenant, str) and tenant:
        return tenant
    if tenant is None:
        what = "no tenant"
    elif tenant == "":
        what = "an empty tenant"
    else:
        what = f"a tenant that is no text but of the type {type(tenant).__name__}"
    msg = (
        f"{called} was given a request that names {what}, so that nobody can say who may have "
        "its answer."
    )
    hint = (
        "Say whose it is with Context(tenant=...), a text, or have all that name none share "
        f'their answers with {called}(tenant="shared").'
    )
    raise MisuseError(msg, hint=hint, layer=layer)


def must_choose(layer: str, called: str, *, tenant: Any, tag: Any) -> None:
    """Refuse a purge that would find nothing, and look as if it had forgotten something.

    Args:
        layer: The layer's name.
        called: Its class's name, for messages.
        tenant: Whose; None for anybody's.
        tag: Which; None for any.

    Raises:
        MisuseError: If neither is given, or one is no text, or empty.
    """
    if tenant is None and tag is None:
        msg = f"{called}.purge was given neither a tenant nor a tag."
        raise MisuseError(msg, hint="Give one, or both; `clear` forgets all.", layer=layer)
    for name, given in (("tenant", tenant), ("tag", tag)):
        if given is not None and not (isinstance(given, str) and given):
            what = "''" if given == "" else f"a {type(given).__name__}"
            msg = f"{called}.purge({name}=...) was given {what}, for which nothing is kept."
            raise MisuseError(msg, hint=f"Give one {name}, as a text.", layer=layer)
