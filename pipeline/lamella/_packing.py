"""How kept bytes are packed: compressed, and signed or sealed where others could write them."""

from __future__ import annotations

from typing import Any

import attrs

from lamella._secrets import Secret


@attrs.frozen
class Packing:
    """How answers are packed before they are kept.

    Args:
        compress_above: Bytes from which on an answer is compressed, 0 or more; None never does.
        max_bytes: The most bytes that one answer may take when packed, 1 or more; a larger one is
            not kept.
        key: With what kept answers are signed, so that nobody else's are believed: a `Secret`, or a
            reference such as `"env:CACHE_KEY"`, of 16 characters at least. A store that others can
            write to (it says so by `shared`) needs one. None checks for damage only.
        encrypt: Whether they are encrypted with the key too, so that nobody else can read them.
            Needs `pip install 'lamella[audit]'` (cryptography).

    Raises:
        ConfigurationError: If an option is wrong.
    """

    compress_above: int | None = 1024
    max_bytes: int = 1 << 20
    key: Secret | None = None  # with a converter that takes references
    encrypt: bool = False


class Packer:
    """Packs and unpacks under one key.

    Args:
        packing: How.
        secret: The key's value; None where there is none.
    """

    def __init__(self, packing: Packing, secret: bytes | None = None) -> None:
        raise NotImplementedError

    def pack(self, place: str, data: bytes) -> bytes:
        """The bytes to keep at a place: they can be unpacked from there only.

        Raises:
            ValueError: If they are more than `max_bytes`.
        """
        raise NotImplementedError

    def unpack(self, place: str, data: bytes) -> bytes:
        """What was packed.

        Raises:
            UnreadableError: If it was not packed so, or is damaged.
        """
        raise NotImplementedError

    def digest(self, *texts: Any) -> str:
        """32 hexadecimal digits for texts (of a tenant), under the key where there is one."""
        raise NotImplementedError
