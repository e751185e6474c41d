"""Which kept answers a command is about, as options of the command line."""

from __future__ import annotations

from typing import Annotated, Any, Final

import attrs
from cyclopts import Parameter

from lamella import Secret
from lamella.cli._errors import UsageError
from lamella.cli._stack import Stack
from lamella_middlewares.cache._shelves import LAYERS, Place


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Where:
    """Which kept answers a command is about.

    Attributes:
        preset: The preset whose caches are meant, with their stores and keys. Without it and
            without a store, LAMELLA_ENV names it, or else it is development.
        config: The file with presets. Without it LAMELLA_CONFIG names it, or else it is
            lamella.toml in the working directory.
        use: In place of a preset: the name of a store, such as sqlite or redis.
        path: The file of that store; by itself it means sqlite.
        url: The address of that store; by itself it means redis.
        namespace: Only this namespace; without it all that are there.
        layer: Only answers of this layer: cache or semantic_cache.
        key: With --use, --path or --url: the secret that answers are signed with, such as
            env:CACHE_KEY.
        encrypted: With --key: they are encrypted with it, too.
    """

    preset: Annotated[str | None, Parameter(alias="-p")] = None
    config: Annotated[str | None, Parameter(alias="-c")] = None
    use: str | None = None
    path: str | None = None
    url: str | None = None
    namespace: str | None = None
    layer: str | None = None
    key: str | None = None
    encrypted: bool = False

    def place(self) -> Place:
        """Where to look.

        Raises:
            UsageError: If the options do not go together.
        """
        options = {
            name: given for name in ("path", "url") if (given := getattr(self, name)) is not None
        }
        by_hand = bool(options) or self.use is not None
        if self.layer not in {None, *LAYERS}:
            msg = f"--layer {self.layer!r} keeps no answers."
            raise UsageError(msg, hint=f"It is {' or '.join(LAYERS)}.")
        if by_hand and (self.preset is not None or self.config is not None):
            msg = "A preset names its stores itself, so it does not go with --use, --path or --url."
            raise UsageError(msg, hint="Give the one or the other.")
        if len(options) > 1:
            msg = "A store has a --path or an --url, not both."
            raise UsageError(msg, hint="Give the one that the cache's store has.")
        if self.key is not None and not by_hand:
            msg = "A preset's caches know their keys, so --key goes with a store only."
            raise UsageError(msg, hint="Leave it out, or name the store: --path FILE.")
        if self.encrypted and self.key is None:
            msg = "--encrypted answers can be read with their --key only."
            raise UsageError(msg, hint="Give it: --key env:CACHE_KEY.")
        common: dict[str, Any] = {"layer": self.layer, "namespace": self.namespace}
        if not by_hand:
            stack = Stack(preset=self.preset, config=self.config)
            return Place(preset=stack.name, config=self.config, **common)
        use = self.use or ("redis" if self.url is not None else "sqlite")
        key = None if self.key is None else Secret(self.key)
        return Place(use=use, options=options, key=key, encrypted=self.encrypted, **common)


NOWHERE: Final = Where()
