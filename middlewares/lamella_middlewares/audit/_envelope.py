"""Content under a key of the one whom it is about, so that destroying the key destroys the content.

Each subject has a data key (AES-256 in SIV mode, RFC 5297, which survives a repeated nonce). Data
keys are kept outside of the log, wrapped with a key of the program's. A record holds ciphertext
only: once the subject's key is gone nobody reads it again, and the log's chain, tree and proofs
hold as before.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from lamella import AuditError, SecretError
from lamella._canonical import encode
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.audit._disk import LocalDisk

if TYPE_CHECKING:
    from lamella import Blob, Ports

KEPT_SECONDS: Final = 60.0
"""How long a data key is kept in memory; an erasure elsewhere is noticed within that time."""

MOST_KEPT: Final = 1024
LEAST_KEY: Final = 16
_NONCE: Final = 16


class KeyStore(Protocol):
    """Where wrapped data keys are kept: the part of a `BlobStore` that is needed."""

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep a wrapped key, tagged with its subject."""
        ...

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """The wrapped keys of a subject."""
        ...

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget the keys of a subject; how many there were."""
        ...


class KeyFiles:
    """Wrapped data keys as files of a directory: one folder a subject, one file a key.

    Args:
        directory: Where. It does not belong beside the log's backups: a key that is in a backup is
            not erased.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, key: str, data: bytes, tag: str) -> None:
        """Write a key, durably, and readable by this user alone."""
        folder = self.directory / tag
        place, fresh = folder / f"{key}.key", folder / f".{key}.new"
        while not place.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(file, "wb") as stream:  # noqa: PTH123 - a descriptor
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileNotFoundError):  # somebody erases the subject right now: once more
                fresh.replace(place)
        for changed in (folder, self.directory):
            LocalDisk().sync_directory(changed)

    def tagged(self, tag: str) -> dict[str, bytes]:
        """The keys of a subject, by id, the oldest first."""
        found: list[tuple[tuple[int, str], str, bytes]] = []
        for path in (self.directory / tag).glob("*.key"):
            with suppress(FileNotFoundError):  # erased meanwhile
                data = path.read_bytes()
                # A key is renamed before it is overwritten, so what still has its name is whole.
                found.append((_age(path), path.stem, data))
        return {name: data for _, name, data in sorted(found)}

    def purge(self, tag: str) -> int:
        """Overwrite and remove the keys of a subject; how many there were.

        Each is given another name first: whoever is killed at it leaves no key that is half there.
        """
        folder = self.directory / tag
        count = 0
        for path in sorted(folder.glob("*.key")):
            with suppress(FileNotFoundError):  # another erasure was quicker
                path.rename(path.with_name(f".{path.stem}.gone"))
                count += 1
        for path in folder.glob(".*.new"):  # or it could become a key while it is overwritten
            with suppress(FileNotFoundError):
                path.rename(path.with_name(f"{path.name}.gone"))
        left = [*folder.glob(".*.gone")]
        for path in left:
            with suppress(FileNotFoundError):
                _shred(path)
        if left:
            LocalDisk().sync_directory(folder)
        return count


def _shred(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))
        stream.flush()
        os.fsync(stream.fileno())
    path.unlink()


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


@attrs.frozen(repr=False)
class DataKey:
    """A subject's key.

    Attributes:
        id: Which; it stands in the records.
        key: 64 bytes.
    """

    id: str
    key: bytes


def wrapping(text: str) -> bytes:
    """The secret that data keys are wrapped with.

    Raises:
        SecretError: If it is too short to be one.
    """
    secret = text.encode("utf-8", "surrogatepass")
    if len(secret) < LEAST_KEY:
        msg = f"Audit(seal_with=...): the secret has less than {LEAST_KEY} bytes."
        hint = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'."
        raise SecretError(msg, hint=hint)
    return secret


class Envelopes:
    """Seals content for subjects, and opens what was sealed.

    Args:
        wrap: The value of the secret under which data keys are wrapped.
        keys: Where they are kept.

    Raises:
        SecretError: If the secret is too short to be one.
    """

    def __init__(self, wrap: str, keys: KeyFiles | KeyStore) -> None:
        secret = wrapping(wrap)
        self._wrap = hmac.digest(secret, b"lamella audit 1: wrap", "sha512")
        self._names = hmac.digest(secret, b"lamella audit 1: subject", "sha256")
        self._keys = keys
        self._lock = fork_safe_lock()
        self._kept: OrderedDict[str, tuple[DataKey, float]] = OrderedDict()

    def tag(self, tenant: str | None, subject: str) -> str:
        """The name under which a subject's keys are kept; only who has the secret can make it."""
        data = encode([1, tenant, subject])
        return hmac.digest(self._names, data, "sha256").hex()

    async def seal(self, ports: Ports, tag: str, content: bytes, bound: bytes) -> dict[str, str]:
        """Content sealed for a subject, as it stands in a record.

        Args:
            ports: The doors to the world.
            tag: Whose, as `tag` gives it.
            content: What to seal.
            bound: What it belongs to: the same bytes are needed to open it.

        Raises:
            AuditError: If the subject's key can be neither read nor kept.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        key = await self._key(ports, tag)
        nonce = ports.random.randbytes(_NONCE)
        sealed = AESSIV(key.key).encrypt(content, [bound, nonce])
        return {"subject": tag, "key": key.id, "nonce": _b64(nonce), "data": _b64(sealed)}

    async def open(self, ports: Ports, sealed: Mapping[str, Any], bound: bytes) -> bytes | None:
        """What was sealed; None if the subject's key has been erased.

        Raises:
            AuditError: If it is not what was sealed there, or the secret is another one.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        tag, id_ = str(sealed.get("subject")), str(sealed.get("key"))
        wrapped = (await self._stored(ports, tag)).get(id_) if _is_tag(tag) else None
        if wrapped is None:
            return None
        key = self._unwrapped(tag, id_, wrapped)
        try:
            data, nonce = (base64.b64decode(sealed[name], validate=True) for name in _PARTS)
            return AESSIV(key.key).decrypt(data, [bound, nonce])
        except (InvalidTag, KeyError, TypeError, ValueError, binascii.Error):
            msg = "Sealed content of an audit record is not what was sealed for it."
            raise AuditError(msg, hint="Verify the log: lamella audit verify DIR.") from None

    async def erase(self, ports: Ports, tag: str) -> int:
        """Destroy a subject's keys; how many there were."""
        with self._lock:
            self._kept.pop(tag, None)
        if isinstance(self._keys, KeyFiles):
            return await ports.thread(self._keys.purge, tag)
        return await self._keys.purge(tag=tag)

    # --- keys --------------------------------------------------------------------------------

    async def _key(self, ports: Ports, tag: str) -> DataKey:
        now = ports.monotonic()
        with self._lock:
            kept = self._kept.get(tag)
            if kept is not None and now < kept[1]:
                self._kept.move_to_end(tag)
                return kept[0]
        try:
            stored = await self._stored(ports, tag)
            if stored:
                id_, wrapped = next(iter(stored.items()))
                key = self._unwrapped(tag, id_, wrapped)
            else:
                key = await self._made(ports, tag)
        except AuditError:
            raise
        except Exception as error:
            msg = f"The key of a subject can be neither read nor kept: {type(error).__name__}."
            hint = "Look whether Audit(subject_keys=...) can be reached and written."
            raise AuditError(msg, hint=hint, layer="audit") from error
        with self._lock:
            self._kept[tag] = (key, now + KEPT_SECONDS)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return key

    async def _made(self, ports: Ports, tag: str) -> DataKey:
        """A new key. Processes that make one at the same time keep both, and any may be used."""
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        key = DataKey(ports.new_id()[:32], AESSIV.generate_key(512))
        nonce = ports.random.randbytes(_NONCE)
        sealed = AESSIV(self._wrap).encrypt(key.key, [_bound(tag, key.id), nonce])
        wrapped = nonce + sealed
        if isinstance(self._keys, KeyFiles):
            await ports.thread(self._keys.put, key.id, wrapped, tag)
        else:
            await self._keys.put(f"{tag}:{key.id}", wrapped, tags=frozenset({tag}))
        return key

    async def _stored(self, ports: Ports, tag: str) -> dict[str, bytes]:
        """The subject's wrapped keys by id."""
        if isinstance(self._keys, KeyFiles):
            return await ports.thread(self._keys.tagged, tag)
        found = await self._keys.tagged(tag)
        return {name.rpartition(":")[2]: found[name].data for name in sorted(found)}

    def _unwrapped(self, tag: str, id_: str, wrapped: bytes) -> DataKey:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        nonce, sealed = wrapped[:_NONCE], wrapped[_NONCE:]
        try:
            return DataKey(id_, AESSIV(self._wrap).decrypt(sealed, [_bound(tag, id_), nonce]))
        except (InvalidTag, ValueError):
            msg = "The key of a subject was wrapped with another secret, or is damaged."
            hint = "Give the secret with which it was wrapped: Audit(seal_with=...)."
            raise AuditError(msg, hint=hint, layer="audit") from None


_PARTS: Final = ("data", "nonce")


def _is_tag(text: str) -> bool:
    """Whether it can be a tag: it becomes the name of a folder."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _bound(tag: str, id_: str) -> bytes:
    return f"lamella audit key 1:{tag}:{id_}".encode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
