"""What went wrong, in words that say what to do. Nothing of what Vault answered is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from lamella import LamellaError, SecretError
from lamella._secret_values import GONE

_PASSING: Final[Mapping[int, tuple[str, str]]] = {
    429: ("limits requests, or is a standby", "Wait, or raise its rate limit quota."),
    412: ("has not caught up yet", "Wait; replicas follow the active node within a second."),
    472: ("is a standby for disaster recovery", "Set VAULT_ADDR to the active cluster."),
    473: ("is a performance standby", "Set VAULT_ADDR to the active node."),
    500: ("failed", "Look into its log."),
    501: ("has not been initialised", "Run `vault operator init` there."),
    502: ("cannot be reached behind its proxy", "Look whether it runs."),
    504: ("cannot be reached behind its proxy", "Look whether it runs."),
}


def answered(status: int, body: bytes, what: str) -> SecretError:
    """The error of an answer that is none.

    Args:
        status: The HTTP status.
        body: The answer's body, read to tell errors apart.
        what: What was asked for, without secrets.
    """
    if status == 503:
        sealed = b"sealed" in body
        state = "is sealed" if sealed else "is not available"
        hint = "Unseal it: `vault operator unseal`." if sealed else "Look whether it runs."
        return passing(f"Vault {state} ({what}).", hint)
    if status in _PASSING:
        state, hint = _PASSING[status]
        return passing(f"Vault {state} (status {status}, {what}).", hint)
    if status == 403:
        hint = "Look whether the token holds, and whether its policies allow reading this path."
        return SecretError(f"Vault does not allow {what}.", hint=hint, code="forbidden", status=403)
    if 300 <= status < 400:
        hint = "Set VAULT_ADDR to the active node, or to a load balancer before it."
        return SecretError(f"Vault redirects, which is not followed ({what}).", hint=hint)
    if status >= 500:
        return passing(f"Vault failed (status {status}, {what}).", "Look into its log.")
    return SecretError(
        f"Vault refused {what} (status {status}).",
        hint="Look at the namespace, the mount, and at what its audit log says.",
        status=status,
    )


def not_found(body: bytes, what: str) -> SecretError:
    """The error of a secret that is not there, or not any more."""
    if not {"data", "errors"} & (object_in(body) or {}).keys():
        return nonsense(f"for the {what}")  # a proxy, of which no secret is known to be gone
    if b'"deletion_time"' in body:
        hint = "Write a new version, or undelete this one: `vault kv undelete`."
        return SecretError(f"{what} was deleted or destroyed in Vault.", hint=hint, code=GONE)
    hint = (
        "Look at it with `vault kv get`: at mount, path, namespace and version. The mount must "
        "be of the KV engine, version 2."
    )
    return SecretError(f"Vault has no {what}.", hint=hint, code=GONE)


def unreachable(error: LamellaError, address: str) -> SecretError:
    """The error of a server that could not be asked."""
    msg = f"Vault at {address} could not be asked ({type(error).__name__})."
    if type(error).__name__ == "CertificateError":
        hint = "Set VAULT_CACERT to the authority that signed its certificate."
        return SecretError(msg, hint=hint, elsewhere=True)
    return passing(msg, "Look at VAULT_ADDR, and whether it can be reached from here.")


def timed_out(address: str, seconds: float) -> SecretError:
    """The error of a server that is silent."""
    msg = f"Vault at {address} did not answer in {seconds:g} s."
    return passing(msg, "Look at VAULT_ADDR, and whether it can be reached from here.")


def nonsense(what: str) -> SecretError:
    """The error of an answer that Vault would not give."""
    msg = f"What answered {what} is no Vault, or not one that is understood."
    return SecretError(msg, hint="Look at VAULT_ADDR.", elsewhere=True)


def passing(msg: str, hint: str) -> SecretError:
    """An error that may pass by itself."""
    return SecretError(msg, hint=hint, retryable=True, elsewhere=True)


def object_in(body: bytes, *path: str) -> Mapping[str, Any] | None:
    """The JSON object at a path of a body; None if there is none."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for name in path:
        found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, dict) else None
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None
