"""Left out where the plugin is not installed."""

from __future__ import annotations

collect_ignore_glob: list[str] = []
try:
    import keyring  # noqa: F401

    import lamella_keyring  # noqa: F401 - are they there?
except ImportError:
    collect_ignore_glob.append("test_*.py")
