"""What stands behind `azure-keyvault:`."""

from __future__ import annotations

import re
from typing import Final

import attrs

from lamella import SecretError

SYNTAX: Final = (
    "Write azure-keyvault:VAULT/SECRET, with /VERSION for one version; VAULT is the vault's name, "
    "or its host."
)

_VAULT = re.compile(r"[A-Za-z](?:-?[A-Za-z0-9])*")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?")
_SECRET = re.compile(r"[A-Za-z0-9-]{1,127}")
_VERSION = re.compile(r"[A-Za-z0-9]{1,64}")


@attrs.frozen
class Reference:
    """A secret.

    Attributes:
        host: The vault's host.
        name: The secret's name.
        version: Which version; None for the newest.
    """

    host: str
    name: str
    version: str | None = None

    @property
    def shown(self) -> str:
        """What messages call it."""
        version = f"version {self.version!r} of " if self.version else ""
        return f"{version}secret {self.name!r} in {self.host}"


def parsed(text: str) -> Reference:
    """What stands behind the colon.

    Raises:
        SecretError: If it is no reference of this kind. It is not repeated.
    """
    vault, _, rest = text.partition("/")
    name, slash, version = rest.partition("/")
    named = _VAULT.fullmatch(vault) is not None
    hosted = ("." in vault or ":" in vault) and _HOST.fullmatch(vault) is not None
    known = _SECRET.fullmatch(name) is not None
    if not (named or hosted) or not known or (slash and not _VERSION.fullmatch(version)):
        msg = "What stands behind 'azure-keyvault:' names no secret."
        raise SecretError(msg, hint=SYNTAX)
    host = f"{vault}.vault.azure.net" if named else vault
    return Reference(host.lower(), name, version or None)
