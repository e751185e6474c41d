"""What stands behind `aws-secrets:`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import attrs

from lamella import SecretError

SYNTAX: Final = (
    "Write aws-secrets:NAME-or-ARN, with #FIELD for a field of JSON, and ?stage=AWSPREVIOUS or "
    "?version=ID for another than the current version."
)

_NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
_ARN = re.compile(
    r"arn:(?P<partition>[a-z0-9-]+):secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:"
    r"[A-Za-z0-9/_+=.@!-]{1,512}"
)
_VERSION = re.compile(r"[A-Za-z0-9/_+=.@-]{1,256}")


@attrs.frozen
class Reference:
    """A secret, or a field of it.

    Attributes:
        name: Its name or ARN.
        field: Which field of the JSON object that it is; None for the whole text.
        stage: Which version by its label; None for the current one.
        version: Which version by its id; None for the current one.
        region: The region that an ARN names; None for a name.
    """

    name: str
    field: str | None = None
    stage: str | None = None
    version: str | None = None
    region: str | None = None

    @property
    def shown(self) -> str:
        """What messages call it."""
        versions = {"stage": self.stage, "version": self.version}
        said = "".join([f", {name} {value!r}" for name, value in versions.items() if value])
        return f"secret {self.name!r}{said}"

    @property
    def body(self) -> dict[str, str]:
        """What the service is asked."""
        asked = {"SecretId": self.name}
        if self.stage is not None:
            asked["VersionStage"] = self.stage
        if self.version is not None:
            asked["VersionId"] = self.version
        return asked


def parsed(text: str) -> Reference:
    """What stands behind the colon.

    Raises:
        SecretError: If it is no reference of this kind. It is not repeated.
    """
    name = re.split(r"[?#]", text, maxsplit=1)[0]
    arn = _ARN.fullmatch(name)
    if arn is None and _NAME.fullmatch(name) is None:
        raise _no_reference()
    found: dict[str, str] = {}
    for part in re.findall(r"[?#&][^?#&]*", text[len(name) :]):
        sign, value = part[0], unquote(part[1:])
        if sign == "#":
            option = "field"
        else:
            option, _, value = value.partition("=")
            if option not in {"stage", "version"} or _VERSION.fullmatch(value) is None:
                raise _no_reference()
        if option in found or not value:
            raise _no_reference()
        found[option] = value
    return Reference(
        name,
        found.get("field"),
        found.get("stage"),
        found.get("version"),
        None if arn is None else arn["region"],
    )


def _no_reference() -> SecretError:
    return SecretError("What stands behind 'aws-secrets:' names no secret.", hint=SYNTAX)
