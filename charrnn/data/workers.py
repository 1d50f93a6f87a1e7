"""Work shared among processes: Python reads and decodes files on one core, however many threads do it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from charrnn.errors import ResourceError

if TYPE_CHECKING:
    from concurrent.futures import Future

Job = TypeVar("Job")
Result = TypeVar("Result")
#: Called with how much has been done since the last call.
Report = Callable[[int], None]

_TOLD_EVERY = 0.1  # seconds
#: What a worker shares with the process that started it: how much is done, and whether to stop.
_shared: tuple[Any, Any] | None = None


class WorkerLostError(ResourceError):
    """One of several processes was killed."""


def each(
    work: Callable[[Job, Report], Result], jobs: Sequence[Job], processes: int, report: Report
) -> Iterator[tuple[int, Result]]:
    """Do all jobs; the number of each and its result, as they are done.

    Workers are new processes, which import the caller's main module: with more than one process, that must do nothing
    when it is imported.

    Args:
        work: a function of a module, called with a job and what to report to.

    Raises:
        WorkerLostError: a worker was killed.
        Exception: what ``work`` raised; the other workers stop then.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        for number, job in enumerate(jobs):
            yield number, work(job, report)
        return
    # Only here: small texts, which need none of it, are prepared on the way to what the user wants.
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("Q", 0), context.Event()
    told = 0
    with ProcessPoolExecutor(processes, context, _begin, (done, stop)) as pool:
        try:
            with _interrupts_later():
                waiting: dict[Future[Result], int] = {pool.submit(_run, work, job): n for n, job in enumerate(jobs)}
            while waiting:
                finished, _ = wait(waiting, _TOLD_EVERY, FIRST_COMPLETED)
                for future in finished:
                    yield waiting.pop(future), future.result()
                now = done.value
                report(now - told)
                told = now
        except BrokenProcessPool as error:
            raise WorkerLostError("a process that read text was killed") from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C is heard at the end; processes that are started here do not hear of it: they are told to stop."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(done: Any, stop: Any) -> None:
    """What a worker does first."""
    global _shared
    _shared = done, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next job for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(work: Callable[[Job, Report], Result], job: Job) -> Result:
    assert _shared is not None
    done, stop = _shared

    def report(more: int) -> None:
        with done.get_lock():
            done.value += more
        if stop.is_set():
            raise InterruptedError("another worker has failed, or the user has had enough")

    return work(job, report)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
