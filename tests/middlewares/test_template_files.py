"""Template files: a folder is read once, by names, and all that is wrong is told at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lamella import (
    ConfigurationError,
    File,
    Message,
    PromptLibrary,
    TemplateError,
    Text,
    _template_shelves,
)
from lamella._template_files import MOST_BYTES, read_folder

HELLO = '[[messages]]\nrole = "user"\ncontent = "Hello {name}"\n'


def put(file: Path, text: str | bytes = HELLO) -> Path:
    """A file in a folder that is made for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_names_and_versions_come_from_paths_and_files(tmp_path: Path) -> None:
    """`a/b@2.toml` is version 2 of `a/b`; hidden files and other kinds are passed over."""
    put(tmp_path / "a" / "b@2.toml")
    put(tmp_path / "a" / "b@10.0.toml", 'version = "10.0"\n' + HELLO)
    put(tmp_path / "c.toml", b"\xef\xbb\xbf" + HELLO.encode())
    put(tmp_path / ".hidden.toml", "no")
    put(tmp_path / ".git" / "x.toml", "no")
    put(tmp_path / "README.md", "no")
    library = PromptLibrary(tmp_path)
    found = [template.label for template in library.templates()]
    assert found == ["a/b@2", "a/b@10.0", "c@1"]
    assert library.get("a/b").version == "10.0"
    assert library.get("a/b", "10").version == "10.0"


def test_the_first_folder_that_has_a_name_counts(tmp_path: Path) -> None:
    """With all its versions; names that it has not are looked for in the next."""
    put(tmp_path / "own" / "a.toml")
    put(tmp_path / "theirs" / "a@2.toml")
    put(tmp_path / "theirs" / "b.toml")
    library = PromptLibrary([tmp_path / "own", str(tmp_path / "theirs")])
    assert [template.label for template in library.templates()] == ["a@1", "b@1"]


def test_texts_of_files(tmp_path: Path) -> None:
    """The end of the last line is not meant; parts are written as in OpenAI's dialect."""
    put(
        tmp_path / "a.toml",
        """
        [[messages]]
        role = "developer"
        name = "ops"
        content = '''
        Two lines,
        {{literally}}.

        '''

        [[messages]]
        role = "user"
        extra = { cache = true }
        content = [
            { type = "text", text = "See {what}", cache_control = { type = "ephemeral" } },
            { type = "file", file = { file_id = "f-1" } },
        ]
        """.replace("        ", ""),
    )
    first, second = PromptLibrary(tmp_path).get("a").messages(what="this")
    assert first == Message("developer", "Two lines,\n{literally}.\n", name="ops")
    text = Text("See this", {"cache_control": {"type": "ephemeral"}})
    assert second == Message("user", [text, File(id="f-1")], extra={"cache": True})


def test_drafts_are_taken_by_their_version_only(tmp_path: Path) -> None:
    """One that has nothing else says so."""
    put(tmp_path / "a.toml", "draft = true\n" + HELLO)
    library = PromptLibrary(tmp_path)
    assert library.get("a", "1").draft
    with pytest.raises(TemplateError, match=r"drafts only\. Ask for one by its version: 1"):
        library.get("a")


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """Each with its file."""
    put(tmp_path / "syntax.toml", "a = [")
    put(tmp_path / "bytes.toml", b"\xff")
    put(tmp_path / "two words.toml")
    put(tmp_path / "twice.toml", 'version = "1.0"\n' + HELLO)
    put(tmp_path / "twice@1.toml")
    put(tmp_path / "torn@2.toml", 'version = "3"\n' + HELLO)
    put(tmp_path / "odd@two.toml")
    put(tmp_path / "long.toml", b"#" * (MOST_BYTES + 1))
    put(tmp_path / "deep.toml", "a = " + "[" * 5000)
    put(tmp_path / "empty.toml", "")
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ConfigurationError) as caught:
        PromptLibrary(tmp_path)
    told = str(caught.value)
    for words in (
        "syntax.toml: not a TOML file",
        "bytes.toml: is not text in UTF-8 (invalid start byte at byte 0). Save it",
        "two words.toml: 'two words' is no name",
        "'twice' has a version 1",
        "torn@2.toml: version = '3', and its name says '2'",
        "odd@two.toml: 1 mistake.\n  version = 'two': expected numbers",
        f"long.toml: has more than {MOST_BYTES} bytes",
        "deep.toml: not a TOML file",
        "empty.toml: 1 mistake.\n  messages is missing",
        "pipe.toml: is no file",
    ):
        assert words in told


def test_a_folder_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is of one moment; one that never rests is as it was found last."""
    first, second = put(tmp_path / "a.toml", "half writ"), put(tmp_path / "b.toml")
    changes: list[Callable[[], object]] = [
        first.unlink,
        lambda: put(second, HELLO.replace("Hello", "Goodbye")),
    ]

    def read(*given: Any) -> Any:
        if changes:
            changes.pop(0)()
        return read_folder(*given)

    monkeypatch.setattr(_template_shelves, "read_folder", read)
    library = PromptLibrary(tmp_path)
    assert changes == []
    assert [template.label for template in library.templates()] == ["b@1"]
    assert library.get("b").messages(name="Ada") == (Message.user("Goodbye Ada"),)
    assert not library.refresh()
    put(second)
    changes += [partial(put, second, HELLO + "#" * n) for n in range(1, 9)]
    assert library.refresh()
    assert len(changes) == 5
    assert library.refresh()  # for it changed once more when it had been looked at


def test_a_link_to_nowhere_is_told_of_by_its_name(tmp_path: Path) -> None:
    """The folder itself can be read."""
    put(tmp_path / "a.toml")
    (tmp_path / "b.toml").symlink_to(tmp_path / "gone.toml")
    with pytest.raises(ConfigurationError, match=r"b\.toml: cannot be read"):
        PromptLibrary(tmp_path)


def test_a_folder_without_templates_is_refused(tmp_path: Path) -> None:
    """It is likelier the wrong folder than an empty one."""
    with pytest.raises(ConfigurationError, match="has no template in it"):
        PromptLibrary(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        PromptLibrary(put(tmp_path / "a.toml"))


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    """Names are looked up among what was read; links to folders are not followed."""
    put(tmp_path / "secret.toml")
    put(tmp_path / "elsewhere" / "b.toml")
    put(tmp_path / "prompts" / "a.toml")
    (tmp_path / "prompts" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "prompts" / "mounted.toml").symlink_to(tmp_path / "secret.toml")
    library = PromptLibrary(tmp_path / "prompts")
    assert [template.name for template in library.templates()] == ["a", "mounted"]
    for name in ("../secret", "./a", "a.toml", "/a", "", str(tmp_path / "secret")):
        with pytest.raises(TemplateError, match="There is no prompt template"):
            library.get(name)


def test_a_refresh_reads_only_what_has_changed(tmp_path: Path) -> None:
    """It says whether it did, and keeps what was read where a file has become wrong."""
    file = put(tmp_path / "a.toml")
    library = PromptLibrary(tmp_path)
    assert not library.refresh()
    file.write_text(HELLO.replace("Hello", "Goodbye"))
    assert library.refresh()
    assert library.get("a").messages(name="Ada") == (Message.user("Goodbye Ada"),)
    file.write_text("no")
    with pytest.raises(ConfigurationError):
        library.refresh()
    assert library.get("a").messages(name="Ada") == (Message.user("Goodbye Ada"),)
