"""The type of a plain message of a stream: one piece of text or thought, and usage at most.

msgspec checks it while it reads, and refuses whatever holds anything else.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class _PlainPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str
    thought: bool = False


class _PlainContent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    parts: tuple[_PlainPart]
    role: Any = None


class _PlainCandidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: _PlainContent
    index: int = 0


class _PlainChunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    candidates: tuple[_PlainCandidate]
    usageMetadata: msgspec.Raw = msgspec.Raw()  # noqa: N815 - as on the wire
    modelVersion: Any = None  # noqa: N815
    responseId: Any = None  # noqa: N815
    createTime: Any = None  # noqa: N815


PLAIN: Final = msgspec.json.Decoder(_PlainChunk)
NULL: Final = msgspec.Raw(b"null")
