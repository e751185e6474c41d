"""Whoever names something of a plugin that is not installed is told which one to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella import Registry, Secret, SecretError, UnknownNameError, registry
from lamella._own_plugins import OWN_PLUGINS
from lamella._registry import key_of, using

FOLDERS = {
    path.parent.name for path in (Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml")
}


def test_every_name_of_every_plugin_is_known() -> None:
    """The core's list is what the plugins of this repository register."""
    found: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    for plugin in registry().plugins():
        folder = plugin.distribution.removeprefix("lamella-").replace("-", "_")
        if folder not in FOLDERS:
            continue
        seen.add(folder)
        for kind, named in plugin.contributes.items():
            if kind != "model_cards":
                found.setdefault(kind, {}).update(
                    {key_of(name): plugin.distribution for name in named}
                )
    # lamella-ray registers nothing: it is called by name, and is not installed here.
    assert seen | {"ray"} == FOLDERS
    assert found == {kind: dict(names) for kind, names in OWN_PLUGINS.items()}


@pytest.mark.parametrize(
    ("kind", "name", "distribution"),
    [
        ("detectors", "presidio", "lamella-presidio"),
        ("stores", "redis", "lamella-redis"),
        ("transports", "Ollama-Native", "lamella-ollama"),
    ],
)
def test_a_missing_plugin_is_named(kind: str, name: str, distribution: str) -> None:
    """The error says what to install, and offers no other names."""
    with pytest.raises(UnknownNameError) as caught:
        Registry([]).get(kind, name)  # type: ignore[arg-type]
    assert str(caught.value).endswith(f"{name!r}. A plugin brings it: pip install {distribution}")


def test_a_missing_store_is_named_by_what_it_is_for() -> None:
    """Where only a part of a plugin's stores has the name, it is found by both together."""
    with pytest.raises(UnknownNameError, match="pip install lamella-postgres"):
        Registry([]).store("postgres", "spend")
    with pytest.raises(UnknownNameError) as caught:
        Registry([]).store("postgres", "leases")
    assert "lamella-postgres" not in str(caught.value)


def test_a_missing_source_of_secrets_is_named() -> None:
    """A scheme that a plugin would read says which; what stands behind it is not repeated."""
    with using(Registry([])), pytest.raises(SecretError) as caught:
        Secret("aws-secrets:app/openai")
    words = "by 'aws-secrets:'. A plugin brings it: pip install lamella-aws-secrets"
    assert str(caught.value).endswith(words)
    assert "openai" not in str(caught.value)
