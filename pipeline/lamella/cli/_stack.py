"""Which pipeline a command works with: the options for it, and what holds where they are silent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import attrs
from cyclopts import Parameter

from lamella import Pipeline, Request, Response, Trace

R = TypeVar("R", bound=Response)

EMBEDDED: Final = "mock"

_PACE: Final[Mapping[str, Any]] = {"use": EMBEDDED, "latency": 0.2, "latency_per_token": 0.012}
"""The embedded provider at a pace at which a person can see it stream."""


class WatchedPipeline(Pipeline):
    """A pipeline that remembers the trace of its latest call, which an error does not carry.

    Attributes:
        trace: The trace; None before the first call.
    """

    trace: Trace | None = None

    def _begin(self, request: Request[R], *, returns: Any, stream: bool) -> Request[R]:
        request = super()._begin(request, returns=returns, stream=stream)
        self.trace = request.context.trace
        return request


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Stack:
    """The pipeline that a command works with.

    Attributes:
        preset: The named stack. Without it LAMELLA_ENV names it, or else it is development.
        transport: What talks to the provider: openai, azure, groq, ollama, mock ... Without it the
            preset's; where neither is named, the embedded provider answers.
        config: The file with presets. Without it LAMELLA_CONFIG names it, or else it is
            lamella.toml in the working directory.
    """

    preset: Annotated[str | None, Parameter(alias="-p")] = None
    transport: Annotated[str | None, Parameter(alias="-t")] = None
    config: Annotated[str | None, Parameter(alias="-c")] = None

    @property
    def name(self) -> str:
        """The preset's name."""
        from lamella._presets import DEFAULT_PRESET, ENVIRONMENT_VARIABLE

        return self.preset or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_PRESET

    @property
    def embedded(self) -> bool:
        """Whether nobody has named a preset or a transport, so that the embedded provider answers.

        A first try needs no key and costs nothing, whatever keys happen to be set.
        """
        from lamella._presets import ENVIRONMENT_VARIABLE

        named = self.preset or self.transport or os.environ.get(ENVIRONMENT_VARIABLE)
        return not named and not self._own

    @property
    def _own(self) -> bool:
        """Whether the preset stands in the file."""
        from lamella._configuration import read_configuration
        from lamella._registry import key_of

        presets = read_configuration(self.config).settings.presets
        return key_of(self.name) in {key_of(name) for name in presets}

    def pipeline(self, *, paced: bool = False, quiet: bool = False) -> WatchedPipeline:
        """Build it.

        Args:
            paced: Whether the embedded provider, if nobody has named another, takes its time.
            quiet: Whether to leave out the log of a preset that is not of the file: its records
                would stand between the lines of a conversation.

        Raises:
            ConfigurationError: If a name is unknown or the file has mistakes.
        """
        from lamella._presets import build_preset

        transport: Any = self.transport
        if self.embedded:
            transport = _PACE if paced else EMBEDDED
        overrides: dict[str, Any] = {"log": None} if quiet and not self._own else {}
        overrides["config"] = self.config
        return build_preset(WatchedPipeline, self.name, transport, overrides)

    @property
    def origin(self) -> str:
        """Where the preset comes from: a file, or a distribution."""
        from lamella._presets import preset_names
        from lamella._registry import key_of

        found = {key_of(name): origin for name, origin in preset_names(self.config).items()}
        return found[key_of(self.name)]


NO_STACK: Final = Stack()
