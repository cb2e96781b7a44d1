"""What was perhaps meant by a name that there is not."""

import difflib


def meant(name, known, most=2, cutoff=0.6):
    """'Did you mean "a" or "b"? ' of the known names most like a given one; "" where none is.

    Capital letters make no difference.

    Args:
        name: what was given.
        known: iterable of str.
        most: how many to name.
        cutoff: how like a name must be, 0 to 1.
    """
    known = {own.lower(): own for own in known}
    near = difflib.get_close_matches(str(name).lower(), known, n=most, cutoff=cutoff)
    named = " or ".join(f'"{known[own]}"' for own in near)
    return f"Did you mean {named}? " if near else ""
