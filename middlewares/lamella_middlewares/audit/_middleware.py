"""The layer: an intent before the request goes on, an outcome when it has ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, cast

import attrs

from lamella import (
    AuditError,
    ConfigurationError,
    Handler,
    PartHealth,
    Ports,
    Request,
    Response,
    Secret,
    ending,
    middleware,
)
from lamella._options import number, one_of, seconds, whole
from lamella_middlewares.audit._choices import (
    SubjectOf,
    are_heads,
    are_secrets,
    check_secrets,
    is_directory,
    is_function,
    is_key_store,
    is_secret_or_none,
    lies_in,
    must_be_writable,
    place_of,
    to_heads,
    to_keys_place,
    to_secret,
    to_secrets,
    user_or_session,
)
from lamella_middlewares.audit._envelope import KeyStore
from lamella_middlewares.audit._heads import Heads
from lamella_middlewares.audit._keeper import Keeper
from lamella_middlewares.audit._keys import need_cryptography
from lamella_middlewares.audit._log import MEBIBYTE, AuditLog, Fsync
from lamella_middlewares.audit._visit import Visit

if TYPE_CHECKING:
    from datetime import timedelta

R = TypeVar("R", bound=Response)

Content: TypeAlias = Literal["digest", "sealed", "none"]

_PASSED_BY: Final = (
    "answers that {} gives, and calls that it makes one of, would not be written down"
)


@middleware(
    phase="govern",
    rank=40,
    effects=("short-circuits",),
    outside={
        "cache": _PASSED_BY.format("Cache"),
        "semantic_cache": _PASSED_BY.format("SemanticCache"),
        "single_flight": _PASSED_BY.format("SingleFlight"),
    },
)
@attrs.frozen(eq=False)
class Audit:
    """Writes down who asked what of whom, before it is sent, and how it ended.

    Each request has two records in an append-only log: an intent, which is durable before the
    request goes on, and an outcome. Records are chained and the leaves of a Merkle tree, so that
    any edit, deletion, insertion or move shows; heads of the tree, signed and kept elsewhere, show
    a cut or rewritten end as well. Content is not in the log, only keyed digests of it, unless it
    is asked for: then it is sealed for the one whom it is about, and can be erased.

    Args:
        directory: Where the log's files are. Processes may share it; each writes files of its own.
        key: The secret of the digests (`"env:NAME"`, `"file:PATH"`, a `Secret`), of 16 bytes or
            more. Needed unless `content="none"`, or for what is sealed.
        sign_with: The secret of the Ed25519 key that signs heads (PEM, or 32 bytes in base64), or
            several: the last one signs, and each vouches for the one after it. None signs nothing.
            Needs `lamella[audit]`.
        content: What of requests and answers is written: `"digest"`, HMAC-SHA256 of each field;
            `"sealed"`, all of it, encrypted for its subject; `"none"`.
        identities: How tenant, user and session are written: `"plain"`, or as a keyed `"digest"`.
        on_failure: What to do when an intent cannot be written: `"refuse"` the request with
            `AuditError`, or let it `"pass"`, which the log says when it can be written again.
        fsync: When a record counts as written: `"group"`, when the disk has it, where records that
            come together share the wait; `"each"`, with an fsync of its own; `"none"`, when the
            system has it.
        group_seconds: With `"group"`, how long a record waits for company; 0 waits for none.
        max_bytes: Bytes after which a further file is begun; at least 1024.
        heads: How often heads are made, and who is given them.
        seal_with: The secret that subjects' keys are wrapped with. Needs `lamella[audit]`.
        subject_keys: Where those are kept: a directory outside of the log, or a `BlobStore` that
            evicts nothing.
        subjects: Whom a request's content is about, within its tenant, from the request. By default
            its user, or else its session. Where nobody can be named, nothing is sealed.
        max_content: Bytes of a request or an answer, at most 8 MiB, above which it is not sealed.

    Raises:
        ConfigurationError: If an option cannot be, or needs what is not installed.
    """

    directory: str | os.PathLike[str] = attrs.field(validator=is_directory)
    key: Secret | str | None = attrs.field(
        default=None, converter=to_secret, validator=is_secret_or_none
    )
    sign_with: Secret | str | Sequence[Secret | str] | None = attrs.field(
        default=None, kw_only=True, converter=to_secrets, validator=are_secrets
    )
    content: Content = attrs.field(
        default="digest", kw_only=True, validator=one_of("digest", "sealed", "none")
    )
    identities: Literal["plain", "digest"] = attrs.field(
        default="plain", kw_only=True, validator=one_of("plain", "digest")
    )
    on_failure: Literal["refuse", "pass"] = attrs.field(
        default="refuse", kw_only=True, validator=one_of("refuse", "pass")
    )
    fsync: Fsync = attrs.field(
        default="group", kw_only=True, validator=one_of("each", "group", "none")
    )
    group_seconds: float | timedelta = attrs.field(
        default=0.0, kw_only=True, converter=seconds, validator=number(0)
    )
    max_bytes: int = attrs.field(default=64 * MEBIBYTE, kw_only=True, validator=whole(1024))
    heads: Heads = attrs.field(factory=Heads, kw_only=True, converter=to_heads, validator=are_heads)
    seal_with: Secret | str | None = attrs.field(
        default=None, kw_only=True, converter=to_secret, validator=is_secret_or_none
    )
    subject_keys: str | os.PathLike[str] | KeyStore | None = attrs.field(
        default=None, kw_only=True, converter=to_keys_place, validator=is_key_store, repr=False
    )
    subjects: SubjectOf = attrs.field(
        default=user_or_session, kw_only=True, validator=is_function, repr=False
    )
    max_content: int = attrs.field(default=MEBIBYTE, kw_only=True, validator=whole(0, 8 * MEBIBYTE))
    _place: tuple[str, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(place_of, takes_self=True)
    )
    _used: dict[int, tuple[Keeper, Ports]] = attrs.field(
        init=False, repr=False, factory=dict[int, tuple[Keeper, Ports]]
    )

    def __attrs_post_init__(self) -> None:
        """Refuse options that do not go together."""
        if self.key is None and (self.content == "digest" or self.identities == "digest"):
            msg = "Audit(key=None): digests need a key, for without one they could be guessed."
            hint = "Give key='env:AUDIT_KEY', or content='none' for no word of the content."
            raise ConfigurationError(msg, hint=hint)
        if self.sign_with:
            need_cryptography("Audit(sign_with=...)")
        if self.content == "sealed":
            need_cryptography("Audit(content='sealed')")
            if self.seal_with is None or self.subject_keys is None:
                msg = "Audit(content='sealed') has nowhere to take keys from."
                hint = "Give seal_with='env:AUDIT_SEAL' and subject_keys='DIRECTORY'."
                raise ConfigurationError(msg, hint=hint)
            if lies_in(self.subject_keys, self.directory):
                msg = f"Audit(subject_keys={str(self.subject_keys)!r}) lies in the log's directory."
                hint = "Give one outside: whoever copies the log would copy its keys with it."
                raise ConfigurationError(msg, hint=hint)

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Write the intent, send the request on, and write the outcome.

        Raises:
            AuditError: With `on_failure="refuse"`, if the intent cannot be written; nothing is
                sent.
        """
        visit = Visit(self, self._keeper(request.context.ports), request, call_next)
        return await ending(visit, request, visit.ended)

    async def check(self) -> None:
        """See that the keys can be had and are keys, and that the log can be written.

        Nothing is written. `lamella test-config` asks this.

        Raises:
            SecretError: If a secret cannot be read, or is none.
            AuditError: If the directory cannot be written.
        """
        await check_secrets(self)
        must_be_writable(os.fspath(self.directory))

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether records can be written, outcomes are owed, or sinks of heads fail."""
        found = [
            keeper
            for keeper, used in self._used.values()
            if ports is None or ports.stores.local is used.stores.local
        ]
        if not found:
            return PartHealth(well=None)
        return found[-1].health()

    async def aclose(self) -> None:
        """Write what is owed, make a last head, and end the files that this process writes.

        Layers with the same options share them: another one begins a new file.

        Raises:
            AuditError: If something could not be written.
        """
        used = list(self._used.values())
        self._used.clear()
        failure: Exception | None = None
        for keeper, ports in used:
            try:
                await keeper.close(ports)
            except AuditError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _keeper(self, ports: Ports) -> Keeper:
        keeper = ports.stores.local.get(self._place, self._make)
        if id(keeper) not in self._used:
            self._used[id(keeper)] = (keeper, ports)
        return keeper

    def _make(self) -> Keeper:
        log = AuditLog(
            os.fspath(self.directory),
            fsync=self.fsync,
            max_bytes=self.max_bytes,
            group_seconds=self.group_seconds,
        )
        return Keeper(
            log,
            self.heads,
            cast("tuple[Secret, ...]", self.sign_with),
            key=cast("Secret | None", self.key),
            seal=cast("Secret | None", self.seal_with),
            subject_keys=cast("Path | KeyStore | None", self.subject_keys),
        )
