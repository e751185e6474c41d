"""Template: prompts with names become messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import attrs

from lamella import (
    ChatRequest,
    Context,
    Handler,
    Message,
    Prompt,
    PromptLibrary,
    PromptTemplate,
    Request,
    Response,
    TokenCountRequest,
    middleware,
)
from lamella._nothing import NOTHING
from lamella._options import flag, refused, whole
from lamella._template_shelves import items_of
from lamella._template_values import MOST_CHARACTERS

T = TypeVar("T")
R = TypeVar("R", bound=Response)

Folder: TypeAlias = str | os.PathLike[str]


def _tag(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise refused(layer, option, value, "the name of a tag, such as 'prompt', or None for none")


def _pins(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    pairs: list[tuple[Any, Any]] = list(value.items()) if hasattr(value, "items") else [(None, 0)]
    if not all(isinstance(each, str) for pair in pairs for each in pair):
        want = "a version for each template's name, such as {'support/reply': '2'}"
        raise refused(layer, option, value, want)


def _all(templates: Iterable[PromptTemplate]) -> tuple[PromptTemplate, ...]:
    return items_of(templates)  # of which the library says what is wrong with them


def _library(layer: Any) -> PromptLibrary:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    return PromptLibrary(layer.folders, templates=layer.templates, pins=layer.pins)


@middleware(phase="compose", rank=10, once=True, effects=("changes requests",))
@attrs.frozen(eq=False)
class Template:
    """Puts messages in the place of each `Prompt` of a conversation.

    Templates are files of a folder, `support/reply.toml` being `support/reply`; or come from
    plugins, or from code. Variables are checked against the types that the template states; a value
    is written as it is, never read as syntax, and never speaks in another role. What the request
    leaves open is taken from the template's defaults.

    Args:
        folders: A folder of templates, or several; the first that has a name counts for it. Read
            when the layer is made.
        templates: Templates made in code, with names; they come before those of folders.
        pins: The version of some templates that is taken where a prompt names none. A template
            without is taken in its latest version that is no draft.
        tag: The tag of the call that says which prompt it is for, as `support/reply@2`: then
            what each prompt costs can be reported. One that the caller has set stays. None sets
            none.
        reload: Whether files that have changed are read again; every call then looks at all of
            them. For development.
        max_characters: How long the texts of one prompt may become, 1 or more.

    Raises:
        ConfigurationError: If an option is wrong, or a file; all mistakes of all files at once.
    """

    folders: Folder | Iterable[Folder] = ()
    templates: Iterable[PromptTemplate] = attrs.field(default=(), converter=_all)
    pins: Mapping[str, str] = attrs.field(default=NOTHING, validator=_pins)
    tag: str | None = attrs.field(default="prompt", validator=_tag)
    reload: bool = attrs.field(default=False, validator=flag)
    max_characters: int = attrs.field(default=MOST_CHARACTERS, validator=whole(1))
    library: PromptLibrary = attrs.field(
        init=False, repr=False, default=attrs.Factory(_library, takes_self=True)
    )

    @property
    def fingerprint(self) -> str:
        """What tells it from others, for the keys of caches: the templates themselves."""
        return f"template:{self.library.fingerprint}"

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on with messages in the place of its prompts.

        Raises:
            TemplateError: If a name, a version or a variable is wrong; nothing is sent.
            ConfigurationError: If a file has changed, and is wrong now.
            PluginError: If a plugin's template is wrong.
        """
        if request.unwritten is None:
            return await call_next(request)
        made: Any = request
        context = request.context
        if isinstance(request, ChatRequest):
            made, used = await self._made(request, context)
            made = made.evolve(context=self._noted(context, used))
        elif isinstance(request, TokenCountRequest):  # counted as it would be sent
            chat, used = await self._made(request.chat, context)
            made = request.evolve(
                chat=chat, model=request.model or chat.model, context=self._noted(context, used)
            )
        return await call_next(made)

    async def _made(
        self, request: ChatRequest, context: Context
    ) -> tuple[ChatRequest, list[PromptTemplate]]:
        """The request with its messages, and with what the templates say that it leaves open."""
        if self.reload:
            await _in_thread(context, self.library.refresh)
        messages: list[Message] = []
        used: list[PromptTemplate] = []
        for message in request.messages:
            if isinstance(message, Prompt):
                template = await self._template(message, context)
                messages += template.written(message.variables, most=self.max_characters)
                used.append(template)
            else:
                messages.append(message)
        return request.evolve(messages=messages, **_defaults(request, used)), used

    async def _template(self, prompt: Prompt, context: Context) -> PromptTemplate:
        if isinstance(prompt.template, PromptTemplate):
            return prompt.template
        known = self.library.known(prompt.template, prompt.version)
        if known is not None:
            return known
        return await _in_thread(context, self.library.get, prompt.template, prompt.version)

    def _noted(self, context: Context, used: Iterable[PromptTemplate]) -> Context:
        """The context with the tag; which templates it was is in the trace."""
        label = None
        for template in used:
            context.note(
                "template",
                "template.rendered",
                template=template.name,
                version=template.version,
                digest=template.digest,
            )
            label = label or (template.label if template.name else None)
        if self.tag is None or label is None or self.tag in context.tags:
            return context
        return context.evolve(tags={**context.tags, self.tag: label})


async def _in_thread(context: Context, function: Callable[..., T], *args: Any) -> T:
    what = "prompt templates were read"
    return await context.wait(lambda: context.ports.thread(function, *args), what=what)


def _defaults(request: ChatRequest, used: Iterable[PromptTemplate]) -> dict[str, Any]:
    """What the request leaves open and a template states; of several the first that does."""
    changes: dict[str, Any] = {}
    for template in used:
        for name, value in template.defaults.items():
            given = getattr(request, name)
            if name == "extra":
                changes[name] = {**value, **changes.get(name, given)}
            elif given is None or given == ():
                changes.setdefault(name, value)
    return changes
