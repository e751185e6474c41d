"""The shapes of what messages of Converse are made of, as the official SDKs have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lamella.testing._mock_bedrock._shapes import (
    Check,
    anything,
    blob,
    boolean,
    listed,
    number,
    one_of,
    record,
    text,
    union,
)

DOCUMENTS: Final[Mapping[str, str]] = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
"""The formats of documents, and their MIME types."""

VIDEOS: Final[Mapping[str, str]] = {
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "flv": "video/x-flv",
    "mpeg": "video/mpeg",
    "mpg": "video/mpg",
    "wmv": "video/x-ms-wmv",
    "three_gp": "video/3gpp",
}
_SOUNDS = ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a",
           "mpeg", "mpga", "pcm", "webm")  # fmt: skip

STRING = text()
TOOL_NAME = text(1, 64, r"[a-zA-Z0-9_-]+")
_TOOL_USE_ID = text(1, 64, r"[a-zA-Z0-9_.:-]+")

# --- media -------------------------------------------------------------------------------------

_S3 = record(
    {"uri": text(1, 1024, r"s3://[a-z0-9][\.\-a-z0-9]{1,61}[a-z0-9](/.*)?")},
    {"bucketOwner": text(pattern=r"[0-9]{12}")},
)
_SOURCE = union({"bytes": blob(1), "s3Location": _S3})
_BROKEN = record({}, {"message": STRING})
_CITED = record({"enabled": boolean})
_IMAGE = record(
    {"format": one_of("png", "jpeg", "gif", "webp"), "source": _SOURCE}, {"error": _BROKEN}
)
_DOCUMENT = record(
    {
        "name": text(1, 200),
        "source": union(
            {
                "bytes": blob(1),
                "s3Location": _S3,
                "text": STRING,
                "content": listed(union({"text": STRING})),
            }
        ),
    },
    {"format": one_of(*DOCUMENTS), "context": STRING, "citations": _CITED},
)
_VIDEO = record({"format": one_of(*VIDEOS), "source": _SOURCE})
_AUDIO = record({"format": one_of(*_SOUNDS), "source": _SOURCE}, {"error": _BROKEN})
_SEARCH_RESULT = record(
    {"source": STRING, "title": STRING, "content": listed(record({"text": STRING}))},
    {"citations": _CITED},
)

# --- what a message is made of -----------------------------------------------------------------

CACHE_POINT = record({"type": one_of("default")}, {"ttl": one_of("5m", "1h")})
GUARDED = union(
    {
        "text": record(
            {"text": STRING},
            {"qualifiers": listed(one_of("grounding_source", "query", "guard_content"))},
        ),
        "image": record({"format": one_of("png", "jpeg"), "source": union({"bytes": blob(1)})}),
    }
)
_TOOL_USE = record(
    {"toolUseId": _TOOL_USE_ID, "name": TOOL_NAME, "input": anything},
    {"type": one_of("server_tool_use")},
)
_TOOL_RESULT = record(
    {
        "toolUseId": _TOOL_USE_ID,
        "content": listed(
            union(
                {
                    "json": anything,
                    "text": STRING,
                    "image": _IMAGE,
                    "document": _DOCUMENT,
                    "video": _VIDEO,
                    "searchResult": _SEARCH_RESULT,
                }
            )
        ),
    },
    {"status": one_of("success", "error"), "type": STRING},
)
_REASONING = union(
    {"reasoningText": record({"text": STRING}, {"signature": STRING}), "redactedContent": blob()}
)
_PLACE = number(0, whole=True)


def _span(first: str) -> Check:
    return record({}, {first: _PLACE, "start": _PLACE, "end": _PLACE})


_CITATION = record(
    {},
    {
        "title": STRING,
        "source": STRING,
        "sourceContent": listed(union({"text": STRING})),
        "location": union(
            {
                "web": record({}, {"url": STRING, "domain": STRING}),
                "documentChar": _span("documentIndex"),
                "documentPage": _span("documentIndex"),
                "documentChunk": _span("documentIndex"),
                "searchResultLocation": _span("searchResultIndex"),
            }
        ),
    },
)
_CITATIONS = record(
    {}, {"content": listed(union({"text": STRING})), "citations": listed(_CITATION)}
)
_TOOL_CHANGE = record(
    {"tool": record({}, {"type": text(1, 64), "name": text(1, 128), "serverName": text(1, 128)})}
)

UNKNOWN_BLOCK: Final = "mockUnknown"
"""A block that the fault `unknown` mixes into answers, and that is taken back."""

BLOCK = union(
    {
        "text": STRING,
        "image": _IMAGE,
        "document": _DOCUMENT,
        "video": _VIDEO,
        "audio": _AUDIO,
        "toolUse": _TOOL_USE,
        "toolResult": _TOOL_RESULT,
        "guardContent": GUARDED,
        "cachePoint": CACHE_POINT,
        "reasoningContent": _REASONING,
        "citationsContent": _CITATIONS,
        "searchResult": _SEARCH_RESULT,
        "toolAddition": _TOOL_CHANGE,
        "toolRemoval": _TOOL_CHANGE,
        UNKNOWN_BLOCK: anything,
    }
)
