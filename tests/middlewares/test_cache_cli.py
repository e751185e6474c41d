"""`lamella cache`: what it says, what it forgets, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from lamella import ChatRequest, Context, Pipeline
from lamella._packing import Packing
from lamella.cli import main
from lamella.testing import Scripted
from lamella_middlewares import Cache
from lamella_middlewares.cache import CacheControl

KEY = "a key that nobody would guess"
PRESET = """
[presets.shop]
transport = "mock"
layers = [{ use = "cache", ttl = 3600, store = { use = "sqlite", path = "FOLDER/cache.db" } }]

[presets.both]
transport = "mock"
layers = [
    { use = "cache", store = { use = "sqlite", path = "FOLDER/cache.db" } },
    { use = "cache", namespace = "near" },
]

[presets.memory]
transport = "mock"
layers = ["cache"]

[presets.none]
transport = "mock"
layers = []
"""


@attrs.frozen
class Done:
    """What a run of the program has come to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, read as JSON."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """The program, in a folder with presets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAMELLA_ENV", raising=False)
    monkeypatch.delenv("LAMELLA_CONFIG", raising=False)
    monkeypatch.setenv("CACHE_KEY", KEY)
    (tmp_path / "lamella.toml").write_text(PRESET.replace("FOLDER", str(tmp_path)))

    def run(*arguments: str) -> Done:
        code = main(["cache", *arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


def filled(path: Path, *, namespace: str = "", **packing: Any) -> None:
    """Keep two answers of acme, one with a tag, and one of another tenant."""
    layer = Cache(
        store={"use": "sqlite", "path": str(path)},
        namespace=namespace,
        packing=Packing(**packing),
    )

    async def fill() -> None:
        model = Scripted(["It is four.", "It is blue.", "It is late."])
        async with Pipeline([layer], model) as pipeline:
            for text, tenant, tags in (
                ("Two and two?", "acme", ()),
                ("The sky?", "acme", ("doc-17",)),
                ("The time?", "globex", ("doc-17",)),
            ):
                control = CacheControl(tags=tags)
                context = Context(tenant=tenant, attributes={"cache": control})
                request = ChatRequest.of(text, model="m", temperature=0, context=context)
                await pipeline.run(request)

    anyio.run(fill)


def keys(done: Done) -> set[str]:
    """The keys in a listing."""
    return {entry["key"] for entry in done.json}


# --- list ----------------------------------------------------------------------------------------


def test_a_list_shows_facts_and_no_content(cache: Run, tmp_path: Path) -> None:
    """Whose it is, of which model, how old, how large; what it says only with --content."""
    filled(tmp_path / "cache.db")
    done = cache("list", "--preset", "shop")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("acme") == 2
    assert "doc-17" in done.out
    assert "four" not in done.out
    assert "four" in cache("list", "-p", "shop", "--content").out


def test_a_list_in_json(cache: Run, tmp_path: Path) -> None:
    """Its names are kept; tenants and tags choose."""
    filled(tmp_path / "cache.db")
    (entry,) = cache("list", "-p", "shop", "--tenant", "acme", "--tag", "doc-17", "--json").json
    assert entry["tenant"] == "acme"
    assert entry["model"] == "m"
    assert entry["operation"] == "chat"
    assert entry["tags"] == ["doc-17"]
    assert entry["layer"] == "cache"
    assert entry["readable"]
    assert 0 < entry["fresh_for"] <= 4000
    assert 0 < entry["size"] < 2000
    assert "content" not in entry
    (shown,) = cache("list", "-p", "shop", "--tenant", "globex", "--json", "--content").json
    assert shown["content"] == "It is late."
    assert cache("list", "-p", "shop", "--tenant", "nobody", "--json").json == []


def test_a_list_is_bounded(cache: Run, tmp_path: Path) -> None:
    """100 at most if not said, 0 for all; that there is more is said beside."""
    filled(tmp_path / "cache.db")
    done = cache("list", "-p", "shop", "--limit", "2", "--json")
    assert len(done.json) == 2
    assert "--limit 0" in done.err
    assert len(cache("list", "-p", "shop", "--limit", "0", "--json").json) == 3
    assert cache("list", "-p", "shop", "--limit", "-1").code == 2


def test_a_store_by_hand(cache: Run, tmp_path: Path) -> None:
    """Its file is enough; all namespaces are found, or the one that is named."""
    filled(tmp_path / "a.db")
    filled(tmp_path / "a.db", namespace="other: one")
    assert len(cache("list", "--path", "a.db", "--json").json) == 6
    (one, *rest) = cache("list", "--path", "a.db", "--namespace", "other: one", "--json").json
    assert (one["namespace"], len(rest)) == ("other: one", 2)
    assert len(cache("list", "--path", "a.db", "--namespace", "", "--json").json) == 3
    assert cache("list", "--path", "a.db", "--layer", "semantic_cache", "--json").json == []
    assert "namespace 'other: one'" in cache("list", "--path", "a.db").out


def test_a_cache_in_memory_beside_another_is_mentioned(cache: Run, tmp_path: Path) -> None:
    """What cannot be looked at is not passed over in silence."""
    filled(tmp_path / "cache.db")
    done = cache("list", "-p", "both", "--json")
    assert len(done.json) == 3
    assert "1 more" in done.err


@pytest.mark.parametrize("encrypt", [False, True])
def test_signed_answers_need_their_key(cache: Run, tmp_path: Path, encrypt: bool) -> None:
    """Without it they are listed as unreadable, and stay as they are."""
    filled(tmp_path / "a.db", key="env:CACHE_KEY", encrypt=encrypt)
    known = ["--key", "env:CACHE_KEY", *(["--encrypted"] if encrypt else [])]
    for _ in range(2):
        without = cache("list", "--path", "a.db", "--json").json
        assert [entry["readable"] for entry in without] == [False] * 3
        assert {entry["tenant"] for entry in without} == {None}
    found = cache("list", "--path", "a.db", *known, "--json").json
    assert sorted(entry["tenant"] for entry in found) == ["acme", "acme", "globex"]


# --- stats ---------------------------------------------------------------------------------------


def test_an_explanation_says_where_answers_are(
    cache: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lamella explain` shows a cache's own store with its file, and nothing of a pipeline's."""
    assert main(["explain", "shop", "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["options"]["store"] == f"SQLiteBlobs(path='{tmp_path}/cache.db')"
    assert main(["explain", "memory"]) == 0
    assert "store" not in capsys.readouterr().out


def test_stats(cache: Run, tmp_path: Path) -> None:
    """How much is kept, of whom, and what other processes say it was good for."""
    filled(tmp_path / "cache.db")
    filled(tmp_path / "cache.db")
    done = cache("stats", "-p", "shop")
    assert done.code == 0
    assert "3 answers" in done.out
    assert "3 hits of 6 (50.0%)" in done.out
    (found,) = cache("stats", "--path", "cache.db", "--json").json
    assert (found["entries"], found["unreadable"], found["stale"]) == (3, 0, 0)
    by_tenant = {group["tenant"]: group["entries"] for group in found["kept"]}
    assert by_tenant == {"acme": 2, "globex": 1}
    assert found["since"]["hits"] == 3


def test_stats_of_an_empty_store(cache: Run) -> None:
    """Nothing is wrong with it."""
    done = cache("stats", "-p", "shop")
    assert done.code == 0
    assert "0 answers" in done.out


# --- forgetting ----------------------------------------------------------------------------------


def test_purging(cache: Run, tmp_path: Path) -> None:
    """A tenant, a tag, or both; how many is said."""
    filled(tmp_path / "cache.db")
    done = cache("purge", "-p", "shop", "--tenant", "acme", "--tag", "doc-17", "--yes")
    assert (done.code, done.out) == (0, "1 forgotten.\n")
    left = cache("list", "-p", "shop", "--json").json
    assert sorted((entry["tenant"], entry["tags"]) for entry in left) == [
        ("acme", []),
        ("globex", ["doc-17"]),
    ]
    assert cache("purge", "--path", "cache.db", "--tag", "doc-17", "--yes").out == "1 forgotten.\n"
    done = cache("purge", "-p", "shop", "--tenant", "acme", "--yes", "--json")
    assert done.json == {"forgotten": 1, "unreadable": 0}
    assert cache("purge", "-p", "shop", "--tenant", "acme", "--yes").out == "0 forgotten.\n"


def test_clearing(cache: Run, tmp_path: Path) -> None:
    """Everything goes, of every namespace or of the one that is named."""
    filled(tmp_path / "cache.db")
    filled(tmp_path / "cache.db", namespace="b")
    assert cache("clear", "--path", "cache.db", "--namespace", "b", "--yes").code == 0
    assert len(cache("list", "--path", "cache.db", "--json").json) == 3
    done = cache("clear", "--path", "cache.db", "--yes")
    assert (done.code, done.out) == (0, "3 forgotten.\n")


def test_nobody_forgets_without_being_asked(cache: Run, tmp_path: Path) -> None:
    """Where nobody can be asked, --yes is needed; nothing is forgotten."""
    filled(tmp_path / "cache.db")
    for arguments in (["clear"], ["purge", "--tenant", "acme"]):
        done = cache(*arguments, "-p", "shop")
        assert done.code == 2
        assert "--yes" in done.err
    assert len(cache("list", "-p", "shop", "--json").json) == 3


def test_a_purge_with_another_key_does_not_pretend(cache: Run, tmp_path: Path) -> None:
    """A tenant's answers cannot be found without the key: it fails and says so."""
    filled(tmp_path / "a.db", key="env:CACHE_KEY")
    done = cache("purge", "--path", "a.db", "--tenant", "acme", "--yes")
    assert done.code == 1
    assert "3 answers" in done.err
    assert "--key" in done.err
    done = cache("purge", "--path", "a.db", "--tenant", "acme", "--yes", "--key", "env:CACHE_KEY")
    assert (done.code, done.out) == (0, "2 forgotten.\n")
    assert cache("clear", "--path", "a.db", "--yes").out == "1 forgotten.\n"


# --- warm ----------------------------------------------------------------------------------------


def lines(path: Path, *given: Any) -> str:
    """A file of lines."""
    path.write_text("\n".join(json.dumps(line) for line in given))
    return str(path)


HI: dict[str, Any] = {
    "model": "mock-1",
    "temperature": 0,
    "messages": [{"role": "user", "content": "hi"}],
}


def test_warming_up(cache: Run, tmp_path: Path) -> None:
    """What was asked is kept for the programs that use the preset."""
    file = lines(tmp_path / "w", HI, {**HI, "seed": 1, "answer": "Given."}, {**HI, "tenant": "b"})
    done = cache("warm", file, "-p", "shop", "--tenant", "acme")
    assert (done.code, done.out) == (
        0,
        "2 asked, 1 kept as given, 0 kept already, 0 failed\n",
    )
    found = cache("list", "-p", "shop", "--json").json
    assert sorted(entry["tenant"] for entry in found) == ["acme", "acme", "b"]
    again = cache("warm", file, "-p", "shop", "--tenant", "acme", "--json")
    assert again.json["fresh"] == 3
    assert cache("warm", file, "-p", "shop", "--tenant", "acme", "--refresh").out.startswith(
        "2 asked"
    )


def test_lines_that_fail_are_named(cache: Run, tmp_path: Path) -> None:
    """On standard error, with their numbers; the exit code is 1."""
    file = lines(tmp_path / "w", HI, {**HI, "temprature": 0}, {**HI, "temperature": 1})
    done = cache("warm", file, "-p", "shop", "--tenant", "acme")
    assert done.code == 1
    assert done.out.startswith("1 asked")
    assert "line 2: " in done.err
    assert "line 3: " in done.err


def test_a_provider_that_refuses_the_key_has_the_exit_code_for_that(
    cache: Run, tmp_path: Path
) -> None:
    """The file is not gone through; what is wrong is said once."""
    file = lines(tmp_path / "w", *[{**HI, "seed": seed} for seed in range(50)])
    config = tmp_path / "refused.toml"
    config.write_text(
        PRESET.replace("FOLDER", str(tmp_path)).replace(
            'transport = "mock"', 'transport = { use = "mock", faults = "status=401" }', 1
        )
    )
    arguments = ["warm", file, "-p", "shop", "-c", str(config), "--tenant", "acme"]
    done = cache(*arguments)
    assert done.code == 3
    assert "401" in done.err or "key" in done.err
    assert cache(*arguments, "--json").json["stopped"] is not None


# --- at a terminal, and interrupted ------------------------------------------------------------


class Screen(StringIO):
    """A terminal: what is typed there, or what is shown."""

    def isatty(self) -> bool:
        """That is what makes it one."""
        return True


@pytest.mark.parametrize(("typed", "gone"), [("y\n", 3), ("YES\n", 3), ("n\n", 0), ("", 0)])
def test_somebody_is_asked(
    cache: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, gone: int
) -> None:
    """At a terminal; whatever is not yes is no, and then nothing is forgotten."""
    filled(tmp_path / "cache.db")
    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stdin", Screen(typed))
        screen = Screen()
        terminal.setattr("sys.stderr", screen)
        done = cache("clear", "-p", "shop")
    assert "Forget every kept answer in the preset 'shop'?" in screen.getvalue()
    assert done.code == (0 if gone else 1)
    assert len(cache("list", "-p", "shop", "--json").json) == 3 - gone


def program(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-m", "lamella.cli", "cache", *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, stdin=subprocess.DEVNULL, **pipes)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_an_interrupted_run_leaves_what_is_kept(cache: Run, tmp_path: Path) -> None:
    """Ctrl-C ends it with its exit code and how far it came; what was kept is whole."""
    config = tmp_path / "slow.toml"
    config.write_text(
        PRESET.replace("FOLDER", str(tmp_path)).replace(
            'transport = "mock"', 'transport = { use = "mock", latency = 600 }', 1
        )
    )
    given = {**HI, "answer": "Given."}
    file = lines(tmp_path / "w", given, {"nothing": 1}, {**HI, "seed": 1})
    arguments = ["-p", "shop", "-c", str(config), "--tenant", "acme", "--concurrency", "1"]
    with program("warm", file, *arguments, folder=tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("line 2: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 130
        assert process.stderr.read() == (
            "2 lines done. What was kept stays: start it again to go on.\n"
        )
    (entry,) = cache("list", "-p", "shop", "--json", "--content").json
    assert entry["content"] == "Given."


FILL = """
import anyio, sys
from pathlib import Path
from test_cache_cli import filled
for _ in range(2):
    filled(Path(sys.argv[1]))
"""


def test_stats_are_those_of_other_processes(cache: Run, tmp_path: Path) -> None:
    """What a process has counted is seen by others, also once it has ended."""
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": here}
    command = [sys.executable, "-c", FILL, str(tmp_path / "cache.db")]
    subprocess.run(command, check=True, env=environment)
    (found,) = cache("stats", "-p", "shop", "--json").json
    assert (found["since"]["hits"], found["since"]["stored"]) == (3, 3)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "-p", "memory"], "memory of each process"),
        (["stats", "-p", "memory"], "memory of each process"),
        (["list", "-p", "none"], "has no cache"),
        (["list", "-p", "shops"], "'shops'"),
        (["list", "-p", "shop", "--namespace", "x"], "namespace"),
        (["list", "--path", "none.db"], "no file"),
        (["list", "--use", "memory"], "memory of each process"),
        (["list", "--use", "nothing"], "nothing"),
        (["list", "--use", "sqlite"], "--path: is missing"),
        (["list", "--use", "sqlit"], "--use: There is no store 'sqlit'. Did you mean 'sqlite'?"),
        (["list", "-p", "shop", "--tenant", ""], "--tenant is empty"),
        (["purge", "-p", "shop", "--yes", "--tenant", ""], "--tenant is empty"),
        (["purge", "-p", "shop", "--yes", "--tenant", "acme", "--tag", ""], "--tag is empty"),
        (["warm", "lamella.toml", "-p", "shop", "--tenant", ""], "--tenant is empty"),
        (["list", "-p", "shop", "--path", "x"], "one or the other"),
        (["list", "--path", "x", "--url", "y"], "not both"),
        (["list", "-p", "shop", "--key", "env:CACHE_KEY"], "--key"),
        (["list", "--path", "lamella.toml", "--encrypted"], "--key"),
        (["list", "--path", "lamella.toml", "--key", "no reference"], "reference"),
        (["list", "-p", "shop", "--layer", "pii"], "--layer"),
        (["purge", "-p", "shop", "--yes"], "--tenant"),
        (["warm", "none.jsonl", "-p", "shop"], "cannot be read"),
        (["warm", "lamella.toml", "-p", "memory"], "memory of each process"),
        (["warm", "lamella.toml", "-p", "none"], "no Cache"),
        (["warm", "lamella.toml", "-p", "shop", "--concurrency", "0"], "concurrency"),
        (["warm"], "--file"),
        (["nothing"], "nothing"),
    ],
)
def test_mistakes(cache: Run, arguments: list[str], words: str) -> None:
    """What is wrong is said in a sentence, with the exit code for a wrong command line."""
    done = cache(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_file_that_is_no_store(cache: Run, tmp_path: Path) -> None:
    """It is said, and the file stays as it is."""
    before = (tmp_path / "lamella.toml").read_bytes()
    done = cache("list", "--path", "lamella.toml")
    assert done.code == 1
    assert "lamella.toml" in done.err
    assert (tmp_path / "lamella.toml").read_bytes() == before
