"""Secrets show where they are kept and never what they are."""

from __future__ import annotations

import copy
import os
import pickle
import re
import traceback
from pathlib import Path
from typing import Any, Protocol

import pytest

from lamella import Registry, Secret, SecretError
from lamella._registry import using

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret"


class Site(Protocol):
    """See conftest.py."""

    def plugin(self, name: str, source: str, **more: str) -> None: ...
    def registry(self, *allow: str) -> Registry: ...


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Secret:
    """A secret in a variable."""
    monkeypatch.setenv("LAMELLA_TEST_KEY", KEY)
    return Secret("env:LAMELLA_TEST_KEY")


def refused(reference: Any) -> str:
    """What is said of something that is no reference."""
    with pytest.raises(SecretError) as caught:
        Secret(reference)
    return str(caught.value)


def unreadable(reference: str) -> str:
    """What is said of a reference that leads nowhere."""
    with pytest.raises(SecretError) as caught:
        Secret(reference).reveal()
    return str(caught.value)


async def test_a_variable_is_read_on_each_use(
    given: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is rotated in the environment is the one that the next use gets."""
    assert given.reveal() == KEY
    monkeypatch.setenv("LAMELLA_TEST_KEY", "sk-next")
    assert (given.reveal(), await given.fetch()) == ("sk-next", "sk-next")


async def test_a_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    """The newline that editors leave is no part of the key; a replaced file is read again."""
    file = tmp_path / "key"
    file.write_bytes(b"sk-1\r\n")
    secret = Secret(f"file:{file}")
    assert (secret.reveal(), secret.reveal()) == ("sk-1", "sk-1")
    file.write_text("two\nlines\n")
    assert await secret.fetch() == "two\nlines"


def test_paths_begin_at_the_working_or_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is relative to the working directory, and `~` is the home folder."""
    (tmp_path / "key").write_text(KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Secret("file:key").reveal() == Secret("file:~/key").reveal() == KEY


def test_nothing_shows_the_value(given: Secret) -> None:
    """Printing, formatting and looking inside show the reference; a value shows as hidden."""
    hidden = Secret.of_value(KEY)
    assert repr(given) == str(given) == f"{given}" == "Secret('env:LAMELLA_TEST_KEY')"
    assert repr(hidden) == "Secret(<hidden>)"
    assert given.reveal() == hidden.reveal() == KEY
    shown = f"{given!r}{given:>60}%s{[given, hidden]}{hidden!s}" % hidden
    assert KEY not in shown
    assert not hasattr(hidden, "__dict__")


def test_pickles_hold_the_reference(given: Secret) -> None:
    """A pickled secret is its reference; one given by value is not pickled at all."""
    given.reveal()
    data = pickle.dumps(given)
    assert KEY.encode() not in data
    assert pickle.loads(data) == given
    assert pickle.loads(data).reveal() == KEY
    with pytest.raises(SecretError, match="given by value is not pickled"):
        pickle.dumps(Secret.of_value(KEY))


def test_copies_are_the_secret_itself(given: Secret) -> None:
    """Copying a record copies no key; secrets are equal by reference, values only to themselves."""
    hidden = Secret.of_value(KEY)
    assert copy.copy(hidden) is copy.deepcopy(hidden) is hidden
    assert given == Secret.of("env:LAMELLA_TEST_KEY")
    assert len({given, Secret("env:LAMELLA_TEST_KEY"), hidden, Secret.of_value(KEY)}) == 3
    assert Secret.of(given) is given
    assert given != "env:LAMELLA_TEST_KEY"


@pytest.mark.parametrize(
    "given", [KEY, "", "env:", "env:sk-very-secret", f"user1:{KEY}", f"https://{KEY}", None, 5]
)
def test_what_is_no_reference_is_not_repeated(given: object) -> None:
    """A value where a reference belongs is refused at once, without showing it."""
    said = refused(given)
    assert KEY not in said
    assert "env" in said


def test_values_are_text() -> None:
    """An empty value, or one that is no text, is none."""
    wrong: list[Any] = ["", None, b"key"]
    for value in wrong:
        with pytest.raises(SecretError, match=r"Secret\.of_value was given no text"):
            Secret.of_value(value)


def test_a_reference_that_leads_nowhere_names_it_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the reference, what is wrong with it, and what to do."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setenv("EMPTY_KEY", "")
    said = "The environment variable NO_SUCH_KEY of Secret('env:NO_SUCH_KEY') is not set. Set it"
    assert unreadable("env:NO_SUCH_KEY").startswith(said)
    assert "EMPTY_KEY of Secret('env:EMPTY_KEY') is empty" in unreadable("env:EMPTY_KEY")
    assert "cannot be read: No such file or directory" in unreadable(f"file:{tmp_path / 'x'}")
    assert "cannot be read: Is a directory" in unreadable(f"file:{tmp_path}")
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in unreadable(f"file:{tmp_path / 'empty'}")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "is no text" in unreadable(f"file:{tmp_path / 'binary'}")


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    """A device that never ends is refused after a megabyte."""
    assert "is larger than 1048576 bytes" in unreadable("file:/dev/zero")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe without a writer, or whose writer says nothing, does not hold up the loop."""
    os.mkfifo(tmp_path / "pipe")
    assert "is empty" in unreadable(f"file:{tmp_path / 'pipe'}")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(writer, KEY.encode())
    with pytest.raises(SecretError, match="cannot be read") as caught:
        Secret(f"file:{tmp_path / 'pipe'}").reveal()
    os.close(writer)
    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(whole.format())


SAFE = """
calls = []
answers = ["sk-1", "sk-2", RuntimeError("sk-1 was wrong"), "sk-4"]

async def read(path):
    calls.append(path)
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer

def plain(path):
    return path.upper()

def nothing(path):
    return None

def lamella_secret_sources():
    return {"safe": read, "plain": plain, "nothing": nothing}
"""


async def test_a_plugin_brings_a_scheme(site: Site) -> None:
    """A plugin's source is given what stands behind the colon; it may be plain or async."""
    site.plugin("lamella-safe", SAFE)
    with using(site.registry()):
        assert Secret("plain:a:b").reveal() == "A:B"
        assert await Secret("plain:x").fetch() == "X"
        assert await Secret("safe:kv/openai").fetch() == "sk-1"
        assert Secret("safe:kv/openai").reveal() == "sk-1"
        with pytest.raises(SecretError, match=r"Use `await secret\.fetch\(\)`"):
            Secret("safe:kv/other").reveal()
        with pytest.raises(SecretError, match=r"The source of Secret\('nothing:x'\) gave no text"):
            await Secret("nothing:x").fetch()


async def test_a_plugins_value_is_kept_and_survives_its_source(site: Site) -> None:
    """It is asked again after `ttl` seconds; if it fails then, the earlier value is used."""
    site.plugin("lamella-safe", SAFE)
    with using(site.registry()):
        kept = Secret("safe:key")
        assert (await kept.fetch(), await kept.fetch()) == ("sk-1", "sk-1")
        fresh = Secret("safe:key", ttl=0)
        assert await fresh.fetch() == "sk-2"
        assert fresh.problem is None
        assert await fresh.fetch() == "sk-2"
        assert "failed with RuntimeError" in str(fresh.problem)
        assert "sk-1" not in str(fresh.problem)
        assert (await fresh.fetch(), fresh.problem) == ("sk-4", None)
        with pytest.raises(SecretError, match="failed with IndexError"):
            await Secret("safe:other").fetch()


def test_a_ttl_is_a_span_of_time() -> None:
    """A negative or endless span is refused."""
    for ttl in (-1.0, float("inf"), float("nan")):
        with pytest.raises(SecretError, match="is no finite number of seconds"):
            Secret("env:KEY", ttl=ttl)


def test_line_ends_and_marks_are_no_part_of_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tools leave around a key is taken off, in variables as in files."""
    monkeypatch.setenv("LAMELLA_TEST_KEY", f"{KEY}\r\n\n")
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\n\r\n")
    assert Secret("env:LAMELLA_TEST_KEY").reveal() == Secret(f"file:{file}").reveal() == KEY
    monkeypatch.setenv("LAMELLA_TEST_KEY", "\n")
    assert "is empty" in unreadable("env:LAMELLA_TEST_KEY")


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    """A key of the same length, written within one tick of the clock, is taken up."""
    file = tmp_path / "key"
    file.write_text("sk-1")
    state = file.stat()
    secret = Secret(f"file:{file}")
    assert secret.reveal() == "sk-1"
    file.write_text("sk-2")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert secret.reveal() == "sk-2"


def test_what_is_no_path_is_a_secrets_error() -> None:
    """A path that the system does not even take is told like one that leads nowhere."""
    assert re.search("cannot be read: .*embedded null", unreadable("file:a\0b"))
    assert "cannot be read: Could not determine home" in unreadable("file:~nobody-of-that-name/k")
    wrong: list[Any] = ["5", None, True]
    for ttl in wrong:
        with pytest.raises(SecretError, match="is no finite number of seconds"):
            Secret("env:KEY", ttl=ttl)


FAILING = """
def fail(path):
    raise RuntimeError("token sk-very-secret was refused")

def lamella_secret_sources():
    return {"fail": fail, "five": 5, "env": lambda path: "stolen", "file": lambda path: "stolen"}
"""


async def test_a_failing_sources_words_are_nowhere(site: Site) -> None:
    """A source's message may hold a key: it is neither in ours nor in the traceback."""
    site.plugin("lamella-fail", FAILING)
    with using(site.registry()):
        with pytest.raises(SecretError, match="failed with RuntimeError") as plain:
            Secret("fail:x").reveal()
        with pytest.raises(SecretError, match="failed with RuntimeError") as awaited:
            await Secret("fail:x").fetch()
        with pytest.raises(SecretError, match="failed with TypeError"):
            Secret("five:x").reveal()
    for caught in (plain, awaited):
        shown = "".join(traceback.format_exception_only(caught.value))
        assert KEY not in shown
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_no_plugin_answers_for_variables_and_files(
    site: Site, given: Secret, tmp_path: Path
) -> None:
    """`env` and `file` are this library's in any spelling, whatever a plugin registers."""
    site.plugin("lamella-fail", FAILING)
    (tmp_path / "key").write_text(KEY)
    with using(site.registry()):
        assert Secret("ENV:LAMELLA_TEST_KEY").reveal() == given.reveal() == KEY
        assert Secret(f"File:{tmp_path / 'key'}").reveal() == KEY
