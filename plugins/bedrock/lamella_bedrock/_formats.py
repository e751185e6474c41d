"""What Converse calls the formats of pictures, documents and films."""

from __future__ import annotations

from typing import Final

PICTURES: Final = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "gif": "gif", "webp": "webp"}
DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
FILMS: Final = {
    "video/x-matroska": "mkv",
    "video/quicktime": "mov",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
    **{f"video/{name}": name for name in ("mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg")},
}
_ENDINGS: Final = {
    **{f".{name}": f"image/{name}" for name in PICTURES},
    **{f".{short}": kind for kind, short in DOCUMENTS.items()},
    **{f".{short}": kind for kind, short in FILMS.items() if short != "three_gp"},
}


def of_ending(name: str | None) -> str | None:
    """The media type that the end of a file's name or address says."""
    _, dot, ending = (name or "").rpartition(".")
    return _ENDINGS.get(f".{ending.lower()}") if dot else None


def plain_type(media_type: str | None) -> str:
    """A media type without parameters, in small letters; empty if there is none."""
    return (media_type or "").partition(";")[0].strip().lower()
