"""The command that lists the methods: losses."""

from tfkd import terminal
from tfkd.published import METHODS


def losses():
    """List the losses: method, paper, what it compares, its weight beside the labels in full.

    tfkd distill takes them as --loss NAME or NAME:WEIGHT; those that change the models too are for
    programs (docs/methods.md).

    For example:

        tfkd losses

        tfkd distill --loss dkd --loss review:0.6 --data digits
    """
    for name, method in METHODS.items():
        terminal.say(f"{name}: tfkd.losses.{method.loss}", style="bold")
        taken = "" if method.how == "--loss" else f" For programs: {method.how}."
        terminal.say(
            f"    {method.paper}\n    Reads {method.reads}. Weight {method.weight:g}.{taken}"
        )
