"""A teacher cache's folder in an object store, or wherever else fsspec reads and writes.

There is no file that only one of several can create, no lock and no renaming: builders share the
work by index. A shard is made on the local disk and sent whole; that it is there is written after
it, so that one which did not arrive is not counted.
"""

import concurrent.futures
import contextlib
import hashlib
import tempfile

import numpy as np

from tfkd._extras import needs_extra

# Requests that wait at the same time, and batches that are read ahead: an answer takes 10 to 100 ms
# there, in which a student takes some steps.
_REQUESTS, _BATCHES = 64, 16


class RemoteFolder:
    """The files of a cache under a URL such as "s3://bucket/cache"; see `disk.LocalFolder`."""

    local = False
    at_once = _BATCHES

    def __init__(self, url):
        needs_extra("remote", f'A teacher cache in "{url}"')
        import fsspec

        self.path = str(url).rstrip("/")
        try:
            self._files, self._root = fsspec.url_to_fs(self.path)
        except (ImportError, ValueError) as error:
            raise ValueError(f'Teacher cache "{self.path}" cannot be reached: {error}.') from error

    def __str__(self):
        return self.path

    def sizes(self):
        self._files.invalidate_cache()  # other builders write here
        try:
            found = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return {}
        found = {own["name"].rstrip("/").rpartition("/")[2]: own for own in found}
        return {n: own["size"] if own["type"] == "file" else None for n, own in found.items()}

    def open(self, name):
        return self._files.open(self._at(name), "rb")

    def read_all(self, names):
        names = list(names)
        with _requests() as pool:
            read = pool.map(self._read, names)
            return {n: own for n, own in zip(names, read, strict=True) if own is not None}

    def reader(self, names):
        paths, pool = [self._at(name) for name in names], _requests()

        def records(files, offsets, fields):
            widths = [field.shape[1] for field in fields]
            ends = offsets + sum(widths)
            asked = [paths[file] for file in files], offsets.tolist(), ends.tolist()
            whole = b"".join(pool.map(self._files.cat_file, *asked))
            if len(whole) == sum(widths) * len(files):
                rows = np.frombuffer(whole, np.uint8).reshape(len(files), -1)
                starts = np.cumsum(widths)[:-1]
                for field, part in zip(fields, np.split(rows, starts, axis=1), strict=True):
                    field[:] = part
            return len(whole)

        return records

    def write(self, name, content):
        self._files.pipe_file(self._at(name), content)

    def write_shard(self, name, parts):
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(prefix="tfkd-shard-") as file:
            for part in parts:
                file.write(part)
                digest.update(part)
            file.flush()
            self._files.put_file(file.name, self._at(name))
        return digest.hexdigest()

    def remove(self, names):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))

    def clear(self):
        pass

    @contextlib.contextmanager
    def locked(self):
        self._files.makedirs(self._root, exist_ok=True)
        yield

    @contextlib.contextmanager
    def claim(self, name, wait=False):
        yield True

    def in_use(self):
        return False

    def check_space(self, needed, fitting=None):
        pass

    def full_explained(self, progress=None):
        return contextlib.nullcontext()

    def _at(self, name):
        return f"{self._root}/{name}"

    def _read(self, name):
        try:
            return self._files.cat_file(self._at(name))
        except FileNotFoundError:
            return None


def _requests():
    return concurrent.futures.ThreadPoolExecutor(_REQUESTS)
