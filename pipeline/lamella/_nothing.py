"""The empty mapping that records share as a default."""

from __future__ import annotations

from typing import Any, Final, NoReturn

_REFUSAL = "This is the shared empty default; make a mapping of your own."


class _Nothing(dict[str, Any]):
    """An empty dict that stays empty, and is the same object after copying and pickling.

    A `MappingProxyType` would do, but cannot be pickled, and records travel between processes.
    """

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> NoReturn:
        raise TypeError(_REFUSAL)

    def __ior__(self, other: Any) -> NoReturn:  # type: ignore[misc]
        raise TypeError(_REFUSAL)

    def update(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(_REFUSAL)

    def setdefault(self, key: str, default: Any = None) -> NoReturn:
        raise TypeError(_REFUSAL)

    def __reduce__(self) -> str:
        return "NOTHING"

    def __copy__(self) -> _Nothing:
        return self

    def __deepcopy__(self, _: object) -> _Nothing:
        return self


NOTHING: Final = _Nothing()
