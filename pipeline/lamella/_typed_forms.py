"""Types to JSON Schemas, and texts to typed values: what `returns=` and tools are made of.

    form = form_of(Person)
    form.schema                  # for a model to read
    form.decode('{"name": "Ada", "age": 36}')   # Person(name="Ada", age=36), or a FormError
    form.encode(person)          # '{"name":"Ada","age":36}'

A form is made once per type and kept; making one takes a millisecond, decoding microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

import msgspec

from lamella._errors import ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella._schema_book import SchemaBook, schema_name
from lamella._schema_strict import NotStrict, strict_schema
from lamella._typed_annotations import Reading
from lamella._typed_nodes import Array, Node, bare
from lamella._typed_plain import plain
from lamella._typed_problems import FormError, Misfit, Problem, misfit

if TYPE_CHECKING:
    from lamella._partial_json import ClosedItems, GrowingValue
    from lamella._typed_schemas import SchemaNode

T = TypeVar("T")

WRAPPED: Final = "value"
"""The one property of the object that stands around what is no object by itself."""

_MOST_KEPT: Final = 1_000
"""Forms that are kept; a program that makes types as it goes does not grow by them."""


class Form(Generic[T]):
    """A type, as JSON has it. Made by `form_of`; safe for any number of threads.

    Attributes:
        type: What it was made of.
        name: A name that providers take: letters, digits, `_` and `-`, at most 64.
        schema: The JSON Schema of the type. Do not change it.
        wrapped: Whether a value is no JSON object by itself: a list, a union, a text. Providers
            want an object, so there `object_schema` and `strict` have the one property `value`.
        object_schema: `schema`, wrapped if it has to be.
        strict: The strict form of `object_schema`, which providers can hold a model to; None if
            the type cannot be said so.
        why_not: The place and the reason, where `strict` is None; else an empty text.
    """

    __slots__ = ("__weakref__", "_node", "name", "object_schema", "schema", "strict", "type",
                 "why_not", "wrapped")  # fmt: skip

    def __init__(self, given: Any, node: Node, name: str) -> None:
        self.type: Any = given
        self.name = schema_name(name)
        self._node = node
        book = SchemaBook()
        self.schema: Mapping[str, Any] = book.whole(node.schema(book))
        self.wrapped = self.schema.get("type") != "object"
        self.object_schema: Mapping[str, Any] = (
            _wrapped(self.schema) if self.wrapped else self.schema
        )
        self.strict: Mapping[str, Any] | None
        try:
            self.strict, self.why_not = strict_schema(self.object_schema), ""
        except NotStrict as reason:
            self.strict, self.why_not = None, str(reason)

    def decode(self, text: str | bytes) -> T:
        """The value that a JSON text is, bare or wrapped.

        Raises:
            FormError: If it is no JSON, or does not fit; with every problem that was found.
        """
        return self.check(self._parsed(text))

    def check(self, value: Any) -> T:
        """The typed value of a plain one: of what a JSON parser gives.

        Raises:
            FormError: If it does not fit.
        """
        try:
            return cast("T", self._read(value))
        except Misfit as wrong:
            problems = wrong.problems
        except RecursionError:
            problems = misfit("value that is nested less deeply", value).problems
        raise FormError(self.name, problems)  # out here, where it has no context with the value

    def encode(self, value: Any) -> str:
        """The JSON text of a value; not wrapped.

        Raises:
            TypeError: If something in it has no form in JSON; the message names its class.
            ValueError: If it holds a number that is none, or text that is not Unicode.
        """
        return msgspec.json.encode(plain(value)).decode()

    def growing(self) -> GrowingValue[T] | ClosedItems[Any]:
        """What reads the text of an answer as it comes: pieces in, values out.

        For a `list`, and for a JSON Schema of an array, it gives each item once, when it is
        complete. For anything else it gives the value again and again, each time with more of it,
        as soon as what has come fits the type.
        """
        from lamella._partial_json import ClosedItems, GrowingValue

        node = bare(self._node)
        if isinstance(node, Array) and _is_list(self.type):
            return ClosedItems(node.item.read)
        if isinstance(self.type, Mapping):
            read = cast("SchemaNode", node).item_reader()
            if read is not None:
                return ClosedItems(read)
        return GrowingValue(self._read, skip=self._node.kinds <= {"array", "object"})

    def unwrapped(self, value: Any) -> Any:
        """What stands in the wrapping, if the value is wrapped."""
        if self.wrapped and value.__class__ is dict and value.keys() == {WRAPPED}:
            return value[WRAPPED]
        return value

    def _read(self, value: Any) -> Any:
        inner = self.unwrapped(value)
        try:
            return self._node.read(inner)
        except Misfit:
            if inner is value:
                raise
            try:  # a type of which an object with only `value` is an instance
                return self._node.read(value)
            except Misfit:
                pass
            raise

    def _parsed(self, text: str | bytes) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError) as error:
            why = str(error) if isinstance(error, msgspec.DecodeError) else "it is not Unicode"
            problem = Problem((), "JSON", "text that is not JSON", why)
        except RecursionError:
            problem = Problem((), "value that is nested less deeply", "JSON nested too deeply")
        raise FormError(self.name, [problem])

    def __repr__(self) -> str:
        return f"Form({self.name!r})"


def form_of(given: Any) -> Form[Any]:
    """The form of a type.

    Args:
        given: A class (attrs, dataclass, TypedDict, NamedTuple, msgspec, pydantic), a type of
            Python's (`list[Person]`, `Literal["a", "b"]`, `Invoice | None`, `Annotated[...]`),
            pydantic's `TypeAdapter`, or a JSON Schema as a mapping.

    Raises:
        ConfigurationError: If JSON cannot carry it; it names the field and what to do.
    """
    key = _key(given)
    found = _kept.get(key)
    if found is not None:
        return found
    try:  # of a JSON Schema a copy: the caller's own may be changed later
        made = _made(msgspec.json.decode(key) if isinstance(given, Mapping) else given)
    except RecursionError:
        msg = "The type or JSON Schema nests too deeply, or holds itself in ever new forms."
        hint = "Take parts of it into '$defs'; have a generic class hold itself as it is."
        raise ConfigurationError(msg, hint=hint) from None
    if key is None:
        return made
    with _lock:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        return _kept.setdefault(key, made)


def _key(given: Any) -> Any:
    """What a form is kept under; None if it cannot be."""
    if isinstance(given, type):
        return given
    if isinstance(given, Mapping):
        try:
            return msgspec.json.encode(cast("Mapping[str, Any]", given))
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"The JSON Schema that was given is not JSON: {error}."
            raise ConfigurationError(msg, hint="Give dicts, lists, texts and numbers.") from None
    try:
        hash(given)
    except TypeError:
        return None
    return given, repr(given)  # `A | B` equals `B | A`, and is read in another order


def _made(given: Any) -> Form[Any]:
    if isinstance(given, Mapping):
        from lamella._typed_schemas import SchemaNode

        schema = cast("Mapping[str, Any]", given)
        title = schema.get("title")
        name = title if isinstance(title, str) and title else "answer"
        return Form(schema, SchemaNode(schema, name), name)
    name = _name(given)
    if type(given).__module__.partition(".")[0] == "pydantic":  # a TypeAdapter
        from lamella._typed_pydantic import PydanticNode

        adapted: Node = PydanticNode(given, name)
        return Form(given, adapted, getattr(adapted, "title", name))
    if isinstance(given, str | bytes | int | float | list | tuple | set):
        msg = f"{given!r} is a value, and no type."
        raise ConfigurationError(msg, hint="Give a class, list[Person], A | B, or a JSON Schema.")
    return Form(given, Reading(name).node(given), name)


def _name(given: Any) -> str:
    """`Person`, `list_Person`, `Invoice_or_Receipt`."""
    args = getattr(given, "__args__", None)
    if isinstance(given, type) and not args:
        return given.__name__
    own = getattr(given, "__name__", None) or type(given).__name__
    if not args:
        return str(own)
    names = [_name(each) for each in cast("Sequence[Any]", args)]
    if own in {"Union", "UnionType", "Optional"}:
        return "_or_".join(names)
    if own in {"Literal", "Annotated"}:
        return str(own) if own == "Literal" else names[0]
    return "_".join([str(own), *names])


def _is_list(given: Any) -> bool:
    """Whether a type checker takes it for a list."""
    while get_origin(given) is Annotated:
        given = get_args(given)[0]
    return given is list or get_origin(given) is list


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {key: _moved(each) for key, each in schema.items() if key != "$defs"}
    found: dict[str, Any] = {
        "type": "object",
        "properties": {WRAPPED: inner},
        "required": [WRAPPED],
    }
    if "$defs" in schema:
        found["$defs"] = _moved(schema["$defs"])
    return found


def _moved(schema: Any) -> Any:
    """A part of a schema that went into the wrapping, with its references into the rest."""
    if isinstance(schema, Mapping):
        given = cast("Mapping[str, Any]", schema)
        found = {key: _moved(each) for key, each in given.items()}
        reference = found.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#/$defs/"):
            found["$ref"] = f"#/properties/{WRAPPED}{reference.removeprefix('#')}"
        return found
    return [_moved(each) for each in cast("Any", schema)] if isinstance(schema, list) else schema


_lock = fork_safe_lock()
_kept: dict[Any, Form[Any]] = {}

__all__ = ("WRAPPED", "Form", "FormError", "form_of")
