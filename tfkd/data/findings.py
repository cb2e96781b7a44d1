"""What is seen of labelled images before training: pictures that are there twice, tiny classes."""

import hashlib

import numpy as np

_NAMES_SHOWN = 5


def digest(image):
    """16 bytes that tell an image's size and pixels: uint8 array (height, width, channels)."""
    pixels = np.ascontiguousarray(image)
    return hashlib.blake2b(
        pixels.data, digest_size=16, salt=str(pixels.shape).encode()[-16:]
    ).digest()


def repeats(contents):
    """Examples of one content.

    Args:
        contents: list of bytes, one an example.

    Returns:
        list of lists of positions, one for each content that is there more than once, in order.
    """
    found = {}
    for position, content in enumerate(contents):
        found.setdefault(content, []).append(position)
    return [positions for positions in found.values() if len(positions) > 1]


def of_repeats(groups, roles, labels, names, thing="picture", things="images"):
    """Sentences about pictures that are there more than once.

    Args:
        groups: as `repeats` returns them.
        roles: list of "train", "validation" or "test", one an example.
        labels: list of int, one an example.
        names: function of a position to what an example is called.
        thing, things: what one content, and what examples are called.
    """
    said = []

    def say(what, text, group):
        pair = " and ".join(f'"{names(position)}"' for position in group[:2])
        said.append(f"{text}: {what}, such as {pair}.")

    for role, why in (
        ("test", f"its accuracy is partly that of {things} learnt by heart"),
        ("validation", f"what validation chooses is chosen partly by {things} learnt by heart"),
    ):
        shared = [_pair(own, roles, role, "train") for own in groups]
        shared = [own for own in shared if own]
        if shared:
            count = sum(roles[position] == role for own in shared for position in own[2:])
            what = f"{count} of its {roles.count(role)} {things}, {why}"
            say(what, f"The {role} split shows {thing}s that are trained on", shared[0])
    contradicting = [own for own in groups if len({labels[position] for position in own}) > 1]
    if contradicting:
        first = contradicting[0]
        other = next(p for p in first if labels[p] != labels[first[0]])
        text = f"The same {thing} stands in more than one class"
        say(_times(len(contradicting)), text, [first[0], other])
    if groups:
        spare = sum(len(own) - 1 for own in groups)
        say(_times(spare), f"A {thing} is there again", groups[0])
    return said


def _times(count):
    return "once" if count == 1 else f"{count} times"


def _pair(group, roles, one, other):
    """A group's first member of each of two roles, then all of it; [] where a role is not there."""
    firsts = [next((p for p in group if roles[p] == role), None) for role in (one, other)]
    return [] if None in firsts else [*firsts, *group]


def of_sizes(counts, class_names, thing="image"):
    """Sentences about classes too small for the splits.

    Args:
        counts: {role: int array (classes,)}, images of each class.
        class_names: list of str.
        thing: what an example is called.
    """
    total, said = sum(counts.values()), []
    for role, own in counts.items():
        lacking = np.flatnonzero((own == 0) & (total > 0))
        if len(lacking):
            some = ", ".join(
                f'"{class_names[index]}" ({total[index]} in all)'
                for index in lacking[:_NAMES_SHOWN]
            )
            more = ", ..." * (len(lacking) > _NAMES_SHOWN)
            classes = "class" if len(lacking) == 1 else "classes"
            said.append(f"No {role} {thing} of {len(lacking)} {classes}: {some}{more}.")
    return said
