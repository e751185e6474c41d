"""Parts made of files, bytes and addresses: what is read, what is refused, and never on a loop."""

from __future__ import annotations

import base64
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import bmp, flac, gif, jpeg, mp3, pdf, png, wav, webp

from lamella import Audio, File, Image, MisuseError, Opaque, UnsupportedError
from lamella._media_types import IMAGES, media_type_of
from lamella._message_dicts import part_from_dict, part_to_dict

DOCX = b"PK\x03\x04" + bytes(26) + b"word/document.xml"
KINDS = {
    "image/png": png(),
    "image/jpeg": jpeg(),
    "image/gif": gif(),
    "image/webp": webp("lossy"),
    "image/bmp": bmp(),
    "image/tiff": b"II*\x00....",
    "image/heic": bytes(4) + b"ftypheic",
    "image/svg+xml": b'<?xml version="1.0"?>\n<!-- a -->\n<svg width="1">',
    "audio/wav": wav(0.1),
    "audio/mpeg": mp3(0.1),
    "audio/flac": flac(1),
    "audio/ogg": b"OggS....",
    "audio/aac": b"\xff\xf1\x50\x80",
    "audio/mp4": bytes(4) + b"ftypM4A ",
    "audio/aiff": b"FORM....AIFF",
    "video/mp4": bytes(4) + b"ftypisom",
    "application/pdf": pdf(1),
    "application/zip": b"PK\x03\x04....",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": DOCX,
    "text/html": b"  <!DOCTYPE html><p>",
    "text/plain": "Grüße, BMW ID3 RIF".encode(),
}
NOTHING_KNOWN = [b"", b"\0\1\2", b"\xff\xfeh\0i\0", b"RIFF\0\0\0\0????", "ä".encode("latin-1") * 9]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_says_what_it_is(kind: str) -> None:
    """By how it begins, whatever it is called."""
    assert media_type_of(KINDS[kind]) == kind
    assert File.of(KINDS[kind]).media_type == kind


@pytest.mark.parametrize("data", NOTHING_KNOWN)
def test_what_nobody_knows_has_no_kind(data: bytes) -> None:
    """It has to be said what it is; an empty file is refused all the same."""
    assert media_type_of(data) is None
    with pytest.raises(UnsupportedError, match=r"Or say what it is|is empty"):
        File.of(data)
    if data:
        assert File.of(data, media_type="application/x-own").media_type == "application/x-own"


@given(st.binary(max_size=64))
def test_any_bytes_have_a_kind_or_none(data: bytes) -> None:
    """Nothing raises, and text that is cut within a character is still text."""
    found = media_type_of(data)
    assert found is None or "/" in found
    assert media_type_of("€".encode() * 2_000) == "text/plain"


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_a_picture_of_bytes(kind: str) -> None:
    """Its type is found, its size is there, and detail is kept."""
    picture = Image.of(bytearray(KINDS[kind]), detail="low")
    assert picture == Image(data=KINDS[kind], media_type=kind, detail="low")
    assert picture.size == (640, 480)
    assert part_from_dict(part_to_dict(picture)) == picture


@pytest.mark.parametrize("make", [Image.of, lambda url, **more: Image(url=url, **more)])
def test_detail_is_a_word(make: Any) -> None:
    """Or None; what is no text is refused before it goes to a provider."""
    assert make("https://example.org/a.png", detail="new").detail == "new"
    with pytest.raises(TypeError, match=r"Image\(detail=5\).* 'low', 'high', 'auto'"):
        make("https://example.org/a.png", detail=5)


def test_a_dict_whose_detail_is_no_word_stays_as_it_is() -> None:
    """It is no picture that we know, and goes out as it came."""
    given = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": 5}}
    assert part_from_dict(given) == Opaque(given)
    assert part_to_dict(part_from_dict(given)) == given


def test_a_file_on_disk_and_one_that_is_open(tmp_path: Path) -> None:
    """Read where no event loop runs; a document has its file's name, without the folder."""
    path = tmp_path / "a photo.txt"
    path.write_bytes(png())
    assert Image.of(path).media_type == "image/png"
    assert File.of(path).filename == "a photo.txt"
    with path.open("rb") as file:
        assert File.of(file, filename="own.png").filename == "own.png"
    assert File.of(io.BytesIO(pdf(1))).filename is None
    with pytest.raises(FileNotFoundError):
        Image.of(tmp_path / "nobody.png")
    with path.open("w") as text, pytest.raises((TypeError, io.UnsupportedOperation)):
        Image.of(text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="mode 'rb'"):
        Image.of(io.StringIO("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("part_type", [Image, File])
def test_addresses_go_to_the_provider(part_type: Any) -> None:
    """They are not fetched; a data URL is read here; any other text is no path."""
    make = part_type.of
    for url in ("https://x/y", "HTTP://x/y", "gs://b/k", "s3://b/k"):
        part = make(url)
        assert (part.url, part.data) == (url, None)
    coded = base64.b64encode(png()).decode()
    part = make(f"data:image/png;base64,{coded}")
    assert (part.data, part.media_type) == (png(), "image/png")
    for text in ("photo.png", "/etc/passwd", "file:///etc/passwd", "javascript:x"):
        with pytest.raises(ValueError, match=r"give a pathlib\.Path"):
            make(text)
    for text, says in (("data:image/png;base64,?", "damaged"), ("data:image/png", "no content")):
        with pytest.raises(ValueError, match=says):
            make(text)
    with pytest.raises(UnsupportedError, match="more than 5000 bytes"):
        make("data:image/png;base64," + "A" * 20_000, max_bytes=5_000)
    assert File.of("data:text/csv,a%2Cb").data == b"a,b"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in IMAGES])
def test_pictures_of_other_kinds_are_refused(kind: str) -> None:
    """The message says what may be sent, and what this is."""
    with pytest.raises(UnsupportedError, match="PNG, JPEG, GIF and WebP") as caught:
        Image.of(KINDS[kind])
    assert repr(kind) in str(caught.value)
    assert caught.value.code == "unsupported_media"


def test_a_type_that_is_said_must_agree_with_the_bytes() -> None:
    """Aliases agree; of text and archives the bytes do not say so much."""
    assert Image.of(jpeg(), media_type="image/jpg").media_type == "image/jpeg"
    assert File.of(b"# A", media_type="text/markdown; charset=utf-8").media_type == "text/markdown"
    assert File.of(KINDS["application/zip"], media_type="application/epub+zip").media_type
    for data, said in ((png(), "image/jpeg"), (b"words", "image/png"), (pdf(1), "text/plain")):
        with pytest.raises(UnsupportedError, match="its bytes are"):
            File.of(data, media_type=said)


def test_files_have_a_bound() -> None:
    """A longer one is not read to its end."""

    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0
            Endless.given += min(size, 1_000)
            return bytes(min(size, 1_000))

    with pytest.raises(UnsupportedError, match="more than 5000 bytes; allowed are 5000") as caught:
        File.of(Endless(), max_bytes=5_000)
    assert Endless.given == 5_001
    assert caught.value.code == "media_too_large"
    assert Image.of(png(), max_bytes=len(png())).data == png()
    with pytest.raises(UnsupportedError, match=r"has \d+ bytes|more than"):
        Image.of(png(), max_bytes=len(png()) - 1)
    with pytest.raises(ValueError, match="max_bytes=0"):
        Image.of(png(), max_bytes=0)
    with pytest.raises(TypeError, match="give bytes"):
        Image.of(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_path_is_a_regular_file(tmp_path: Path) -> None:
    """A pipe that nobody writes into does not hang, a device has no end; links are followed."""
    if os.name == "nt":
        pytest.skip("Windows has no such pipes")
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(UnsupportedError, match="a pipe or a device") as caught:
            Image.of(path)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(IsADirectoryError):
        Image.of(tmp_path)
    (tmp_path / "real").write_bytes(png())
    link.unlink()
    link.symlink_to(tmp_path / "real")
    assert Image.of(link).data == png()


def test_open_files_are_read_from_where_they_stand() -> None:
    """What was read to its end, needs `await`, or has nothing yet, is told so."""
    held = io.BytesIO(b"??" + png())
    held.seek(2)
    assert Image.of(held).data == png()
    with pytest.raises(UnsupportedError, match="was read to its end"):
        Image.of(held)

    class Upload:
        async def read(self, _: int = -1) -> bytes:
            return png()

    class Waiting:
        def read(self, _: int = -1) -> None:
            return None

    with pytest.raises(TypeError, match=r"read with await: Image\.of\(await file\.read\(\)\)"):
        Image.of(Upload())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(BlockingIOError, match="nothing to read yet"):
        Image.of(Waiting())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_parts_hold_bytes_that_nobody_writes_into() -> None:
    """Whatever kind of bytes was given; text is refused, since it would be base64 or a path."""
    held = bytearray(png())
    for given_ in (held, memoryview(held), memoryview(held + held)[: len(held)]):
        picture = Image(data=given_, media_type="image/png")  # pyright: ignore[reportArgumentType]
        assert (type(picture.data), picture.size) == (bytes, (640, 480))
        assert hash(picture) == hash(Image.of(png()))
        assert Image.of(given_) == picture
    with pytest.raises(TypeError, match="give bytes"):
        File(data="aGVsbG8=")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedError, match="more than 300 bytes"):
        Image.of(memoryview(bytes(400)).cast("I"), max_bytes=300)


def test_a_picture_can_be_made_smaller() -> None:
    """`resize` gets bytes and type, runs before the checks, and its result is checked."""
    seen: list[tuple[int, str]] = []

    def smaller(data: bytes, media_type: str) -> bytes:
        seen.append((len(data), media_type))
        return png(64, 48)

    large = bmp() + bytes(150)
    picture = Image.of(large, resize=smaller, max_bytes=100)
    assert (picture.media_type, picture.size) == ("image/png", (64, 48))
    assert seen == [(len(large), "image/bmp")]
    with pytest.raises(UnsupportedError, match="allowed are 100"):
        Image.of(png(), resize=lambda data, _: data + bytes(100), max_bytes=100)
    with pytest.raises(TypeError, match="expected bytes"):
        Image.of(png(), resize=lambda _, __: None)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedError, match="more than 1000 bytes"):
        Image.of(bytes(1_001), resize=smaller, max_bytes=100)


def test_sound_has_the_format_of_its_bytes() -> None:
    """As providers spell it; nobody takes the address of a sound."""
    for kind, name in (("audio/wav", "wav"), ("audio/mpeg", "mp3"), ("audio/mp4", "m4a")):
        assert Audio.of(KINDS[kind], transcript="hm").format == name
    with pytest.raises(UnsupportedError, match="WAV, MP3"):
        Audio.of(png())
    with pytest.raises(UnsupportedError, match="no address"):
        Audio.of("https://x/y.wav")


@pytest.mark.anyio
async def test_a_running_loop_is_not_held_up(tmp_path: Path) -> None:
    """`of` refuses to read a file there; `load` reads, and makes smaller, in a thread."""
    path = tmp_path / "x"
    path.write_bytes(png())
    for kind in (Image, File, Audio):
        with path.open("rb") as file:
            for source in (path, file):
                with pytest.raises(MisuseError, match=rf"await {kind.__name__}\.load") as caught:
                    kind.of(source)
                assert str(tmp_path) not in str(caught.value)
    with pytest.raises(MisuseError, match="resizing would hold up"):
        Image.of(png(), resize=lambda data, _: data)
    threads: list[int] = []

    def noted(data: bytes, _: str) -> bytes:
        threads.append(threading.get_ident())
        return data

    picture = await Image.load(path, detail="high", resize=noted)
    assert picture == Image(data=png(), media_type="image/png", detail="high")
    assert await Image.load(png(), resize=noted) == Image.of(png())
    assert threading.get_ident() not in threads
    assert len(threads) == 2
    assert (await File.load(path)).filename == "x"
    path.write_bytes(wav(0.1))
    assert (await Audio.load(path)).format == "wav"
    assert Image.of(io.BytesIO(png())) == Image.of(png())
    with pytest.raises(UnsupportedError, match="allowed are 9"):
        await File.load(path, max_bytes=9)
