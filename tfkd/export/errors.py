"""The error of a failed check."""


class ExportCheckError(RuntimeError):
    """What was exported does not do what the student does; nothing was published. The message says
    what differed."""
