"""A data set's report before training: tables for a terminal, and a contact sheet."""

from rich import box
from rich.table import Table
from rich.text import Text

from tfkd import data, terminal

SAMPLES = 6  # images of each class on a contact sheet
# Classes and repeated pictures that are named one by one; damaged files all are.
_CLASSES_SHOWN, _SMALLEST_SHOWN, _PICTURES_SHOWN = 40, 15, 20


def look(name, settings, sheet=None):
    """See `tfkd.runs.inspect_data`."""
    found = data.inspect(
        name,
        settings.data_dir,
        image_size=settings.image_size,
        resize=settings.resize,
        skip_damaged=settings.skip_damaged,
        limit=settings.limit,
        samples=SAMPLES if sheet else 0,
        watch=_progress,
    )
    show(found, settings.skip_damaged)
    if sheet:
        data.contact_sheet(found.samples, sheet)
        terminal.say(f"Contact sheet: {sheet}")
    if settings.store is not None and found.usable:
        data.load(
            name,
            settings.data_dir,
            image_size=settings.image_size,
            resize=settings.resize,
            skip_damaged=settings.skip_damaged,
            store=settings.store,
        )
        terminal.say(f"Stored, decoded and resized: {settings.store}")
    return found


def _progress(items, total):
    with terminal.step("Looking at images", total=total) as step:
        for item in items:
            yield item
            step.advance()


def show(found, skip_damaged=False, console=None):
    """Prints an `Inspection`.

    Args:
        skip_damaged: whether what cannot be read is left out.
        console: `rich.console.Console`; by default standard output.
    """
    console = console or terminal.console()
    total = sum(own.sum() for own in found.counts.values())
    _say(console, f"{found.name}: {total} images, {len(found.class_names)} classes")
    console.print(_classes(found))
    console.print()
    for name, text in _facts(found):
        _say(console, f"{name}: {text}")
    dropped = "left out" if skip_damaged else "not readable"
    damaged = [f"{name}: {why}" for name, why in found.damaged.items()]
    _list(console, f"Damaged files ({len(damaged)}, {dropped}):", damaged, len(damaged))
    dropped = "left out" if skip_damaged else "without any image"
    _list(console, f"Empty classes ({len(found.empty)}, {dropped}):", found.empty, len(found.empty))
    _list(
        console,
        f"Pictures that are there more than once ({len(found.repeats)}):",
        [" = ".join(group) for group in found.repeats],
        _PICTURES_SHOWN,
    )
    for text in found.findings:
        _say(console, f"Note: {text}")
    for text in found.refused:
        _say(console, f"To do: {text}")
    if found.usable:
        _say(console, "Training can begin with these images.")


def _say(console, text):
    console.print(text, highlight=False, markup=False)


def _list(console, title, items, most):
    if items:
        _say(console, title)
        for item in items[:most]:
            _say(console, f"  {item}")
        if len(items) > most:
            _say(console, f"  and {len(items) - most} more")


def _classes(found):
    """The table of images a class and split; of many classes the smallest ones and the largest."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("class", overflow="fold")
    for role in found.counts:
        table.add_column(f"{role} (cut)" if role in found.cut else role, justify="right")
    totals = sum(found.counts.values())
    shown = list(range(len(found.class_names)))
    if len(shown) > _CLASSES_SHOWN:
        shown = sorted(shown, key=lambda index: totals[index])
        between = len(shown) - _SMALLEST_SHOWN - 1
        shown = [*shown[:_SMALLEST_SHOWN], None, shown[-1]]
    for index in shown:
        if index is None:
            table.add_row(f"… {between} more, larger …", *[""] * len(found.counts))
            continue
        own = (str(counts[index]) for counts in found.counts.values())
        table.add_row(Text(found.class_names[index]), *own)
    return table


def _facts(found):
    """(what, text) of the lines below the table."""
    if found.sizes:
        smallest, median, largest = (f"{height}x{width}" for height, width in found.sizes)
        said = smallest
        if smallest != largest:
            said = f"{smallest} smallest, {median} median, {largest} largest"
        yield "Sizes (height x width)", said
    if found.suffixes:
        yield "Files", ", ".join(f"{count} {own}" for own, count in found.suffixes.most_common())
    for what, kinds in (("Converted", found.converted), ("Not read", found.left_out)):
        for kind, (count, example) in kinds.items():
            yield what, f"{count} {kind} (such as {example})"
