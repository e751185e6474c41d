"""Left out where the plugin is not installed."""

from __future__ import annotations

collect_ignore_glob: list[str] = []
try:
    import azure.keyvault.secrets  # noqa: F401

    import lamella_azure_keyvault  # noqa: F401 - are they there?
except ImportError:
    collect_ignore_glob.append("test_*.py")
