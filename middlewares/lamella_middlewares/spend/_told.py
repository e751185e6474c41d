"""What the log is told of a store of spend that is not well. Once for each time, and what to do."""

from __future__ import annotations

import logging

from lamella import LamellaError

logger = logging.getLogger("lamella")


def name_of_store(store: object) -> str:
    """What it is, and where, if it is a file. An address may have a password in it."""
    path = getattr(store, "path", None)
    kind = type(store).__name__
    return kind if path is None else f"{kind} {str(path)!r}"


def out(store: object, error: Exception, most: int) -> None:
    """It does not take records."""
    logger.warning(
        "Spend: %s cannot be written (%s). Requests go on; up to %d records wait in memory and are "
        "tried again.",
        name_of_store(store),
        str(error) if isinstance(error, LamellaError) else type(error).__name__,
        most,
    )


def back(store: object, pending: int) -> None:
    """It does again."""
    logger.warning("Spend: %s is written again; %d records wait.", name_of_store(store), pending)


def dropped(store: object, most: int) -> None:
    """Too many wait."""
    logger.error(
        "Spend: more than %d records wait for %s, so that the oldest are dropped and missing from "
        "its sums. See why it cannot be written, or raise max_pending. health() counts them.",
        most,
        name_of_store(store),
    )


def refused(store: object, id_: str, error: Exception) -> None:
    """No store could keep one of them. The error may quote it, and is not."""
    logger.error(
        "Spend: no store can keep the record of attempt %s (%s), which is missing from the sums of "
        "%s: see the tokens and the cost that its trace has. health() counts more of them.",
        id_,
        type(error).__name__,
        name_of_store(store),
    )


def not_forgotten(store: object, error: Exception) -> None:
    """What is too old is still there."""
    logger.warning(
        "Spend: what is too old could not be removed from %s (%s); it is tried again in a day. "
        "`lamella costs forget` does it now.",
        name_of_store(store),
        type(error).__name__,
    )


def left(store: object, pending: int) -> None:
    """The layer has been closed, and not all is written."""
    logger.warning(
        "Spend: %d records could not be written to %s when it was closed. They are tried once "
        "more when the process ends.",
        pending,
        name_of_store(store),
    )


def lost(store: object, pending: int) -> None:
    """The process ends."""
    logger.error(
        "Spend: the process ends, and %d records are lost that could not be written to %s. If the "
        "store is well, close the pipeline first, which takes its time: await pipeline.aclose().",
        pending,
        name_of_store(store),
    )
