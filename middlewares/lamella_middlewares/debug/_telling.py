"""Where reports go: text to a sink, and a page to a folder. All of it in the writer's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from lamella._text_sinks import TextStream, stream_of, write_text

if TYPE_CHECKING:
    from lamella_middlewares.debug._outline import Rows
    from lamella_middlewares.debug._pages import Pages
    from lamella_middlewares.debug._report import Report


@attrs.frozen(eq=False)
class Telling:
    """Writes reports.

    Attributes:
        sink: As for `Debug`.
        pages: Where pages go; None writes none.
    """

    sink: Callable[[str], object] | TextStream | str
    pages: Pages | None

    def __call__(self, item: Mapping[str, Any]) -> None:
        """Write one report.

        Raises:
            OSError: If its page cannot be written; its text has been by then.
        """
        report: Report = item["report"]
        also: Rows = []
        failure: OSError | None = None
        if self.pages is not None:
            try:
                also.append(("page", str(self.pages.write(report.record, report.page()))))
            except OSError as error:
                failure = error
                also.append(("page", f"could not be written: {error.strerror or error}"))
        if item.get("dropped"):
            also.append(("dropped", f"{item['dropped']} reports before this one"))
        self._say(report.text(also))
        if failure is not None:
            raise failure

    def _say(self, text: str) -> None:
        if callable(self.sink):
            self.sink(text)
        else:
            write_text(stream_of(self.sink), text)
