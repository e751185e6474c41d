"""Names that this project's own plugins bring, for whoever names one that is not installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

OWN_PLUGINS: Final[Mapping[str, Mapping[str, str]]] = {
    "detectors": {"presidio": "lamella-presidio"},
    "middlewares": {
        "opentelemetry": "lamella-opentelemetry",
        "prometheus": "lamella-prometheus",
    },
    "secret_sources": {
        "aws_secrets": "lamella-aws-secrets",
        "azure_keyvault": "lamella-azure-keyvault",
        "keyring": "lamella-keyring",
        "vault": "lamella-vault",
    },
    "stores": {
        "postgres_spend": "lamella-postgres",
        "redis": "lamella-redis",
        "redis_blobs": "lamella-redis",
        "redis_vectors": "lamella-redis",
    },
    "transports": {
        "anthropic": "lamella-anthropic",
        "bedrock": "lamella-bedrock",
        "google": "lamella-google",
        "ollama_native": "lamella-ollama",
        "vertex": "lamella-google",
    },
}
"""The distribution of each name, by kind. Strangers' plugins are not looked for by their names."""


def how_to_get(kind: str, key: str, installed: Collection[str]) -> str:
    """A sentence that says what to install for a name.

    Args:
        kind: What kind of thing it is.
        key: The name, as names are compared.
        installed: The distributions that are here, whether they may load or not.

    Returns:
        Nothing for a name of nobody known, or of one that is here and failed for another reason.
    """
    distribution = OWN_PLUGINS.get(kind, {}).get(key)
    if distribution is None or distribution in installed:
        return ""
    return f"A plugin brings it: pip install {distribution}"
