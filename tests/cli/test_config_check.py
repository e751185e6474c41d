"""`lamella test-config`: what is set, what is missing, and what answers."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from lamella.cli._variables import Variables
from lamella.testing import MockServer

SECRET = "sk-do-not-show-this"


def states(found: Any, kind: str) -> dict[str, str]:
    """The state of each preset or transport."""
    return {each["name"]: each["state"] for each in found[kind]}


def test_nothing_configured_is_no_failure(lamella: Any) -> None:
    """Transports that nobody has configured may lack what they need."""
    done = lamella("test-config")
    assert done.code == 0
    assert "OPENAI_API_KEY" in done.out


def test_variables_are_named_and_never_shown(lamella: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are set and those that are missing, by name."""
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    done = lamella("test-config")
    [line] = [line for line in done.out.splitlines() if line.startswith("groq ")]
    assert line.split() == ["groq", "ready", "GROQ_API_KEY"]
    assert SECRET not in done.out + done.err
    found = lamella("test-config", "--json").json
    [azure] = [each for each in found["transports"] if each["name"] == "azure"]
    assert azure["missing"] == snapshot(
        [
            "AZURE_OPENAI_API_KEY or AZURE_API_KEY or AZURE_OPENAI_AD_TOKEN",
            "AZURE_OPENAI_ENDPOINT or AZURE_RESOURCE_NAME",
        ]
    )


def test_a_preset_that_lacks_its_key_fails_the_check(
    lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a preset of the file, what is missing is an error; with it, the check succeeds."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\nextends = "production"\n'
        'transport = { use = "openai", api_key = "env:MY_KEY", model = "m" }\n'
    )
    done = lamella("test-config")
    assert done.code == 1
    assert "preset mine: " in done.err
    assert "MY_KEY" in done.err
    monkeypatch.setenv("MY_KEY", SECRET)
    done = lamella("test-config", "--json")
    assert done.code == 0
    assert states(done.json, "presets") == {"mine": "ready"}
    assert SECRET not in done.out + done.err


def test_all_mistakes_of_a_preset_are_listed(lamella: Any, tmp_path: Path) -> None:
    """Each with its place in the file; the presets that are right are built."""
    (tmp_path / "lamella.toml").write_text(
        """
        [presets.right]
        extends = "test"

        [presets.wrong]
        layers = ["retyr", { use = "retry", attempts = 0 }]
        transport = "mock"
        """
    )
    done = lamella("test-config", "--json")
    assert done.code == 1
    assert states(done.json, "presets") == {"right": "ready", "wrong": "wrong"}
    [_, wrong] = done.json["presets"]
    assert len(wrong["problems"]) == 2
    assert "presets.wrong.layers[0]" in wrong["problems"][0]
    assert "presets.wrong.layers[1]" in wrong["problems"][1]


def test_a_file_that_is_no_toml_fails_the_check(lamella: Any, tmp_path: Path) -> None:
    """The place of the mistake is told, and the transports are looked at all the same."""
    (tmp_path / "lamella.toml").write_text("[presets.mine\n")
    done = lamella("test-config", "--json")
    assert done.code == 1
    assert "line 1" in done.json["presets"][0]["problems"][0]
    assert states(done.json, "transports")["mock"] == "ready"


def test_the_preset_of_the_environment_counts(
    lamella: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAMELLA_ENV configures a preset, a built-in one too."""
    monkeypatch.setenv("LAMELLA_ENV", "production")
    done = lamella("test-config")
    assert done.code == 1
    assert "OPENAI_API_KEY" in done.err


def test_live_asks(lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--live` asks what lacks nothing, and fails for a preset whose transport does not answer."""
    with MockServer(keys=["right"]).start_in_thread() as server:
        monkeypatch.setenv("RIGHT", "right")
        monkeypatch.setenv("WRONG", "wrong")
        (tmp_path / "lamella.toml").write_text(
            "".join(
                f'[presets.{name}]\nlayers = []\ntransport = {{ use = "openai", '
                f'base_url = "{server.url}", api_key = "env:{name.upper()}" }}\n'
                for name in ("right", "wrong")
            )
        )
        assert lamella("test-config").code == 0
        done = lamella("test-config", "--live", "--json")
    assert done.code == 1
    assert [each["answers"] for each in done.json["presets"]] == ["yes (200)", "no (401)"]


def test_variables_of_which_one_will_do() -> None:
    """Of several that may hold one thing, one is enough; an empty one counts as not set."""
    variables = Variables(needed=(("A", "B"), ("C",)), others=("D",))
    assert variables.absent({}) == ("A or B", "C")
    assert variables.absent({"B": "x", "C": ""}) == ("C",)
    assert variables.present({"B": "x", "D": "y", "E": "z"}) == ("B", "D")


def test_secrets_of_layers_and_stores_are_looked_for(
    lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a layer's key lacks is said before a call finds out, all of it; nothing is written."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\ntransport = "mock"\nlayers = [\n'
        '  { use = "audit", directory = "log", key = "env:MY_AUDIT", sign_with = "env:MY_PEM" },\n'
        '  { use = "pii", key = "env:MY_PII" },\n'
        '  { use = "guard", rules = { use = "max_length", characters = 5 }, '
        'approval_key = "env:MY_GUARD" },\n'
        '  { use = "cache", packing = { key = "env:MY_CACHE" }, '
        'store = { use = "redis", url = "env:MY_OWN_REDIS" } },\n]\n'
        'stores.blobs = { use = "redis", url = "env:MY_REDIS" }\n'
    )
    done = lamella("test-config")
    assert done.code == 1
    wanted = ("AUDIT", "PEM", "PII", "GUARD", "CACHE", "REDIS", "OWN_REDIS")
    for name in [f"MY_{name}" for name in wanted]:
        assert f"export {name}=" in done.err

    for name in ("MY_AUDIT", "MY_PII", "MY_GUARD", "MY_CACHE"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("MY_PEM", SECRET)
    monkeypatch.setenv("MY_REDIS", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("MY_OWN_REDIS", "redis://127.0.0.1:1/1")
    [preset] = lamella("test-config", "--json").json["presets"]
    [problem] = preset["problems"]
    assert problem.startswith("audit: Audit(sign_with=...): the secret is no Ed25519 private key")

    monkeypatch.setenv("MY_PII", "short")
    monkeypatch.setenv("MY_PEM", "MC4CAQAwBQYDK2VwBCIEIPTnk7nLJ7N1mSQXyz9KbKrkvXz1d0J1cQ0b3bX0y7YQ")
    done = lamella("test-config")
    assert "preset mine: pii: PII(key=...): the key has fewer than 16 characters." in done.err
    assert "preset mine: cache" not in done.err
    monkeypatch.setenv("MY_CACHE", "short")
    done = lamella("test-config")
    assert "preset mine: cache: Packing(key=...): the key has fewer than 16" in done.err
    assert SECRET not in done.out + done.err
    assert not (tmp_path / "log").exists()


def test_where_things_are_kept_is_looked_at(
    lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of somebody else's is told, by the layer whose it is; looking makes nothing."""
    (tmp_path / "text").write_text("Dear diary, this is no database. " * 100)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE notes (text)")
    other.close()
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\ntransport = "mock"\nlayers = [{ use = "spend", path = "text" }, '
        '{ use = "cache", store = { use = "sqlite", path = "other.db" } }]\n'
        'stores.leases = { use = "sqlite", path = "other.db" }\n'
        '[presets.good]\ntransport = "mock"\nlayers = [{ use = "spend", path = "new.db" }]\n'
        '[presets.postgres]\ntransport = "mock"\nlayers = [{ use = "spend", '
        'store = { use = "postgres", url = "postgresql://me@127.0.0.1:1/x" } }]\n'
        '[presets.redis]\ntransport = "mock"\nlayers = []\n'
        'stores.leases = { use = "redis", url = "env:MY_REDIS" }\n'
    )
    monkeypatch.setenv("MY_REDIS", "redis://127.0.0.1:1/0")
    there = sorted(tmp_path.iterdir())
    mine, good, postgres, redis = lamella("test-config", "--json").json["presets"]
    assert sorted(tmp_path.iterdir()) == there
    assert [each.split(":")[0] for each in mine["problems"]] == [
        "spend",
        "cache.store",
        "stores.leases",
    ]
    assert "file is not a database" in mine["problems"][0]
    assert "database of another program" in mine["problems"][2]
    assert good["problems"] == []
    [problem] = postgres["problems"]
    assert problem.startswith("spend: PostgresSpend: ")
    assert redis["problems"] == []
    redis = lamella("test-config", "--json", "--live").json["presets"][-1]
    assert redis["problems"][0].startswith("stores.leases: Redis")
