"""Anthropic's profiles: files that its command line and its clients share.

A profile is `configs/<name>.json`, which says how one logs in, and `credentials/<name>.json`, which
holds a token. They are read and never written: a token that its owner has to renew by a login is
used until it ends.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from lamella._errors import SecretError
from lamella._nothing import NOTHING
from lamella._secrets import Secret
from lamella.transports._wire_json import is_object, mapping_of, text_of
from lamella_anthropic._bearer_tokens import RENEW_SECONDS, AccessToken
from lamella_anthropic._token_endpoint import Federation

UNDATED_SECONDS: Final = RENEW_SECONDS + 60
"""A token whose file does not say when it ends is read again after a minute."""

_OPEN_TO_WRITERS: Final = 0o022
_OPEN_TO_OTHERS: Final = 0o077
_LARGEST: Final = 1 << 20


@attrs.frozen(kw_only=True)
class Profile:
    """How one logs in.

    Attributes:
        name: Its name.
        base_url: The API's address; None for Anthropic's own.
        headers: What requests have besides: the workspace.
        federation: Whom an identity token stands for; None where a token lies in a file.
        credentials: The file that holds the token.
    """

    name: str
    base_url: str | None = None
    headers: Mapping[str, str] = NOTHING
    federation: Federation | None = None
    credentials: Path

    def stored_token(self, now: float) -> AccessToken:
        """The token in the profile's file.

        Raises:
            SecretError: If there is none, or it has ended, or others can read it.
        """
        held = _json(self.credentials, _OPEN_TO_OTHERS, f"chmod 600 {self.credentials}")
        value, expires = text_of(held, "access_token"), held.get("expires_at")
        if value is None:
            raise SecretError(f"The file {str(self.credentials)!r} holds no access token.")
        if expires is None:
            return AccessToken(value, now + UNDATED_SECONDS)
        if isinstance(expires, bool) or not isinstance(expires, int | float):
            msg = f"The file {str(self.credentials)!r} does not say in seconds when its token ends."
            raise SecretError(msg)
        if expires <= now:
            msg = f"The token of the profile {self.name!r} has ended."
            raise SecretError(msg, hint="Log in again with Anthropic's command line, or set a key.")
        return AccessToken(value, float(expires))


def chosen_profile(environ: Mapping[str, str]) -> Profile | None:
    """The profile that the environment names.

    Raises:
        SecretError: If it names one that cannot be read.
    """
    name = environ.get("ANTHROPIC_PROFILE")
    return _profile(name, environ) if name else None


def active_profile(environ: Mapping[str, str]) -> Profile | None:
    """The profile in use: the one that `active_config` names, else `default`; None without one.

    Raises:
        SecretError: If somebody chose it and it cannot be read.
    """
    folder = _folder(environ)
    try:
        named = (folder / "active_config").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        named = ""
    chosen = bool(named) or bool(environ.get("ANTHROPIC_CONFIG_DIR"))
    name = named or "default"
    try:
        if not chosen and not _path(folder, "configs", name).is_file():
            return None
        return _profile(name, environ)
    except (SecretError, OSError):
        if chosen:
            raise
        return None  # what nobody asked for is nobody's mistake


def federation_of(environ: Mapping[str, str]) -> Federation | None:
    """The workload identity that variables describe; None if they do not."""
    rule, organization = (
        environ.get("ANTHROPIC_FEDERATION_RULE_ID"),
        environ.get("ANTHROPIC_ORGANIZATION_ID"),
    )
    identity = _identity(environ)
    if not rule or not organization or identity is None:
        return None
    return Federation(
        identity=identity,
        rule=rule,
        organization=organization,
        service_account=environ.get("ANTHROPIC_SERVICE_ACCOUNT_ID"),
        workspace=environ.get("ANTHROPIC_WORKSPACE_ID"),
    )


def _identity(environ: Mapping[str, str]) -> Secret | None:
    path = environ.get("ANTHROPIC_IDENTITY_TOKEN_FILE")
    if path:
        return Secret(f"file:{path}")
    return (
        Secret("env:ANTHROPIC_IDENTITY_TOKEN") if environ.get("ANTHROPIC_IDENTITY_TOKEN") else None
    )


def _profile(name: str, environ: Mapping[str, str]) -> Profile:
    folder = _folder(environ)
    path = _path(folder, "configs", name)
    said = _json(path, _OPEN_TO_WRITERS, f"chmod go-w {path}")
    login = mapping_of(said, "authentication")
    kind = text_of(login, "type")
    if kind not in {"oidc_federation", "user_oauth"}:
        msg = f"The profile {name!r} logs in by {kind!r}, which is not known."
        raise SecretError(msg, hint="Known are 'oidc_federation' and 'user_oauth'.")
    workspace = text_of(said, "workspace_id") or environ.get("ANTHROPIC_WORKSPACE_ID")
    federation = None
    if kind == "oidc_federation":
        federation = _federation(name, said, login, environ, workspace)
    elsewhere = text_of(login, "credentials_path")
    return Profile(
        name=name,
        base_url=text_of(said, "base_url"),
        # A federated token is its workspace's already.
        headers={"anthropic-workspace-id": workspace} if workspace and not federation else NOTHING,
        federation=federation,
        credentials=(
            Path(elsewhere).expanduser() if elsewhere else _path(folder, "credentials", name)
        ),
    )


def _federation(
    name: str,
    said: Mapping[str, Any],
    login: Mapping[str, Any],
    environ: Mapping[str, str],
    workspace: str | None,
) -> Federation:
    rule = text_of(login, "federation_rule_id") or environ.get("ANTHROPIC_FEDERATION_RULE_ID")
    organization = text_of(said, "organization_id") or environ.get("ANTHROPIC_ORGANIZATION_ID")
    token = mapping_of(login, "identity_token")
    path = text_of(token, "path")
    identity = Secret(f"file:{path}") if path else (_identity(environ) if not token else None)
    if not rule or not organization or identity is None:
        msg = f"The profile {name!r} lacks its rule, its organisation or its identity token's file."
        raise SecretError(msg)
    account = text_of(login, "service_account_id") or environ.get("ANTHROPIC_SERVICE_ACCOUNT_ID")
    return Federation(
        identity=identity,
        rule=rule,
        organization=organization,
        service_account=account,
        workspace=workspace,
    )


def _folder(environ: Mapping[str, str]) -> Path:
    given = environ.get("ANTHROPIC_CONFIG_DIR")
    if given:
        return Path(given)
    if sys.platform == "win32":
        data = environ.get("APPDATA")
        return (Path(data) if data else Path.home() / "AppData" / "Roaming") / "Anthropic"
    return Path.home() / ".config" / "anthropic"


def _path(folder: Path, part: str, name: str) -> Path:
    """A profile's file. Its name comes from outside and must not lead out of the folder."""
    if name.startswith(".") or name != name.strip() or not name.isprintable():
        raise SecretError(f"{name!r} cannot be the name of a profile.")
    if "/" in name or "\\" in name or os.sep in name:
        raise SecretError(f"{name!r} cannot be the name of a profile.", hint="It is a bare name.")
    return folder / part / f"{name}.json"


def _json(path: Path, forbidden: int, remedy: str) -> Mapping[str, Any]:
    """What a file says that nobody else may have written, or read. Nothing of it is repeated."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & forbidden:
                raise SecretError(f"The file {str(path)!r} is open to others.", hint=remedy)
            data = file.read(_LARGEST)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SecretError(f"The file {str(path)!r} cannot be read: {reason}.") from None
    found: Any = None
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        found = msgspec.json.decode(data)
    if not is_object(found):  # raised out here, as the decoder's own error holds the file's text
        raise SecretError(f"The file {str(path)!r} holds no JSON object.")
    return found
