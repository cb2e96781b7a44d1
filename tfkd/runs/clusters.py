"""Clusters of Dask and Ray: whether they answer, and whether their workers fit the run."""

import contextlib
import importlib.metadata
import os
import socket
import urllib.parse

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

import tfkd
from tfkd._extras import needs_extra
from tfkd.runs import job

TIMEOUT = 10.0  # seconds until a scheduler, or its first worker, has to be there
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # the environment variable
PACKAGES = ("tensorflow", "keras", "numpy")  # beside tfkd: figures depend on their versions


def check_answers(address):
    """Raises unless something listens at the address of a scheduler.

    Raises:
        MissingExtraError: the extra "dask" or "ray" is not installed.
        TimeoutError: nothing answers.
    """
    needs_extra("ray" if address.startswith("ray:") else "dask", "--scheduler")
    parts = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), TIMEOUT).close()
    except OSError as error:
        raise TimeoutError(
            f"No scheduler answers at {address} within {TIMEOUT:g} s ({error}). Start it (dask "
            "scheduler, or ray start --head), and see that this host may connect there."
        ) from None


class Cluster:
    """Where jobs run.

    Args:
        kind: "loky" for this machine, "dask" or "ray".
        scheduler: address, or None.
        client: `distributed.Client` that the caller has, or None.
    """

    def __init__(self, kind, scheduler=None, client=None):
        self.kind, self.scheduler, self.client = kind, scheduler, client
        self._close = lambda: None

    @property
    def lost(self):
        """What joblib raises where a process of a job has died, tuple of exceptions."""
        if self.kind != "ray":
            return (TerminatedWorkerError,)
        from ray.exceptions import RayActorError

        return (RayActorError,)

    def look(self, told, count):
        """Connects, and looks at the workers.

        Args:
            told: `tfkd.runs.job.Told`.
            count: how many jobs are wanted, or None.

        Returns:
            (how many jobs there is room for, {host: how many share its cores}).
        """
        if self.kind == "loky":
            return count, {}
        if self.scheduler is not None:
            self._connect()
        if self.kind == "ray":
            return self._look_by_ray(told, count)
        try:
            self.client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError:
            address = self.client.scheduler.address
            raise TimeoutError(
                f"The Dask scheduler at {address} has no worker within {TIMEOUT:g} s. Start some: "
                f"dask worker {address}"
            ) from None
        threads = self.client.nthreads()
        if sum(threads.values()) < 2:
            raise ValueError(
                "The Dask cluster has one worker of one thread, and joblib would train in this "
                f"process instead. Start another: dask worker {self.client.scheduler.address}"
            )
        hosts = {}
        for worker, host in _fitting(self.client.run(seen, told, on_error="return")).items():
            hosts[host] = hosts.get(host, 0) + threads.get(worker, 1)
        return sum(hosts.values()), hosts

    def _connect(self):
        if self.kind == "ray":
            import ray
            from ray.util.joblib import register_ray

            ray.init(self.scheduler, log_to_driver=False)
            register_ray()
            self._close = ray.shutdown
            return
        from distributed import Client

        try:
            self.client = Client(self.scheduler, timeout=TIMEOUT, set_as_default=False)
        except OSError as error:
            raise TimeoutError(
                f"No Dask scheduler answers at {self.scheduler} within {TIMEOUT:g} s ({error})."
            ) from None
        self._close = self.client.close

    def _look_by_ray(self, told, count):
        """Ray starts workers where it likes, and shares out cores by itself: some are asked."""
        import ray

        room = int(ray.cluster_resources().get("CPU", 1))
        asked = min(count or room, room)
        with self.used():
            found = joblib.Parallel(n_jobs=max(2, asked), batch_size=1)(
                joblib.delayed(seen)(told) for _ in range(2 * asked)
            )
        _fitting(dict(enumerate(found)))
        return room, {}

    @contextlib.contextmanager
    def used(self):
        """Has joblib run its jobs here meanwhile."""
        with contextlib.ExitStack() as stack:
            if self.scheduler is not None:
                own = {} if self.client is None else {"client": self.client}
                stack.enter_context(joblib.parallel_config(backend=self.kind, **own))
            yield

    def close(self):
        self._close()


def seen(told):
    """What a worker sees of a run: (host, versions, what is wrong or None)."""
    wrong = None
    try:
        job.check_place(told)
    except (OSError, ValueError) as error:
        wrong = str(error)
    return socket.gethostname(), _versions(), wrong


def _versions():
    found = {"tfkd": tfkd.__version__, ONEDNN: os.environ.get(ONEDNN, "1")}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _fitting(found):
    """{worker: its host} of what workers saw, {worker: answer of `seen` or exception}.

    Raises:
        ValueError: a worker that cannot train for this run.
    """
    own, hosts = _versions(), {}
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise ValueError(f"The worker {worker} cannot use tfkd: {answer}") from answer
        host, versions, wrong = answer
        if wrong is not None:
            raise ValueError(wrong)
        names = [name for name in own if versions.get(name) != own[name]]
        others = [f"{name} {versions.get(name)}, not {own[name]}" for name in names]
        if others:
            raise ValueError(
                f"The worker {worker} on {host} has {'; '.join(others)}: its figures would be "
                "others. Install the same versions there."
            )
        hosts[worker] = host
    return hosts
