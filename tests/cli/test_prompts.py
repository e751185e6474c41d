"""`lamella prompts`: what templates there are, what they say, and what is wrong with them."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from lamella import Registry
from lamella._registry import using

GREET = """
description = "Greets."
variables = { name = "text", times = { type = "number", default = 2 } }

[[messages]]
role = "system"
content = "Greet {times} times."

[[messages]]
role = "user"
content = ["I am {name}.", { type = "image_url", image_url = { url = "https://example.com/" } }]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder of prompts."""
    made = tmp_path / "prompts"
    made.mkdir()
    (made / "greet.toml").write_text(GREET)
    (made / "greet@2.toml").write_text("draft = true\n" + GREET)
    monkeypatch.chdir(tmp_path)
    return made


def test_they_are_listed(lamella: Any) -> None:
    """A line for each version, and JSON for programs."""
    done = lamella("prompts", "list")
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["template", "version"],
        ["greet", "1"],
        ["greet", "2"],
    ]
    assert "name (text), times (number, may be left out)  Greets." in done.out
    first, second = lamella("prompts", "list", "--json").json
    assert first["variables"]["name"] == {"type": "text", "required": True}
    assert (first["draft"], second["draft"]) == (False, True)
    assert first["digest"] == second["digest"]


def test_they_are_shown_with_variables(lamella: Any, tmp_path: Path) -> None:
    """As text to read, or as the messages that would be sent; values may come from files."""
    (tmp_path / "name.txt").write_text("Ada {x}")
    done = lamella("prompts", "show", "greet", "name=@name.txt", "times=3")
    assert (done.code, done.out) == (
        0,
        snapshot("""\
system:
Greet 3 times.

user:
I am Ada {x}.
[image]
"""),
    )
    shown = lamella("prompts", "show", "greet", "name=a", "--version", "2", "--json").json
    assert shown[0] == {"role": "system", "content": "Greet 2 times."}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "greet"], 1, "name is missing, expected text"),
        (["show", "great"], 1, "Did you mean 'greet'?"),
        (["show", "greet", "name"], 2, "Write name=value"),
        (["show", "greet", "name=a", "times=x"], 2, "times is no text, and what is given is no"),
        (["show", "greet", "name=@bytes"], 2, "bytes is not text in UTF-8"),
        (["show", "greet", "name=@nowhere"], 1, "nowhere: No such file"),
        (["lst"], 2, 'Did you mean "list"?'),
        (["list", "-f", "other"], 2, "'other' cannot be read"),
    ],
)
def test_it_says_what_is_wrong(arguments: list[str], code: int, words: str, lamella: Any) -> None:
    """With the exit code of what it is."""
    Path("bytes").write_bytes(b"\xff")
    done = lamella("prompts", *arguments)
    assert (done.code, words in done.told()) == (code, True), done.told()


def test_a_folder_is_checked(lamella: Any, folder: Path) -> None:
    """All that is wrong at once, and 2; or how many there are."""
    done = lamella("prompts", "check")
    assert (done.code, done.told()) == (0, "2 templates are sound.")
    (folder / "a.toml").write_text("no")
    (folder / "b.toml").write_text("")
    done = lamella("prompts", "check")
    assert done.code == 2
    assert "a.toml" in done.err
    assert "b.toml" in done.err


def test_plugins_bring_templates(
    lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook names a folder; its templates are there beside those of one's own."""
    (tmp_path / "lamella_shop.py").write_text(
        "from pathlib import Path\n"
        "def lamella_templates():\n"
        "    return {'shop': Path(__file__).parent / 'theirs'}\n"
    )
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "hello.toml").write_text(GREET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lamella_shop", raising=False)
    entry_points = [
        EntryPoint("shop", "lamella_shop", "lamella"),
        EntryPoint("layers", "lamella_middlewares._plugin", "lamella"),
    ]
    with using(Registry(entry_points)):
        names = [line.split()[0] for line in lamella("prompts", "list").out.splitlines()]
        assert names == ["template", "greet", "greet", "shop/hello"]
        assert lamella("prompts", "show", "shop/hello", "name=a").out.startswith("system:\n")
        assert "templates" in lamella("plugins").out
        assert lamella("prompts", "check").told() == "2 templates are sound."
        (tmp_path / "theirs" / "hello.toml").write_text("no")
        done = lamella("prompts", "list")  # theirs were kept by nobody: they are read again
        assert (done.code, done.out.count("greet")) == (2, 2)
        assert "Template 'shop' of " in done.err
