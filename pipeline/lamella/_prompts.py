"""A prompt by name: it stands in a conversation until its template has been written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from lamella._errors import TemplateError
from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import Opaque

if TYPE_CHECKING:
    from lamella._templates import PromptTemplate


@attrs.frozen(init=False, repr=False)
class Prompt(Message):
    """A prompt template and its variables, in the place of the messages that they make.

    ``ChatRequest.of(Prompt("support/reply", name="Ada"))``, alone or among other messages. The
    layer `Template` puts the messages there; without it nothing is sent. Who looks at it before
    sees which template it is, and none of its variables.

    Args:
        template: The name of a template, or a `PromptTemplate` itself.
        version: Which version; None is the one that the layer pins, or else the latest.
        **variables: The template's variables, all that have no default and no others.

    Raises:
        TypeError: If `template` is neither, or has a version of its own beside `version`.
    """

    unwritten: ClassVar[bool] = True

    template: str | PromptTemplate = attrs.field(kw_only=True)
    version: str | None = attrs.field(default=None, kw_only=True)
    variables: Mapping[str, Any] = attrs.field(
        default=NOTHING, hash=False, repr=False, kw_only=True
    )

    def __init__(
        self,
        template: str | PromptTemplate,
        /,
        *,
        version: str | None = None,
        **variables: Any,
    ) -> None:
        name = template if isinstance(template, str) else _name_of(template, version)
        if version is not None and not isinstance(version, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"Prompt({name!r}, version={version!r}): a version is text, such as '2'."
            raise TypeError(msg)
        shown = {"type": "prompt", "name": name, "version": version}
        super().__init__("user", Opaque(shown, "lamella"))
        fields = {"template": template, "version": version, "variables": dict(variables)}
        for field, value in fields.items():
            object.__setattr__(self, field, value)  # as attrs itself fills what is frozen

    def to_dict(self) -> dict[str, Any]:
        """Refused: what it stands for is not there yet, and its variables would be lost.

        Raises:
            TemplateError: Always.
        """
        msg = f"{self!r} has no dict: it stands for messages that are yet to be made."
        hint = "Make them: PromptLibrary(folder).get(name).messages(...) gives messages."
        raise TemplateError(msg, hint=hint)

    def __repr__(self) -> str:
        template = self.template
        name = repr(template) if isinstance(template, str) else template.label
        return f"Prompt({name}{'' if self.version is None else f', version={self.version!r}'})"


def _name_of(template: object, version: str | None) -> str:
    from lamella._templates import PromptTemplate

    if not isinstance(template, PromptTemplate):
        msg = (
            f"Prompt({template!r}): give the name of a template, or a PromptTemplate. A text with "
            "variables becomes one by PromptTemplate.of(text)."
        )
        raise TypeError(msg)
    if version is not None and version != template.version:
        msg = (
            f"Prompt(..., version={version!r}): the PromptTemplate given is version "
            f"{template.version!r}; leave `version` out, or give the name."
        )
        raise TypeError(msg)
    return template.name
