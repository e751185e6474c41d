"""The layer's options: what each may be, and which of them say where the log is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from lamella import AuditError, Request, Secret, SecretError
from lamella._options import refused
from lamella_middlewares.audit._envelope import wrapping
from lamella_middlewares.audit._heads import Heads
from lamella_middlewares.audit._keys import DigestKey, Signer

SubjectOf: TypeAlias = Callable[[Request[Any]], str | None]
"""Says whom a request's content is about, within its tenant; None if nobody can be named."""


def user_or_session(request: Request[Any]) -> str | None:
    """The user of a request, or else its session."""
    context = request.context
    if context.user is not None:
        return f"user:{context.user}"
    return None if context.session is None else f"session:{context.session}"


def is_path(value: object) -> bool:
    """Whether it names a file or a directory."""
    return isinstance(value, str | os.PathLike)


def is_directory(audit: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A path that is not empty."""
    if not is_path(value) or not os.fspath(value):
        raise refused(audit, option, value, "the directory of the log, such as 'audit'")


def to_secret(value: Any) -> Any:
    """A reference as the secret that it stands for."""
    return Secret.of(value) if isinstance(value, str) else value


def is_secret_or_none(audit: Any, option: attrs.Attribute[Any], value: object) -> None:
    """A secret; the message does not repeat what was given, as it may be the key."""
    if value is not None and not isinstance(value, Secret):
        raise refused(audit, option, "...", "a reference such as 'env:AUDIT_KEY', or a Secret")


def to_secrets(value: Any) -> Any:
    """One secret or several as a tuple."""
    if value is None:
        return ()
    return (to_secret(value),) if isinstance(value, str | Secret) else tuple(map(to_secret, value))


def are_secrets(audit: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Secrets, as for one."""
    for secret in value:
        if not isinstance(secret, Secret):
            want = "a reference such as 'file:audit.pem', or a list of them, the oldest first"
            raise refused(audit, option, "...", want)


def to_heads(value: Heads | Mapping[str, Any]) -> Any:
    """A table as what it stands for."""
    if not isinstance(value, Mapping):
        return value
    from lamella._structuring import build_option

    return build_option("heads", Heads, value)


def are_heads(audit: Any, option: attrs.Attribute[Any], value: object) -> None:
    """Heads."""
    if not isinstance(value, Heads):
        raise refused(audit, option, value, "Heads(...), or a table of its options")


def to_keys_place(value: Any) -> Any:
    """A directory as a path that does not depend on where the program is later."""
    return Path(value).expanduser().absolute() if is_path(value) else value


def is_key_store(audit: Any, option: attrs.Attribute[Any], value: object) -> None:
    """Where subjects' keys can be kept."""
    known = value is None or isinstance(value, Path)
    if not known and not all(hasattr(value, name) for name in ("put", "tagged", "purge")):
        raise refused(audit, option, value, "a directory outside of the log, or a BlobStore")


def lies_in(keys: object, directory: str | os.PathLike[str]) -> bool:
    """Whether subjects' keys would stand in the log's directory, or below it."""
    log = Path(directory).expanduser().absolute()
    return isinstance(keys, Path) and (keys == log or log in keys.parents)


async def check_secrets(audit: Any) -> None:
    """See that each secret can be had, and is what it should be.

    Raises:
        SecretError: If some are not; what is wrong with each.
    """
    wanted: list[tuple[Secret | None, Callable[[str], object]]] = [
        (audit.key, DigestKey.of),
        *[(secret, Signer.of) for secret in audit.sign_with],
        (audit.seal_with, wrapping),
    ]
    wrong: list[SecretError] = []
    for secret, make in wanted:
        try:
            if secret is not None:
                make(await secret.fetch())
        except SecretError as error:
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else SecretError(" ".join(map(str, wrong)))


def must_be_writable(directory: str) -> None:
    """See that a log can be kept there.

    Raises:
        AuditError: If it cannot.
    """
    place = Path(directory).expanduser().absolute()
    there = next(each for each in (place, *place.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written by this user" if there.is_dir() else "is no directory"
        msg = f"Audit(directory={directory!r}): {str(there)!r} {why}."
        raise AuditError(msg, hint="Give a directory that it may write.")


def is_function(audit: Any, option: attrs.Attribute[Any], value: object) -> None:
    """Something to call."""
    if not callable(value):
        raise refused(audit, option, value, "a function of the request that names whom it is about")


def place_of(audit: Any) -> tuple[str, ...]:
    """Under which layers with the same options share what they know of the log."""
    attrs.validate(audit)  # attrs itself does so only once all fields are there
    directory = str(Path(audit.directory).expanduser().absolute())
    same = (audit.fsync, audit.max_bytes, audit.group_seconds, audit.heads.every)
    secrets = (audit.key, *audit.sign_with, audit.seal_with)
    objects = (*secrets, *audit.heads.sinks, audit.subject_keys)
    told = [
        repr(each) if isinstance(each, str | Path) else _mark(each)
        for each in (audit.heads.seconds, *objects)
    ]
    return ("lamella", "audit", directory, *map(str, same), *told)


def _mark(thing: Any) -> str:
    """What tells a secret or a sink from others: a reference, or that it is that very object."""
    if isinstance(thing, Secret) and thing.reference is not None:
        return thing.reference
    return str(thing) if thing is None or isinstance(thing, float | int) else f"#{id(thing)}"
