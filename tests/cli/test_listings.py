"""`lamella explain`, `plugins` and `models`: what there is."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from lamella._registry import Registry, using


def test_explain_shows_the_layers_and_where_the_preset_comes_from(
    lamella: Any, tmp_path: Path
) -> None:
    """The stack as it will run, and the file or distribution that it is from."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\ntransport = "mock"\n'
        'layers = ["deadline", { use = "retry", attempts = 5 }]\n'
    )
    done = lamella("explain", "mine")
    assert done.code == 0
    assert done.out == snapshot("""\
preset 'mine' from lamella.toml
mine: outermost first
  1. deadline  [observe]  from lamella
  2. retry     [attempt]  attempts=5  may: calls again  from lamella
  -> mock
""")
    assert "preset 'test' from lamella" in lamella("explain", "test").out


def test_explain_without_a_name_shows_what_would_run(lamella: Any) -> None:
    """The preset and the transport that `lamella run` takes."""
    assert lamella("explain", "--json").json["transport"] == "mock"
    found = lamella("explain", "production", "--json").json
    assert found["transport"] == "openai"
    assert [layer["name"] for layer in found["layers"]][-1] == "cost"
    assert {"preset", "from", "doubts", "allowed"} <= set(found)


def test_models_are_listed_with_limits_and_prices(lamella: Any) -> None:
    """A line a model, of one provider or all."""
    done = lamella("models", "--provider", "mock")
    assert done.code == 0
    header, *lines = done.out.splitlines()
    assert header.split()[:2] == ["model", "provider"]
    assert lines
    assert all(line.split()[1] == "mock" for line in lines)


def test_names_are_whole_on_a_narrow_terminal(terminal: Any) -> None:
    """A name in pieces can be neither read nor copied."""
    models = terminal("models", "--provider", "groq", COLUMNS="40")
    models.expect(b"llama-3.3-70b-versatile")
    assert models.end() == 0


def test_models_as_json(lamella: Any) -> None:
    """The same for programs; prices are texts, so that they stay exact."""
    everything = lamella("models", "--json").json
    [mock] = [card for card in everything if (card["provider"], card["name"]) == ("mock", "mock")]
    assert mock["input_per_million"].startswith("$")
    assert mock["context_window"] > 0
    assert len({card["provider"] for card in everything}) > 3


@pytest.fixture
def broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin whose module cannot be imported, beside one that works."""
    (tmp_path / "lamella_works.py").write_text(
        "def lamella_transports():\n    return {'works': 'lamella_works:Works'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("broken", "lamella_is_not_there", "lamella"),
        EntryPoint("works", "lamella_works", "lamella"),
    ]
    with using(Registry(points)):
        yield


def test_plugins_are_listed_with_what_they_contribute(lamella: Any) -> None:
    """The library's own are plugins as well."""
    done = lamella("plugins")
    assert done.code == 0
    assert "middlewares" in done.out
    assert "retry" in done.out
    own = [plugin for plugin in lamella("plugins", "--json").json if plugin["contributes"]]
    assert all(plugin["problems"] == [] for plugin in own)


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_listed_with_its_problem(lamella: Any) -> None:
    """The table names it and standard error says what is wrong; the others are listed as ever."""
    done = lamella("plugins")
    assert done.code == 0
    assert "works" in done.out
    assert "failed" in done.out
    assert "lamella_is_not_there" in done.err
    problems = {
        plugin["entry_point"]: plugin["problems"] for plugin in lamella("plugins", "--json").json
    }
    assert [bool(found) for found in problems.values()] == [True, False]
