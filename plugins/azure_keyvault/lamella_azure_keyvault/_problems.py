"""What went wrong, in words that say what to do. Nothing of what Azure said is repeated."""

from __future__ import annotations

from typing import Any, Final, cast

from lamella import SecretError
from lamella._secret_values import GONE
from lamella_azure_keyvault._reference import Reference

_LOGIN: Final = (
    "Set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, give the machine a managed "
    "identity, or run `az login`."
)
_BLOCKED: Final = frozenset({"ForbiddenByFirewall", "ForbiddenByConnection"})
_ENDED: Final = frozenset({"SecretDisabled", "SecretNotYetValid", "SecretExpired"})


def problem_of(error: Exception, wanted: Reference) -> SecretError:
    """The error that a failure of Azure's libraries is for the caller."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _answered(status, _codes(error), wanted)
    if "ClientAuthenticationError" in names:
        msg = f"Azure gives this program no token for {wanted.host}."
        return SecretError(msg, hint=_LOGIN, code="forbidden", elsewhere=True)
    if "ServiceRequestError" in names:
        msg = f"The key vault {wanted.host} cannot be reached."
        hint = "Look at its name, at the network, and at its firewall."
        return SecretError(msg, hint=hint, retryable=True, elsewhere=True)
    if names & {"ServiceResponseError", "ServiceResponseTimeoutError"}:
        msg = f"The key vault {wanted.host} did not answer in time."
        hint = "Look at the network between."
        return SecretError(msg, hint=hint, retryable=True, elsewhere=True)
    if "ValueError" in names and "verify_challenge_resource" in str(error):
        msg = f"What answers at {wanted.host} does not say that it is that key vault."
        hint = (
            "Refer to the vault by its own name; behind a host of one's own, use an AzureKeyVault "
            "with client_options={'verify_challenge_resource': False}."
        )
        return SecretError(msg, hint=hint, elsewhere=True)
    msg = f"The {wanted.shown} could not be read: Azure's library raised {type(error).__name__}."
    return SecretError(msg, hint="Look at the vault, and at what the credential is.")


def _answered(status: int, codes: frozenset[str], wanted: Reference) -> SecretError:
    host, what = wanted.host, wanted.shown
    if status == 404:
        return _not_found(codes, wanted)
    if status == 403 and codes & _ENDED:
        hint = "Enable it, or look at its dates: `az keyvault secret show`."
        msg = f"The {what} is disabled, has expired, or is not valid yet."
        return SecretError(msg, hint=hint, code=GONE)
    if status == 403 and codes & _BLOCKED:
        msg = f"The key vault {host} takes no requests from this network."
        return SecretError(msg, hint="Look at its firewall and private endpoints.", elsewhere=True)
    if status == 403:
        msg = f"The key vault {host} does not allow this program the secret {wanted.name!r}."
        hint = "Give it the role 'Key Vault Secrets User', or the permission 'get' on secrets."
        return SecretError(msg, hint=hint, code="forbidden", elsewhere=True)
    if status == 401:
        msg = f"The key vault {host} does not accept this program's token."
        hint = f"Look whether it is of the vault's tenant. {_LOGIN}"
        return SecretError(msg, hint=hint, code="forbidden", elsewhere=True)
    if status == 429:
        msg = f"The key vault {host} limits requests."
        hint = "Wait, or ask less often: a greater ttl."
        return SecretError(msg, hint=hint, retryable=True, elsewhere=True)
    if status >= 500:
        msg = f"The key vault {host} failed (status {status})."
        return SecretError(msg, hint="Wait.", retryable=True, elsewhere=True)
    msg = f"The key vault {host} refused the request (status {status})."
    return SecretError(msg, hint="Look at the reference.", elsewhere=True)


def _not_found(codes: frozenset[str], wanted: Reference) -> SecretError:
    if not codes:  # a proxy, of which no secret is known to be gone
        msg = f"What answers at {wanted.host} is no key vault."
        hint = "Look at the vault's name or host, and at what proxies stand before it."
        return SecretError(msg, hint=hint, elsewhere=True)
    name = wanted.host.split(".")[0]
    hint = f"See what is there: `az keyvault secret list --vault-name {name}`."
    return SecretError(f"There is no {wanted.shown}.", hint=hint, code=GONE)


def _codes(error: Any) -> frozenset[str]:
    """Azure's own words for what is wrong, the outer and the inner ones."""
    found: set[str] = set()
    said: object = getattr(error, "error", None)
    for _ in range(5):
        code = _part(said, "code")
        if isinstance(code, str):
            found.add(code)
        said = _part(said, "innererror")
    return frozenset(found)


def _part(of: object, name: str) -> object:
    if isinstance(of, dict):
        return cast("dict[str, object]", of).get(name)
    return getattr(of, name, None)
