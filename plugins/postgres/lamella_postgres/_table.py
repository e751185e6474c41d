"""The table of spend: what it is like, and how it comes to be.

The columns are for people, too, who ask with `psql`: what adds up stands there as whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lamella import ConfigurationError, Outcome, StoreUnavailableError

if TYPE_CHECKING:
    from lamella_postgres._link import Link

VERSION: Final = 1
_OLDEST: Final = 120_000  # generated columns
_LETTERS: Final = 63
_INDEXED: Final = 1000
"""Bytes of a text, beyond which it stands in no index: those have room for some 2,700."""

COLUMNS: Final = {
    "id": 'text COLLATE "C" NOT NULL PRIMARY KEY',
    "at": "double precision NOT NULL",
    "call_id": "text NOT NULL",
    "parent_id": "text",
    "branch": "text NOT NULL",
    "layer": "text NOT NULL",
    "operation": "text NOT NULL",
    "category": "text NOT NULL",
    "provider": "text NOT NULL",
    "model": "text",
    "served_model": "text",
    "service": "text",
    "tenant": "text",
    "end_user": "text",
    "session": "text",
    "tags": "jsonb",
    "outcome": "text NOT NULL",
    "duration": "double precision NOT NULL",
    "time_to_first_event": "double precision",
    "cost_nano": "bigint",
    "currency": "text",
    "input_tokens": "bigint",
    "output_tokens": "bigint",
    "estimated": "boolean",
    "uncached_input": "bigint",
    "cache_read": "bigint",
    "cache_write": "jsonb",
    "audio_input": "bigint",
    "image_input": "bigint",
    "text_output": "bigint",
    "reasoning_output": "bigint",
    "audio_output": "bigint",
    "image_output": "bigint",
    "tool_units": "jsonb",
}
"""The columns that are written, and what they are. Instants are seconds since 1970, exactly."""

_SOMEBODY: Final = ("session", "end_user", "tenant")

_COMMENTS: Final = {
    "at": "when the attempt ended: seconds since 1970, UTC, exactly as it was told",
    "ended": "the same instant, to the microsecond",
    "end_user": "for which end user; empty or NULL for none, as everywhere",
    "cost_nano": "billionths of the currency; NULL if nobody knows",
    "input_tokens": "of all kinds; NULL if nobody knows",
    "estimated": "whether only we have counted",
}


def checked_schema(name: object) -> str | None:
    """What is wrong with the name of a schema; None if nothing."""
    if not isinstance(name, str) or not name or not 0 < len(name.encode(errors="replace")) < 64:
        return f"a name of at most {_LETTERS} bytes"
    if "\0" in name or name.startswith("pg_") or not name.isprintable():
        return "a printable name that does not begin with pg_"
    return None


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def table_of(schema: str) -> str:
    """The table in SQL."""
    return f"{quoted(schema)}.spend"


def spend_ddl(schema: str = "lamella", *, role: str | None = None) -> str:
    """The SQL that makes the table, for who may run it where the program itself may not.

    Args:
        schema: As for `PostgresSpend`.
        role: Who is to read, append and forget; None grants nothing.

    Raises:
        ConfigurationError: If the schema can have no such name.
    """
    wrong = checked_schema(schema)
    if wrong is not None:
        raise ConfigurationError(f"spend_ddl(schema={schema!r}): give {wrong}.")
    statements = [f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}", *_statements(schema)]
    if role is not None:
        statements.append(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)}")
        rights = "SELECT, INSERT, DELETE"
        statements.append(f"GRANT {rights} ON {table_of(schema)} TO {quoted(role)}")
    return "".join(f"{statement};\n" for statement in statements)


def _statements(schema: str) -> list[str]:
    table = table_of(schema)
    columns = [f"    {name} {kind}" for name, kind in COLUMNS.items()]
    columns.append("    ended timestamptz GENERATED ALWAYS AS (to_timestamp(at)) STORED")
    body = ",\n".join(columns)
    return [
        f"CREATE TABLE {table} (\n{body}\n)",
        f"CREATE INDEX spend_by_time ON {table} (at, id)",
        *[
            f"CREATE INDEX spend_by_{name} ON {table} ({name}, at) WHERE {_short(name)}"
            for name in _SOMEBODY
        ],
        f"CREATE INDEX spend_by_tags ON {table} USING gin (tags jsonb_path_ops)",
        f"COMMENT ON TABLE {table} IS '{_mark(VERSION)}'",
        *[f"COMMENT ON COLUMN {table}.{name} IS '{text}'" for name, text in _COMMENTS.items()],
    ]


def found_by(column: str, value: str) -> str:
    """What a condition on a column needs besides, so that the value is looked for in the index."""
    is_there = column in _SOMEBODY and len(value.encode()) <= _INDEXED
    return f" AND {_short(column)}" if is_there else ""


def _short(column: str) -> str:
    return f"octet_length({column}) <= {_INDEXED}"


def _mark(version: int) -> str:
    return f"Lamella: records of spend, format {version}"


_LOOK: Final = """
SELECT current_setting('server_encoding'), current_setting('server_version_num')::int,
       n.oid IS NOT NULL, c.oid IS NOT NULL, obj_description(c.oid, 'pg_class')
FROM (SELECT 1) AS one
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = %s
LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'spend'
"""


def see_to_table(link: Link, schema: str) -> None:
    """Look at the table, and make it if there is none; in a transaction that may write.

    Raises:
        StoreUnavailableError: If it is none of ours, or the database cannot have it.
        psycopg.Error: If it cannot be made.
    """
    if _look(link, schema)[1]:
        return
    # Several processes begin at once. Until the end of the transaction:
    link.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"lamella {schema}"])
    has_schema, has_table = _look(link, schema)
    if has_table:
        return
    # IF NOT EXISTS would ask for the right to create schemas even where there is this one.
    first = [] if has_schema else [f"CREATE SCHEMA {quoted(schema)}"]
    for statement in [*first, *_statements(schema)]:
        link.execute(statement.encode())


def _look(link: Link, schema: str) -> tuple[bool, bool]:
    """Whether there is the schema, and whether the table."""
    row: Any = link.execute(_LOOK, [schema]).fetchone()
    encoding, version, has_schema, has_table, mark = row
    if version < _OLDEST:
        raise unusable("the server is older than version 12", "Update PostgreSQL.")
    if encoding != "UTF8":
        hint = "Make one: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
        raise unusable(f"the database has the encoding {encoding}, not UTF8", hint)
    if has_table and mark != _mark(VERSION):
        where = table_of(schema)
        hint = (
            f"It would say {_mark(VERSION)!r} in its comment. Give another schema, or update "
            "lamella-postgres if that is a later format."
        )
        raise unusable(f"{where} is no table of this format", hint)
    return has_schema, has_table


def unusable(what: str, hint: str) -> StoreUnavailableError:
    """The error of a server that has said something that is of no use; nothing was written."""
    return StoreUnavailableError(f"PostgresSpend: {what}.", hint=hint, outcome=Outcome.NOT_SENT)
