"""From what the service answers to a value, or to an error that says what to do."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from lamella import SecretError
from lamella._secret_values import GONE
from lamella_aws_secrets._reference import Reference

CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""What says that the credentials themselves are at fault."""

_FORBIDDEN: Final = frozenset({"AccessDenied", "AccessDeniedException", "NotAuthorized"})
_BUSY: Final = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded"})
_GONE: Final = frozenset({"ResourceNotFoundException"})
_DELETED: Final = frozenset({"InvalidRequestException"})
_KEY: Final = frozenset({"DecryptionFailure", "DecryptionFailureException"})


def kind_of(body: bytes) -> str:
    """What the service calls its error; empty if it says nothing that is understood."""
    found = _object(body)
    named = None if found is None else found.get("__type") or found.get("code")
    kind = named.rpartition("#")[2].partition(":")[0] if isinstance(named, str) else ""
    return kind if kind.isascii() and kind.isalpha() and len(kind) <= 64 else ""


def problem_of(status: int, body: bytes, wanted: Reference) -> SecretError:
    """The error of an answer that is none. The service's own sentence is not repeated."""
    kind, what = kind_of(body), wanted.shown
    if kind in _GONE:
        hint = "Look at its name, version and region: `aws secretsmanager describe-secret`."
        return SecretError(f"AWS Secrets Manager has no {what}.", hint=hint, code=GONE)
    if kind in _DELETED:
        hint = "Restore it: `aws secretsmanager restore-secret`."
        return SecretError(f"The {what} is marked for deletion.", hint=hint, code=GONE)
    if kind in _FORBIDDEN:
        msg = f"AWS does not allow this program the {what}."
        hint = "Its role needs secretsmanager:GetSecretValue for it, and kms:Decrypt for its key."
        return SecretError(msg, hint=hint, code="forbidden", elsewhere=True)
    if kind in CREDENTIALS:
        msg = f"AWS does not accept this program's credentials ({kind}) for the {what}."
        hint = "See what `aws sts get-caller-identity` says here; look at this machine's clock."
        return SecretError(msg, hint=hint, code="forbidden", elsewhere=True)
    if kind in _KEY:
        msg = f"AWS cannot decrypt the {what}."
        hint = "Look whether its KMS key is enabled, and allows kms:Decrypt."
        return SecretError(msg, hint=hint, elsewhere=True)
    if kind in _BUSY or status == 429:
        msg = f"AWS Secrets Manager limits requests; the {what} was not read."
        hint = "Wait, or ask less often: a greater ttl."
        return SecretError(msg, hint=hint, retryable=True, elsewhere=True)
    if status >= 500:
        msg = f"AWS Secrets Manager failed (status {status}); the {what} was not read."
        return SecretError(msg, hint="Wait.", retryable=True, elsewhere=True)
    said = f"status {status}, {kind}" if kind else f"status {status}"
    msg = f"AWS Secrets Manager refused the {what} ({said})."
    return SecretError(msg, hint="Look at the reference, the region and the endpoint.")


def read(status: int, body: bytes, wanted: Reference) -> tuple[str, SecretError | None]:
    """The value, or why there is none: no frame that holds it raises anything."""
    if status != 200:
        return "", problem_of(status, body, wanted)
    found = _object(body)
    text = None if found is None else found.get("SecretString")
    if found is not None and text is None:
        text = _decoded(found.get("SecretBinary"))
    if not isinstance(text, str):
        msg = f"The {wanted.shown} is no text, or what answered is not AWS Secrets Manager."
        return "", SecretError(msg, hint="Store it as text; look at the endpoint.")
    if wanted.field is None:
        return text, None
    value, state = _field(text, wanted.field)
    if value is None:
        msg = f"The field {wanted.field!r} of the {wanted.shown} {state}."
        return "", SecretError(msg, hint="The secret is to be a JSON object that has it as text.")
    return value, None


def _field(text: str, name: str) -> tuple[str | None, str]:
    """A field of a JSON object, by its name, or by names with dots between."""
    whole: Mapping[str, object] | None = _object(text.encode())
    if whole is None:
        return None, "cannot be read: the secret is no JSON object"
    found: object = whole
    for part in [name] if name in whole else name.split("."):
        if not isinstance(found, dict) or part not in found:
            return None, "is not there"
        found = cast("Mapping[str, object]", found)[part]
    return (found, "") if isinstance(found, str) and found else (None, "is no text, or empty")


def _decoded(given: object) -> str | None:
    if not isinstance(given, str):
        return None
    try:
        return base64.b64decode(given, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _object(data: bytes) -> Mapping[str, Any] | None:
    try:
        found: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None
