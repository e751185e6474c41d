"""Results that are kept until their job is through, so that no row is paid for twice.

Ray runs a block again when a worker dies in the middle of it, and a whole dataset when a job is
started again. What a row was answered is therefore kept in the pipeline's store of values as soon
as it is there, under the job, what the row asks, and what decides the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

import attrs
import msgspec

from lamella import ConfigurationError, Packing, Pipeline, RowOptions, StoreUnavailableError
from lamella._answer_codec import UnreadableError
from lamella._answer_shelves import refuse_unsigned
from lamella._options import is_number
from lamella._packing import Packer

WEEK: Final = 7 * 24 * 3600.0


def _a_name(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        msg = f"Job(name={value!r}): a job is known by its name."
        raise ConfigurationError(msg, hint="Give it one that says which rows it is about.")


def _a_time(_: object, __: object, value: Any) -> None:
    if not is_number(value) or not 0 < value < float("inf"):
        msg = f"Job(keep={value!r}) is no time."
        raise ConfigurationError(msg, hint="Give seconds, above 0; a week is usual.")


@attrs.frozen
class Job:
    """Rows whose results are kept, so that running them again asks for none that was answered.

    What was answered is found again by the job's name, what the row asks (its id included), and
    what decides the answers: the pipeline's layers and transport, and what holds for all rows. Rows
    that are alike to the last field, without ids, share an answer. Errors are not kept, except
    those of rows that are no requests.

    Args:
        name: What the job is called. Another name asks for everything anew.
        keep: Seconds for which results are kept, above 0; a week if not given.
        packing: How they are packed. The store is one that others can write to, so they are signed:
            `Packing(key="env:ROWS_KEY")`, and encrypted with `encrypt=True`.

    Raises:
        ConfigurationError: If an option is wrong.
    """

    name: str = attrs.field(validator=_a_name)
    packing: Packing
    keep: float = attrs.field(default=WEEK, validator=_a_time)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a pipeline whose values no other worker sees.

        Raises:
            ConfigurationError: If its store is memory, or what is kept there would not be signed.
        """
        blobs = pipeline.ports.stores.blobs
        if not getattr(blobs, "shared", False):
            msg = f"The job {self.name!r} keeps its results in the pipeline's store of values, "
            msg += "which here is in each worker's memory."
            hint = "Give the pipeline one that all workers reach: "
            hint += "stores={'blobs': {'use': 'redis', 'url': 'env:REDIS_URL'}}."
            raise ConfigurationError(msg, hint=hint)
        refuse_unsigned(f"The job {self.name!r}", blobs, self.packing)


class KeptRows:
    """The results of one job, in one worker.

    Args:
        job: Which.
        pipeline: What answers, and has the store.
        options: What holds for all rows.
    """

    def __init__(self, job: Job, pipeline: Pipeline, options: RowOptions) -> None:
        self._job = job
        self._ports = pipeline.ports
        decides = attrs.asdict(options) | {"concurrency": None, "max_concurrency": None}
        self._decides = _digest([job.name, pipeline.fingerprint, decides])
        self._packer: Packer | None = None

    async def find(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
        """The results that are there, by the place of their row.

        Raises:
            StoreUnavailableError: If nobody can say.
        """
        packer = await self._ready()
        places = {self._place(row): number for number, row in enumerate(rows)}
        alike: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            alike.setdefault(self._place(row), []).append(number)
        found: dict[int, dict[str, Any]] = {}
        blobs = await self._ports.stores.blobs.get_many(list(places))
        for place, blob in blobs.items():
            try:
                result = msgspec.json.decode(packer.unpack(place, blob.data))
            except (UnreadableError, ValueError):
                continue  # written by nobody of ours, or damaged: asked again
            for number in alike[place]:
                found[number] = result
        return found

    async def keep(self, row: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep a result, if it is one that asking again would not better.

        A store that is out, of which its guard tells, costs no answer but its second use.
        """
        if result["error_type"] is not None and result["error_code"] != "invalid_row":
            return
        packer, place = await self._ready(), self._place(row)
        data = packer.pack(place, msgspec.json.encode(result), limited=False)
        with suppress(StoreUnavailableError):
            await self._ports.stores.blobs.put(place, data, ttl=self._job.keep)

    async def _ready(self) -> Packer:
        if self._packer is None:
            key = self._job.packing.key
            secret = None if key is None else await key.fetch(ports=self._ports)
            data = None if secret is None else secret.encode("utf-8", "surrogatepass")
            self._packer = Packer(self._job.packing, data)
        return self._packer

    def _place(self, row: Mapping[str, Any]) -> str:
        return f"lamella:rows:{self._decides}:{_digest(row)}"


def _digest(value: Any) -> str:
    encoded = msgspec.msgpack.encode(value, order="sorted")
    return blake2b(encoded, digest_size=16).hexdigest()
