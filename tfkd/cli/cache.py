"""The commands on stores of a teacher's answers: build, info, verify, merge."""

from typing import Annotated

from cyclopts import App, Parameter

from tfkd import runs
from tfkd.cli.flags import flags_of, given_of
from tfkd.settings import CacheSettings, DataSettings

NOT_SOUND = 1  # exit code

Folder = Annotated[
    str, Parameter(help="Folder of stores, as --cache of tfkd distill takes it: a path or a URL.")
]
Store = Annotated[str, Parameter(help="A store, or a folder of stores: a path or a URL.")]

cache_app = App(
    name="cache", help="A teacher's answers, stored before any run: built, checked, put together."
)


@cache_app.command
def build(folder: Folder, /, *, flags: flags_of(CacheSettings) = None):
    """Ask a trained teacher once and store its answers, where tfkd distill --cache finds them.

    Started several times, on one machine or on hosts that share a disk, the builders share the
    work; one that dies is replaced by the others. The bytes are those of one builder. On hosts
    without a common disk, and in object stores, each gets its --share.

    For example:

        tfkd cache build stores --data ./photos --image-size 96 --teacher teacher.keras
            --augment crop_flip --views 30 --layer stage2_out

        tfkd distill --cache stores --data ./photos --image-size 96 --teacher teacher.keras
            --augment crop_flip --epochs 30 --hints stage2_out:stage2_out
    """
    runs.build_cache(CacheSettings(**given_of(flags, CacheSettings)), folder)


@cache_app.command
def info(path: Store, /):
    """Print what a store holds: teacher, views, tensors, size, and whether it is complete.

    For example:

        tfkd cache info stores
    """
    runs.cache_info(path)


@cache_app.command
def verify(
    path: Store,
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(help="The data of the store: every example is compared with its records."),
    ] = None,
    flags: flags_of(DataSettings) = None,
):
    """Read every record of every file of a store, and print what is wrong.

    Checksums, fingerprints, numbers that are not finite. The exit code is 1 where something is
    wrong; building the store again makes the files that are damaged anew.

    For example:

        tfkd cache verify stores --data ./photos --image-size 96
    """
    settings = DataSettings(**given_of(flags, DataSettings))
    if any(runs.verify_cache(path, data, settings).values()):
        raise SystemExit(NOT_SOUND)


@cache_app.command
def merge(
    path: Annotated[str, Parameter(help="Where the whole is to be: a path or a URL.")],
    *parts: Annotated[str, Parameter(help="Stores, or folders of stores, of one share each.")],
):
    """Put shares together that were built on different disks; the bytes are one builder's.

    For example:

        tfkd cache merge stores host1/stores host2/stores
    """
    runs.merge_caches(path, parts)
