"""Teachers' answers, stored once and found by runs."""

from tfkd.runs.tensorflow_output import import_tensorflow


def build_cache(settings, folder):
    """Asks a trained teacher once and stores its answers, where runs with `cache=folder` find them.

    Several processes may do so at the same time, see `tfkd.TeacherCache.build`.

    Args:
        settings: `CacheSettings`.
        folder: of the stores, a path or a URL; the store gets a name there that says what it is.

    Returns:
        str, path or URL of the store, a `tfkd.TeacherCache` where it is complete.

    Raises:
        As `tfkd.TeacherCache.build`; FileNotFoundError: data or a teacher file that is not there.
    """
    settings = settings.resolved()
    settings.check_files()
    import_tensorflow()
    from tfkd.runs import stores

    return stores.build(settings, folder)


def cache_info(path):
    """Prints what a store of a teacher's answers holds, or every store of a folder.

    Args:
        path: path or URL.

    Returns:
        {path: what `tfkd.TeacherCache.info` says}.

    Raises:
        ValueError: no store there.
    """
    import_tensorflow()
    from tfkd.runs import stores

    return stores.look(path)


def verify_cache(path, data=None, settings=None):
    """Reads every record of a store, or of every store of a folder, and prints what is wrong.

    Args:
        path: path or URL.
        data: as for `tfkd.data.load`; then every example is compared with its records, too.
        settings: `tfkd.settings.DataSettings` of the data.

    Returns:
        {path: what `tfkd.TeacherCache.verify` says}.

    Raises:
        ValueError: no store there, or data of another shape or length.
    """
    if data is not None:
        settings.check_files()
    import_tensorflow()
    from tfkd.runs import stores

    return stores.verify(path, data, settings)


def merge_caches(path, parts):
    """Puts stores together that were built by shares in different folders.

    Args:
        path: of the whole: a store where the parts are stores, a folder of stores where they are.
        parts: list of paths or URLs.

    Returns:
        List of str, the stores that are complete now.

    Raises:
        ValueError: as `tfkd.TeacherCache.merge`.
    """
    import_tensorflow()
    from tfkd.runs import stores

    return stores.merge(path, list(parts))
