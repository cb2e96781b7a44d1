"""Students trained several at once: jobs of joblib, on this machine or on a cluster's workers.

A job trains one student in a process of its own and writes that training's files, nothing else;
teachers and their stored answers come first, and stay with the process that runs the experiment. A
sum over a batch is cut into as many parts as TensorFlow has threads, so the last digits of figures
belong to the number of threads. A job therefore has as many threads as this process would have, and
the system keeps them on the job's share of the cores: the figures are those of one after the other.

A search's trials are no such list (which one comes next follows from what others came to): they are
handed out by `tfkd.runs.search.workers`.

Nothing here imports TensorFlow: in a job the number of threads is set first.
"""

import contextlib
import os
import signal
import socket
import threading
import uuid
import warnings

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.parallel import get_active_backend

from tfkd import terminal
from tfkd.files import write_text
from tfkd.runs import clusters, job
from tfkd.runs.directory import JOBS
from tfkd.runs.temporary import remove_abandoned

# joblib's backends whose jobs are processes; in "multiprocessing" they are copies of this one, in
# which TensorFlow cannot run.
KINDS = {"LokyBackend": "loky", "DaskDistributedBackend": "dask", "RayBackend": "ray"}


def jobs_of(settings):
    """The `Jobs` that settings ask for, or `joblib.parallel_config` around the call.

    Args:
        settings: `tfkd.settings.training.BudgetSettings`.

    Returns:
        `Jobs`; None where students are trained one after the other.

    Raises:
        ValueError: jobs of joblib that are no processes of their own.
        MissingExtraError: Dask or Ray is not installed.
        TimeoutError: the scheduler does not answer.
    """
    if settings.scheduler is not None:
        clusters.check_answers(settings.scheduler)
        kind = "ray" if settings.scheduler.startswith("ray:") else "dask"
        return Jobs(kind, settings.jobs, settings.scheduler)
    backend, configured = get_active_backend()
    count = settings.jobs or configured
    kind = KINDS.get(type(backend).__name__)
    if kind in ("dask", "ray"):
        client = backend.client if kind == "dask" else None
        return Jobs(kind, count if count and count > 0 else None, client=client)
    count = backend.effective_n_jobs(count) if count and count < 0 else count
    if count in (None, 1):
        return None
    if kind is None:
        raise ValueError(
            f"Students cannot be trained at once by joblib's {type(backend).__name__}: each needs "
            'a process of its own. Use joblib.parallel_config(backend="loky"), "dask" or "ray".'
        )
    return Jobs(kind, count)


class Jobs:
    """The jobs of one run.

    Args:
        kind: "loky", "dask" or "ray".
        count: how many at once; None for as many as the cluster has room for.
        scheduler: address of a cluster, or None.
        client: `distributed.Client` of the Python user, or None.

    Attributes:
        count: as above; once it has begun no more than there is room for.
        lost: what joblib raises where the process of a job has died, tuple of exceptions.
    """

    def __init__(self, kind, count, scheduler=None, client=None):
        self.kind, self.count = kind, count
        self._cluster = clusters.Cluster(kind, scheduler, client)
        self._token = None

    @property
    def lost(self):
        return self._cluster.lost

    def begin(self, directory):
        """Says to jobs that they may write into a run; looks at the workers of a cluster.

        Args:
            directory: `tfkd.runs.directory.RunDirectory`.

        Raises:
            TimeoutError, FileNotFoundError, ValueError: workers that are not there, do not see the
                directory, or have other versions.
        """
        self._directory, self._token = directory, uuid.uuid4().hex
        write_text(directory / JOBS, self._token)
        parent = (socket.gethostname(), os.getpid())
        threads, policy = _of_this_process()
        told = job.Told(
            *(str(directory.path.absolute()), self._token, threads, parent, policy),
            apart=self.kind != "loky",
        )
        room, hosts = self._cluster.look(told, self.count)
        if self.count is not None and self.count > room:
            terminal.say(f"Of {self.count} jobs the cluster trains {room} at once.")
        self.count = min(room, self.count or room)
        shares = {host: min(own, self.count) for host, own in hosts.items()}
        self._told = told._replace(shares=shares)

    def close(self):
        """Takes the leave to write from jobs that still run, and ends the processes."""
        if self._token is not None:
            (self._directory / JOBS).unlink(missing_ok=True)
            self._cluster.close()
            remove_abandoned(self._directory.path)

    def train(self, trainings):
        """Trains the students that are not trained yet.

        Args:
            trainings: `tfkd.runs.engine.Trainings` whose teachers are trained.

        Raises:
            ChildProcessError: a training's process died twice. Else what a training raised.
        """
        table, every = trainings.prepared.table, trainings.students
        groups = [
            [own for own in every if own.row.name in names and trainings.whole(own.part) is None]
            for names in _groups(table.rows)
        ]
        most = max(map(len, groups), default=0)
        if self.count > most > 0:
            trainings.say(f"Of {self.count} jobs {most} have a student to train at once.")
            self.count = most
        if self.kind == "loky" and self.count > 1:
            self._told = self._told._replace(shares={socket.gethostname(): self.count})
        with _ended_by_sigterm(), self._cluster.used(), warnings.catch_warnings():
            # joblib replaces a process that has grown, which is no matter of the user's.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
            for students in filter(None, groups):
                for own in students:  # what the teachers say is stored by this process
                    trainings.trainer.store(trainings.prepared.lesson(own.row), own.row, own.seed)
                with terminal.step("Training students", total=len(students)) as step:
                    _Round(self, trainings, students, step).train()
        if self.kind == "loky":
            get_reusable_executor(kill_workers=True).shutdown(kill_workers=True)

    def results(self, table, parts, at_once):
        """Trains, so many at once; gives the names of those that are done, as they are.

        Args:
            table: `tfkd.runs.rows.Table`.
            parts: names of trainings, begun in this order.
            at_once: how many.
        """
        backend, _ = get_active_backend()
        # joblib would train a single one in this process.
        parallel = joblib.Parallel(
            n_jobs=max(2, self.count),
            pre_dispatch=at_once,
            batch_size=1,
            return_as="generator_unordered" if backend.supports_return_generator else "list",
        )
        return parallel(joblib.delayed(job.work)(self._told, table, part) for part in parts)


class _Round:
    """The training of some students that need nothing of each other."""

    def __init__(self, jobs, trainings, students, step):
        self.jobs, self.trainings, self.step = jobs, trainings, step
        self.left = {own.part: own for own in students}
        self.running = []

    def train(self):
        """Trains all; what ran when a process died is repeated, one at a time: memory may be short.

        joblib ends the other processes with the one that died, and does not say which it was.
        """
        repeated = []
        while self.left:
            try:
                self._train(repeated or list(self.left.values()), 1 if repeated else None)
                repeated = []
            except self.jobs.lost as error:
                self._take_done()
                died = [own for own in self.running if own.part in self.left]
                if repeated and died:
                    raise job.died_twice(self.trainings.directory.path, died[0].part) from error
                repeated = died
                names = " and ".join(own.name for own in died)
                self.trainings.say(f"A job died. Repeated, one at a time: {names or 'none'}.")
            except job.FailedError as failed:
                part, error = failed.args
                self.trainings.say(f"{self.left[part].name} failed{self.left[part].about}")
                self._take_done()
                raise error from failed

    def _train(self, students, at_once):
        table, waiting = self.trainings.prepared.table, list(students)
        at_once = at_once or min(self.jobs.count, len(students))
        self.running = []
        for _ in range(at_once):
            self._begin(waiting)
        parts = [own.part for own in students]
        for part in self.jobs.results(table, parts, at_once):
            self.running = [own for own in self.running if own.part != part]
            self._take(self.left[part])
            self._begin(waiting)

    def _begin(self, waiting):
        """joblib begins the next one whenever one is done."""
        if waiting:
            own = waiting.pop(0)
            self.running.append(own)
            self.trainings.say(f"{own.name}{own.about}", style="bold")

    def _take(self, own):
        outcome = self.trainings.whole(own.part)
        if outcome is not None:
            self.trainings.take(own.part, own.name, outcome)
            del self.left[own.part]
            self.step.advance()

    def _take_done(self):
        """Those whose job was done, but not yet heard of."""
        for own in list(self.left.values()):
            self._take(own)


def _groups(rows):
    """Names of rows in groups: each is taught by rows of groups before it.

    Rows that are put together of others are in none: nothing is trained.
    """
    groups, left = [], [row for row in rows if not row.members]
    taught = {None}
    while left:
        group = [row for row in left if row.taught_by in taught]
        groups.append({row.name for row in group})
        taught |= groups[-1]
        left = [row for row in left if row.name not in taught]
    return groups


def _of_this_process():
    """(threads over which TensorFlow divides an operation here, Keras's global dtype policy)."""
    import keras
    import tensorflow as tf

    given = tf.config.threading.get_intra_op_parallelism_threads()
    threads = given or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or len(job.cores())
    return threads, keras.dtype_policies.serialize(keras.config.dtype_policy())


@contextlib.contextmanager
def _ended_by_sigterm():
    """SIGTERM raises SystemExit meanwhile, so that joblib ends the jobs."""
    default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
