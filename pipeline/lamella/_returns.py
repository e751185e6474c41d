"""What a caller may ask to have an answer as: a class, a type of any other form, or a schema."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, get_args, get_origin

from lamella._errors import ConfigurationError

T = TypeVar("T")

_OBJECTS: Final = (
    "__attrs_attrs__", "__dataclass_fields__", "__struct_fields__", "__pydantic_fields__",
)  # fmt: skip
"""What the classes have that a value may be an object of."""


class Returns(Generic[T]):
    """A type that is no class, for `returns=`: `Returns[Invoice | Receipt]()`.

    A type checker takes a union, a `Literal` or an `Annotated` for a value, not for a type; in
    square brackets it takes it for what it is, and `response.value` has that type.
    """

    @property
    def type(self) -> Any:
        """What stands in the square brackets.

        Raises:
            ConfigurationError: If nothing does.
        """
        given = get_args(getattr(self, "__orig_class__", None))
        if not given:
            msg = "Returns() does not say what the value is to be."
            raise ConfigurationError(msg, hint="Write the type: Returns[Invoice | Receipt]().")
        return given[0]

    def __repr__(self) -> str:
        given = get_args(getattr(self, "__orig_class__", None))
        return f"Returns[{given[0]!r}]()" if given else "Returns()"


def asked_type(returns: Any) -> Any:
    """What `returns=` asks for: a type, or a JSON Schema.

    Raises:
        ConfigurationError: If it is a value, which is no type.
    """
    if isinstance(returns, Returns):
        return returns.type  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if returns is Returns:
        msg = "returns=Returns does not say what the value is to be."
        raise ConfigurationError(msg, hint="Write the type: Returns[Invoice | Receipt]().")
    if get_origin(returns) is Returns:
        msg = "returns=Returns[...] is a class, and what is wanted is an object of it."
        raise ConfigurationError(msg, hint="Write it with brackets: Returns[Invoice | Receipt]().")
    kind: type[object] = returns.__class__
    if not isinstance(returns, type) and any(hasattr(kind, name) for name in _OBJECTS):
        msg = f"returns= was given an object of {kind.__name__}, and no type."
        raise ConfigurationError(msg, hint=f"Write returns={kind.__name__}.")
    if isinstance(returns, str | bytes | int | float | list | tuple | set):
        msg = f"returns={returns!r} is a value, and no type."
        hint = "Give a class, a type such as list[Person], Returns[A | B](), or a JSON Schema."
        raise ConfigurationError(msg, hint=hint)
    if returns == {}:
        msg = "returns={} is an empty schema, which anything fits."
        raise ConfigurationError(msg, hint='Say at least {"type": "object"}.')
    return returns
