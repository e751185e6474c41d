"""`map_rows`: a dataset with an answer for each of its rows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella import ConfigurationError, Pipeline, RowOptions
from lamella._grants import is_immediate
from lamella_ray._kept_rows import Job
from lamella_ray._worker import Stack, Task, Worker, make_pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCKS_AT_ONCE: Final = 2
"""Blocks that a worker answers at a time, so that the last rows of one keep nobody waiting."""

_COUNTED: Final = frozenset({"budget", "concurrency", "rate_limit"})
"""Layers whose limits mean something else where each worker counts by itself."""

_DEFAULTS: Final = RowOptions()


@attrs.frozen(kw_only=True)
class Workers:
    """How the work is spread.

    Attributes:
        least: Workers (actors, each a process) at first; 1 or more.
        most: Workers at most; None for no more than `least`.
        batch_size: Rows of a block, 1 or more. What a worker that dies had answered in its blocks
            is asked again, unless a `Job` keeps it.
        num_cpus: Cores that Ray sets aside for each; a worker mostly waits.
        shared: False says that each worker may count its limits by itself.
    """

    least: int = 1
    most: int | None = None
    batch_size: int = 256
    num_cpus: float = 0.5
    shared: bool = True


_ONE: Final = Workers()


def map_rows(
    dataset: Any,
    pipeline: Stack,
    *,
    options: RowOptions = _DEFAULTS,
    workers: Workers = _ONE,
    job: Job | None = None,
    prefix: str = "answer_",
) -> Any:
    """The dataset with an answer for each of its rows, in further columns.

    A row asks what its columns say, by the names that rows of `lamella map` have: `prompt` or
    `messages`, and `id`, `model`, `temperature` ... Other columns are left alone. A row that fails
    has its error in the columns, and fails no other. Once a key is refused, or a quota or a budget
    of all is used up, no further row is asked: those rows say `not_asked`.

    Datasets are lazy: nothing is asked before rows are taken, and what is taken twice is asked
    twice. Write the answers, or `materialize()` them.

    Args:
        dataset: A dataset of Ray Data.
        pipeline: The name of a preset, or a function without arguments that makes a pipeline; each
            worker has its own. It is called here once, too, so that a mistake is told at once.
        options: What holds for rows that are silent, and how many of a worker's are under way.
        workers: How the work is spread.
        job: Keeps results until the job is through, so that running it again, or a worker that
            dies, pays for none twice. None keeps none.
        prefix: What the names of the new columns begin with; columns of that name are replaced.

    Raises:
        ConfigurationError: If something given cannot be meant, or workers would each count limits
            of their own.
    """
    _check(workers, prefix)
    if isinstance(pipeline, Pipeline):
        msg = "map_rows(...) was given a pipeline, which cannot travel to other processes."
        raise ConfigurationError(msg, hint="Give a function that makes it: lambda: Pipeline(...).")
    if not isinstance(pipeline, str) and not callable(pipeline):
        msg = f"map_rows(...) was given a {type(pipeline).__name__} as its pipeline."
        raise ConfigurationError(msg, hint="Give the name of a preset, or a function.")
    _check_pipeline(pipeline, workers, job)
    task = Task(stack=pipeline, options=_for_block(options), prefix=prefix, job=job)
    data: Any = import_module("ray.data")
    most = workers.least if workers.most is None else workers.most
    return dataset.map_batches(
        Worker,
        fn_constructor_args=(task,),
        batch_size=workers.batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(
            min_size=workers.least, max_size=most, max_concurrent_calls_per_actor=BLOCKS_AT_ONCE
        ),
        num_cpus=workers.num_cpus,
        udf_modifying_row_count=False,
    )


def _for_block(options: RowOptions) -> RowOptions:
    """The pace of one block, so that a worker's blocks together keep to what was said."""
    each: dict[str, Any] = {"max_concurrency": -(-options.max_concurrency // BLOCKS_AT_ONCE)}
    if isinstance(options.concurrency, int):
        each["concurrency"] = -(-options.concurrency // BLOCKS_AT_ONCE)
    return attrs.evolve(options, **each)


def _check(workers: Workers, prefix: str) -> None:
    most = workers.least if workers.most is None else workers.most
    whole: Mapping[str, Any] = {"least": workers.least, "batch_size": workers.batch_size}
    for name, value in whole.items():
        if not isinstance(value, int) or value < 1:
            msg = f"Workers({name}={value!r}): it is a whole number, 1 or more."
            raise ConfigurationError(msg)
    if most < workers.least:
        msg = f"Workers(least={workers.least}, most={most}): there cannot be fewer than the least."
        raise ConfigurationError(msg)
    if not prefix:
        msg = "map_rows(prefix=''): the answers' columns would be called like those of rows."
        raise ConfigurationError(msg, hint="Give a prefix such as 'answer_'.")


def _check_pipeline(stack: Stack, workers: Workers, job: Job | None) -> None:
    made = make_pipeline(stack)
    if job is not None:
        job.check(made)
    alone = workers.least == 1 and workers.most in (None, 1)
    if alone or not workers.shared or not is_immediate(made.ports.stores.leases):
        return
    counted = [info.name for info in made.infos if info.name in _COUNTED]
    if counted:
        names = ", ".join(sorted(set(counted)))
        msg = f"Each of {workers.most or workers.least} workers would count {names} by itself, and "
        msg += "all of them together would do as many times as much."
        hint = "Share the counting: stores={'leases': {'use': 'redis', 'url': 'env:REDIS_URL'}} of "
        hint += "the pipeline. Or divide the limits yourself, and say Workers(shared=False)."
        raise ConfigurationError(msg, hint=hint)
