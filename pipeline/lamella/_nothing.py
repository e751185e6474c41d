"""The empty mapping that records share as a default."""

from __future__ import annotations

from typing import Any, Final, NoReturn


class _Nothing(dict[str, Any]):
    """An empty dict that stays empty, and is the same object after copying and pickling.

    A `MappingProxyType` would do, but cannot be pickled, and records travel between processes.
    """

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        msg = "This is the shared empty default; make a mapping of your own."
        raise TypeError(msg)

    __setitem__ = __ior__ = update = setdefault = _refuse

    def __reduce__(self) -> str:
        return "NOTHING"

    def __copy__(self) -> _Nothing:
        return self

    def __deepcopy__(self, _: object) -> _Nothing:
        return self


NOTHING: Final = _Nothing()
