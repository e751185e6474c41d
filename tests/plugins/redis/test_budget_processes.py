"""A budget that processes share, on a real server, and what its command shows and sets there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import budget_spenders
import pytest
from redis_peers import Valkey

from lamella import BudgetExceededError, ChatRequest, Context, Pipeline
from lamella.cli import main
from lamella.testing import Scripted
from lamella_middlewares import Budget


def test_two_processes_spend_one_budget(own_valkey: Valkey) -> None:
    """Of 50 calls of $0.10 in two processes, ten find room in $1, to the nano-dollar."""
    child = subprocess.Popen(
        [sys.executable, budget_spenders.__file__, "trio", own_valkey.tcp],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    begin, said = child.stdin, child.stdout
    assert begin is not None
    assert said is not None

    def go() -> None:
        begin.write("go\n")
        begin.flush()

    try:
        assert said.readline() == "ready\n"
        here = budget_spenders.spend("asyncio", own_valkey.tcp, go)
        there = [int(word) for word in child.communicate(timeout=60)[0].split()]
    finally:
        child.kill()
        child.wait()
    assert [one + other for one, other in zip(here, there, strict=True)] == [10, 40, 10**9]


PRESET = """
[presets.shop]
transport = "mock"
layers = [
    { use = "budget", requests = 3, per = "user", window = "month" },
    { use = "budget", tokens = 1000000 },
    { use = "budget", tokens = 5000, per = "user" },
]

[presets.shop.stores]
leases = { use = "redis", url = "URL", timeout = 60 }
blobs = { use = "redis", url = "URL", timeout = 60 }
"""


@pytest.fixture
def budget(
    valkey: Valkey,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, Any, str]]:
    """The program, in a folder with a preset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamella.toml").write_text(PRESET.replace("URL", valkey.tcp))

    def run(*arguments: str) -> tuple[int, Any, str]:
        code = main(["budget", *arguments, "--preset", "shop"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in arguments else out, err

    return run


def test_what_is_set_from_outside_holds_at_once(
    budget: Callable[..., tuple[int, Any, str]], tmp_path: Path
) -> None:
    """Another process sees what is spent, and gives one user more, without a restart."""

    async def use() -> None:
        pipeline = Pipeline.preset("shop", config=tmp_path / "lamella.toml")
        pipeline = Pipeline(
            [Budget(requests=3, per="user", window="month", refresh=0.01)],
            Scripted(["ok"], repeat=True),
            ports=pipeline.ports,
        )
        ask = ChatRequest.of("hi", model="m", context=Context(user="ann"))
        async with pipeline:
            for _ in range(3):
                await pipeline.run(ask)
            with pytest.raises(BudgetExceededError):
                await pipeline.run(ask)
            code = await anyio.to_thread.run_sync(budget, "set", "5", "user=ann")
            assert (code[0], "several limits" in code[2]) == (2, True)
            code = await anyio.to_thread.run_sync(
                budget, "set", "5", "user=ann", "--unit", "requests"
            )
            assert code[0] == 0
            await anyio.sleep(0.02)
            await pipeline.run(ask)

    anyio.run(use)
    _, levels, _ = budget("show", "user=ann", "--json")
    users = [level for level in levels if level["scope"] and level["unit"] == "requests"]
    assert [(each["limit"], each["spent"], each["left"]) for each in users] == [(5, 4, 1)]
    assert users[0]["overridden"]
    assert users[0]["resets_at"].endswith("-01T00:00:00+00:00")
    code, table, _ = budget("show")
    assert code == 0
    assert "user=ann (set)" in table
    assert "1,000,000 tokens" in table
    assert budget("unset", "user=ann", "--unit", "requests")[0] == 0
    assert budget("set", "5", "colour=red")[0] == 2
    assert budget("set", "many", "user=ann", "--unit", "requests")[0] == 2
