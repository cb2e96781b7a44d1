"""The command that lists the methods: losses."""

from rich.console import Console

from tfkd.published import METHODS


def losses():
    """List the losses: method, paper, what it compares, its weight beside the labels in full.

    tfkd distill takes them as --loss NAME or NAME:WEIGHT; those that change the models too are for
    programs (docs/methods.md).

    For example:

        tfkd losses

        tfkd distill --loss dkd --loss review:0.6 --data digits
    """
    console = Console()
    for name, method in METHODS.items():
        console.print(f"{name}: tfkd.losses.{method.loss}", style="bold", highlight=False)
        taken = "" if method.how == "--loss" else f" For programs: {method.how}."
        console.print(
            f"    {method.paper}\n    Reads {method.reads}. Weight {method.weight:g}.{taken}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
