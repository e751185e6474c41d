"""Types to JSON Schemas, and texts to typed values: what `returns=` and tools are made of.

    form = form_of(Person)
    form.schema                  # for a model to read
    form.decode('{"name": "Ada", "age": 36}')   # Person(name="Ada", age=36), or a FormError
    form.encode(person)          # '{"name":"Ada","age":36}'

A form is made once per type and kept; making one takes a millisecond, decoding microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import attrs
import msgspec

from lamella._errors import ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella._schema_book import SchemaBook, schema_name
from lamella._schema_strict import NotStrict, strict_schema
from lamella._typed_annotations import Reading
from lamella._typed_nodes import Described, Node, bare
from lamella._typed_plain import plain
from lamella._typed_problems import FormError, Misfit, Problem, misfit
from lamella._typed_records import NO_DEFAULT, Field, Record

T = TypeVar("T")

WRAPPED: Final = "value"
"""The one property of the object that stands around what is no object by itself."""

_MOST_KEPT: Final = 1_000
"""Forms of types that are no classes (`list[Person]`), and so are not dropped with one."""


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
            raise FormError(self.name, wrong.problems) from None
        except RecursionError:
            deep = misfit("value that is nested less deeply", value)
            raise FormError(self.name, deep.problems) from None

    def encode(self, value: Any) -> str:
        """The JSON text of a value; not wrapped.

        Raises:
            TypeError: If something in it has no form in JSON; the message names its class.
            ValueError: If it holds a number that is none, or text that is not Unicode.
        """
        return msgspec.json.encode(plain(value)).decode()

    def item(self) -> Form[Any] | None:
        """The form of the items, where the type is an array of one kind; else None."""
        node = bare(self._node)
        inner = getattr(node, "item", None)
        return Form[Any](self.type, inner, f"{self.name}_item") if isinstance(inner, Node) else None

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


@attrs.frozen
class Parameter:
    """One parameter of a function, for `form_of_parameters`.

    Attributes:
        annotation: Its type.
        default: What it is without an argument; `NO_DEFAULT` if it needs one.
        description: For the model.
    """

    annotation: Any
    default: Any = NO_DEFAULT
    description: str = ""


def form_of(given: Any) -> Form[Any]:
    """The form of a type.

    Args:
        given: A class (attrs, dataclass, TypedDict, NamedTuple, msgspec, pydantic), a type of
            Python's (`list[Person]`, `Literal["a", "b"]`, `Invoice | None`, `Annotated[...]`),
            pydantic's `TypeAdapter`, or a JSON Schema as a mapping.

    Raises:
        ConfigurationError: If JSON cannot carry it; it names the field and what to do.
    """
    kept: Any = _by_class if isinstance(given, type) else _by_type
    try:
        found = kept.get(given)
    except TypeError:  # it has no hash, or no weak references
        return _made(given)
    if found is not None:
        return cast("Form[Any]", found)
    made = _made(given)
    with _lock:
        if kept is _by_type and len(_by_type) >= _MOST_KEPT:
            _by_type.clear()
        try:
            return cast("Form[Any]", kept.setdefault(given, made))
        except TypeError:
            return made


def form_of_parameters(
    name: str, parameters: Mapping[str, Parameter], about: str = ""
) -> Form[Any]:
    """The form of a function's arguments: an object; it decodes to a dict of those that are there.

    Args:
        name: Of the function.
        parameters: By their names.
        about: What the function does.

    Raises:
        ConfigurationError: If JSON cannot carry one of them.
    """
    reading = Reading(f"{name}()")
    record = reading.add(Record(name, dict[str, Any], None, about))
    fields: list[Field] = []
    for each, parameter in parameters.items():
        node = reading.part(parameter.annotation, f".{each}", {})
        required = parameter.default is NO_DEFAULT
        default = NO_DEFAULT if required else _plain_or_none(parameter.default)
        fields.append(Field(each, node, required, default, parameter.description))
    record.take(fields)
    reading.finish()
    return Form(dict[str, Any], record, name)


def _made(given: Any) -> Form[Any]:
    if isinstance(given, Mapping):
        from lamella._typed_schemas import SchemaNode  # noqa: PLC0415 - few write schemas by hand

        schema = cast("Mapping[str, Any]", given)
        title = schema.get("title")
        name = title if isinstance(title, str) and title else "answer"
        return Form(given, SchemaNode(schema, name), name)
    name = _name(given)
    if type(given).__module__.partition(".")[0] == "pydantic":  # a TypeAdapter
        from lamella._typed_pydantic import PydanticNode  # noqa: PLC0415 - only with pydantic

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


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {key: each for key, each in schema.items() if key != "$defs"}
    found: dict[str, Any] = {
        "type": "object",
        "properties": {WRAPPED: inner},
        "required": [WRAPPED],
    }
    if "$defs" in schema:
        found["$defs"] = schema["$defs"]
    return found


def _plain_or_none(value: Any) -> Any:
    try:
        return plain(value)
    except (TypeError, ValueError):
        return NO_DEFAULT


_lock = fork_safe_lock()
_by_class: WeakKeyDictionary[Any, Form[Any]] = WeakKeyDictionary()
_by_type: dict[Any, Form[Any]] = {}


__all__ = (
    "NO_DEFAULT",
    "WRAPPED",
    "Described",
    "Form",
    "FormError",
    "Parameter",
    "Problem",
    "form_of",
    "form_of_parameters",
)
