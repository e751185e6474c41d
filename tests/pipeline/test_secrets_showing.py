"""No value of a secret is shown by whatever prints, logs, copies or writes out objects."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import pprint
import string
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import cattrs
import msgspec
import pytest
import rich.console
import rich.pretty
import rich.traceback
import structlog

from lamella import Registry, Secret, SecretError
from lamella._registry import using
from lamella._secret_values import SourcedValue
from lamella.transports import credential

pytestmark = pytest.mark.anyio

KEY = "sk-planted-0123456789abcdef"


async def _asked(_: str) -> str:
    return KEY


@pytest.fixture(params=["variable", "file", "source", "value"])
async def secret(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """A secret of each sort, whose value has been used."""
    monkeypatch.setenv("LAMELLA_TEST_KEY", KEY)
    (tmp_path / "key").write_text(KEY)
    registry = Registry([])
    registry.add(secret_sources={"own": _asked})
    made: dict[str, Callable[[], Secret]] = {
        "variable": lambda: Secret("env:LAMELLA_TEST_KEY"),
        "file": lambda: Secret(f"file:{tmp_path / 'key'}"),
        "source": lambda: Secret("own:a"),
        "value": lambda: Secret.of_value(KEY),
    }
    with using(registry):
        secret = made[request.param]()
        assert await secret.fetch() == KEY
    return secret


@attrs.frozen
class Settings:
    """What a program has."""

    key: Secret
    others: list[Secret]


def settings(secret: Secret) -> Settings:
    """A record with secrets in it."""
    return Settings(secret, [secret])


def shown(secret: Secret, written: object) -> None:
    """Something was written, with the secret's own words and without its value."""
    assert KEY not in str(written)
    assert repr(secret) in str(written).replace('\\"', '"')


async def test_printing(secret: Secret) -> None:
    """`print`, `repr`, `str`, `format`, `%` and templates show the reference."""
    for written in (
        repr(secret),
        str(secret),
        f"{secret} {secret!r} {secret!s} {secret!a} {secret:>80}",
        "%s %r" % (secret, secret),  # noqa: UP031 - this is tested
        "{0} {0!r}".format(secret),  # noqa: UP032 - this is tested
        string.Template("$key").substitute(key=secret),
        pprint.pformat([secret]),
        repr(settings(secret)),
    ):
        shown(secret, written)


async def test_logging(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    """Messages, arguments and extra fields of records show the reference."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("a program").info("key %s in %r", secret, settings(secret))
        logging.getLogger("a program").info("key", extra={"key": secret})
    shown(secret, caplog.text)
    assert KEY not in repr([vars(record) for record in caplog.records])


async def test_structlog(secret: Secret) -> None:
    """Neither its console nor its JSON shows a value, variables of tracebacks included."""
    processors: list[list[Any]] = [
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()],
        [structlog.dev.ConsoleRenderer(colors=False)],
    ]
    for chain in processors:
        out = io.StringIO()
        log = structlog.wrap_logger(structlog.PrintLogger(out), processors=chain)
        try:
            raise ValueError(secret)
        except ValueError:
            log.exception("failed", key=secret, settings=settings(secret))
        shown(secret, out.getvalue())


async def test_copies(secret: Secret) -> None:
    """A copy is the secret itself, and so shows no more."""
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert copy.deepcopy(settings(secret)).key is secret


async def test_pickles(secret: Secret) -> None:
    """A pickle has the reference, in every protocol; a value is refused."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        if secret.reference is None:
            with pytest.raises(SecretError, match="is not pickled"):
                pickle.dumps(settings(secret), protocol)
        else:
            data = pickle.dumps(secret, protocol)
            assert KEY.encode() not in data
            assert secret.reference.encode() in data
    assert KEY not in repr(secret.__getstate__())


async def test_json(secret: Secret) -> None:
    """JSON does not know it; by way of `default=str` it is the reference."""
    with pytest.raises(TypeError):
        json.dumps({"key": secret})
    with pytest.raises(TypeError):
        msgspec.json.encode({"key": secret})
    shown(secret, json.dumps({"key": secret}, default=str))
    assert KEY not in json.dumps({"key": secret}, default=lambda one: one.__getstate__())


async def test_attrs_and_cattrs(secret: Secret) -> None:
    """Records taken apart hold the secret itself."""
    assert attrs.asdict(settings(secret)) == {"key": secret, "others": [secret]}
    assert attrs.astuple(settings(secret)) == (secret, [secret])
    shown(secret, attrs.asdict(settings(secret)))
    apart = cattrs.Converter().unstructure(settings(secret))
    assert apart == {"key": secret, "others": [secret]}
    shown(secret, apart)


async def test_rich(secret: Secret) -> None:
    """Its pretty printer, its inspection and its tracebacks with variables show the reference."""
    console = rich.console.Console(file=io.StringIO(), width=300)
    shown(secret, rich.pretty.pretty_repr(settings(secret)))
    rich.inspect(secret, console=console, all=True, private=True, dunder=False)
    try:
        raise ValueError(secret)
    except ValueError as error:
        whole = rich.traceback.Traceback.from_exception(
            type(error), error, error.__traceback__, show_locals=True, locals_max_string=10_000
        )
    console.print(whole)
    shown(secret, console.file.getvalue())  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


async def test_attributes(secret: Secret) -> None:
    """Whoever walks over attributes, the kept value's included, meets no text with it."""
    assert not hasattr(secret, "__dict__")
    walked: list[object] = [secret]
    for one in walked:
        for name in getattr(type(one), "__slots__", ()):
            found = getattr(one, name)
            assert KEY not in repr(found)
            if isinstance(found, SourcedValue) or type(found).__name__ == "Kept":
                walked.append(found)


# --- tracebacks with variables -----------------------------------------------------------------


def all_of(error: BaseException) -> str:
    """A traceback with the variables of our frames, of causes and of hidden contexts too."""
    found, text = [error], ""
    for one in found:
        frames = traceback.TracebackException.from_exception(
            one, capture_locals=True, compact=False
        )
        # The first frame is the test's own.
        text += "".join(str(frame.locals) for frame in list(frames.stack)[1:]) + str(one)
        found += [each for each in (one.__cause__, one.__context__) if each is not None]
    return text


async def failing(rest: str) -> str:
    """A source that has the value in a variable when it fails."""
    value = KEY
    raise ValueError(f"{value} of {rest} was refused")


def failing_plainly(rest: str) -> str:
    """Such a source that is a plain function, and says that it is one of ours."""
    value = KEY
    raise SecretError(f"of {rest}", hint=f"{len(value)}")


@pytest.mark.parametrize("source", [failing, failing_plainly])
async def test_failures_of_sources(source: Any) -> None:
    """An error has neither a source's words nor its variables, in its whole chain."""
    registry = Registry([])
    registry.add(secret_sources={"own": source})
    with using(registry):
        for ask in (Secret("own:a").fetch, Secret("own:b").reveal):
            with pytest.raises(SecretError) as caught:
                found: Any = ask()
                await found
            assert KEY not in all_of(caught.value)
            assert caught.value.__cause__ is caught.value.__context__ is None


async def test_words_of_careless_sources() -> None:
    """A source's own error that repeats a value which this process knows is not passed on."""
    assert Secret.of_value(KEY).reveal() == KEY

    def careless(_: str) -> str:
        raise SecretError(f"The answer was {KEY}.")

    registry = Registry([])
    registry.add(secret_sources={"own": careless})
    with using(registry), pytest.raises(SecretError, match="failed with SecretError") as caught:
        await Secret("own:a").fetch()
    assert KEY not in str(caught.value)


def as_api_key(given: str) -> object:
    """What transports do with their option."""
    return credential(given, "api_key")


WRONG = (f"env:{KEY}", f"unknown:{KEY}", f"unknown-vault:{KEY}", f"{KEY} with spaces")


@pytest.mark.parametrize(
    ("make", "given"),
    [(Secret, KEY), (Secret.of, KEY)]
    + [(make, given) for make in (Secret, Secret.of, as_api_key) for given in WRONG],
)
async def test_what_was_given_by_mistake(make: Callable[[str], object], given: str) -> None:
    """A key in the place of a reference, or that cannot be one, is in no frame of ours."""
    with pytest.raises(SecretError) as caught:
        make(given)
    assert KEY not in str(caught.value)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    inner = [each for each in frames if each.f_globals["__name__"].startswith("lamella")]
    assert inner
    assert all(KEY not in repr(each.f_locals) for each in inner)


async def test_keys_that_no_header_can_hold(tmp_path: Path) -> None:
    """A key with a space in it, or a file that is no text, is refused without being shown."""
    (tmp_path / "key").write_text(f"{KEY} and more")
    (tmp_path / "binary").write_bytes(KEY.encode() + b"\xff")
    for name in ("key", "binary"):
        known = credential(f"file:{tmp_path / name}", "api_key")
        assert known is not None
        with pytest.raises(SecretError) as caught:
            await known.fetch()
        assert KEY not in all_of(caught.value)
