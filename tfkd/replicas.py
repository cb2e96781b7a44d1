"""One model on several devices or in several processes: what a replica's rows count, what fails."""

import keras
import tensorflow as tf

from tfkd.validation import required


def share(rows):
    """What the mean over a replica's rows counts: rows * replicas / rows of all replicas.

    Keras lets the mean of every replica count the same, so that an example of a smaller share of
    the batch would count more. With it a last batch that is not cut evenly counts as on one device.

    Args:
        rows: this replica's, int32 scalar; within a step.

    Returns:
        float32 scalar; None on one device. It fails where a replica has no rows: on all of them,
        so that none waits for another.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    count, empty = tf.cast(rows, tf.float32), tf.cast(tf.equal(rows, 0), tf.float32)
    told = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([count, empty]))
    replicas = context.num_replicas_in_sync
    none_empty = required(
        tf.equal(told[1], 0.0),
        f"A batch has fewer examples than there are replicas ({replicas}), and a replica without "
        "examples cannot take a step. Leave out the last batch (drop_remainder=True), or give a "
        "batch size that leaves more examples for it.",
    )
    with tf.control_dependencies([none_empty]):
        return count * replicas / told[0]


def check(model):
    """Raises ValueError for what Keras cannot do, or does wrongly, on several replicas.

    Args:
        model: a compiled `tfkd.Distiller`.
    """
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas == 1:
        return
    on = f"on {replicas} replicas"
    if model.steps_per_execution > 1:
        raise ValueError(
            f"steps_per_execution={model.steps_per_execution} fails {on}: Keras cannot take "
            "several batches out of a distributed iterator in one call. Compile with "
            "steps_per_execution=1."
        )
    if model.jit_compile is True:
        raise ValueError(
            f"jit_compile=True fails {on}: XLA cannot compile a step that reads variables of "
            'several devices. Compile with jit_compile=False, or "auto".'
        )
    optimizers = {"student": model.optimizer, "teacher": model.source.optimizer}
    optimizers = {
        role: getattr(one, "inner_optimizer", one) for role, one in optimizers.items() if one
    }
    for role, optimizer in optimizers.items():
        _check_optimizer(optimizer, role, on)
    made = {
        "student": model.student.trainable_variables,
        **{f"{role}'s optimizer": [one.iterations] for role, one in optimizers.items()},
        "loss and metrics of compile": [v for metric in model.metrics for v in metric.variables],
    }
    for what, variables in made.items():
        if not all(map(_distributed, variables)):
            raise ValueError(
                f"The {what} must be made within the strategy, else each replica has its own. "
                "Make student, optimizer and Distiller, and call compile, within `with "
                "strategy.scope():`."
            )


def _check_optimizer(optimizer, role, on):
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):
        if getattr(optimizer, name, None) is not None:
            raise ValueError(
                f"The {role}'s optimizer has {name}={getattr(optimizer, name):g}, which {on} would "
                "change the training: Keras clips the gradient of each replica, not their sum. "
                "Leave it out (a lower learning rate, or one that warms up, takes its place), or "
                "train on one device."
            )
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise ValueError(
            f"gradient_accumulation_steps of the {role}'s optimizer fails {on}. Give a larger "
            "batch, which is shared out among the replicas."
        )
    if getattr(optimizer, "use_ema", False) and optimizer.ema_overwrite_frequency:
        raise ValueError(
            f"ema_overwrite_frequency of the {role}'s optimizer fails {on}. Leave it out: fit "
            "writes the averages into the weights once it ends."
        )


def _distributed(variable):
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return isinstance(value, tf.distribute.DistributedValues)
