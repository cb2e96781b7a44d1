"""Who trains a run: this process, several on this machine, or one on each of several hosts."""

import json
import os
from typing import Annotated, NamedTuple

from pydantic import Field

from tfkd.settings.base import Above0, Count, Names, Settings, SettingsError

TF_CONFIG = "TF_CONFIG"


class Cluster(NamedTuple):
    """The processes that train together.

    Attributes:
        size: how many there are.
        addresses: "host:port" of each, the chief's first; empty where all are on this machine.
        index: which of them this host starts; None for all of them.
    """

    size: int
    addresses: tuple = ()
    index: int | None = None

    @property
    def chief_is_here(self):
        return not self.index

    def name(self, index):
        """A worker as messages have it."""
        known = ["the chief"] * (index == 0) + list(self.addresses[index : index + 1])
        return f"worker {index}" + (f" ({', '.join(known)})" if known else "")


class WorkerSettings(Settings):
    """Who trains, and how often is kept where a training is: nothing that changes its figures."""

    workers: Count | None = None
    """Processes on this machine that share every batch; unless told this one alone."""
    cluster: Names = ()
    """Processes on several hosts that share every batch, HOST:PORT,HOST:PORT, the same on each
    host; the first is the chief. Unless told those of TF_CONFIG, if it is set."""
    index: Annotated[int | None, Field(ge=0)] = None
    """Which process of the cluster this host starts, from 0."""
    worker_timeout: Above0 = 600.0
    """Seconds to wait for the others of a cluster."""
    checkpoint_minutes: Above0 = 10.0
    """Minutes between two checkpoints within an epoch."""

    def check(self):
        if self.cluster and self.workers is not None:
            raise SettingsError(
                "workers are processes on this machine, cluster those on several hosts: give one."
            )
        if self.cluster and self.index is None:
            raise SettingsError(
                f"cluster names {len(self.cluster)} processes, but not which of them this is. Give "
                "--index, from 0."
            )
        if self.index is not None and not self.cluster:
            raise SettingsError(
                "index counts the processes of a cluster, but cluster is not given."
            )
        _check_addresses(self.cluster, self.index, "cluster")

    def together(self):
        """The `Cluster` that trains; None for this process alone.

        Raises:
            SettingsError: TF_CONFIG is set and cannot be read, or workers are given beside it.
        """
        if self.cluster:
            return _cluster(self.cluster, self.index)
        text = os.environ.get(TF_CONFIG)
        if text and self.workers is not None:
            raise SettingsError(
                "TF_CONFIG is set, which names processes on several hosts, and workers, which are "
                "processes on this machine, are given as well. Leave --workers out, or unset "
                "TF_CONFIG."
            )
        if text:
            return _of_tf_config(text)
        return Cluster(self.workers) if (self.workers or 1) > 1 else None


def _of_tf_config(text):
    expected = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        found = json.loads(text)
        jobs, task = dict(found["cluster"]), found["task"]
        kind, index = task["type"], int(task["index"])
        addresses = tuple(text for job in ("chief", "worker") for text in jobs.get(job, ()))
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"TF_CONFIG cannot be read ({type(error).__name__}: {error}); expected {expected}. "
            "Unset it to train in this process alone."
        ) from None
    if kind not in ("chief", "worker"):
        raise SettingsError(
            f'TF_CONFIG says that this process is a "{kind}"; tfkd knows chief and worker. Start '
            "it on those alone."
        )
    if kind == "worker":
        index += len(jobs.get("chief", ()))
    _check_addresses(addresses, index, TF_CONFIG)
    return _cluster(addresses, index)


def _cluster(addresses, index):
    return Cluster(len(addresses), tuple(addresses), index) if len(addresses) > 1 else None


def _check_addresses(addresses, index, name):
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise SettingsError(
                f'{name} holds "{address}"; expected HOST:PORT, such as node1:2222.'
            )
    if len(set(addresses)) < len(addresses):
        raise SettingsError(f"{name} names a process twice: {', '.join(addresses)}.")
    if addresses and index is not None and index >= len(addresses):
        raise SettingsError(
            f"{name} names {len(addresses)} processes, 0 to {len(addresses) - 1}, but this is said "
            f"to be {index}."
        )
