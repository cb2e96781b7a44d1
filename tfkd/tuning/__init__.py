"""KerasTuner searches the weights of a distillation: any tuner, one compiled step for all trials.

```python
hypermodel = tfkd.tuning.DistillationHyperModel(
    make_student,
    teacher,
    [tfkd.losses.LogitsDistillation(temperature=4)],
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    student_loss_weight=tfkd.tuning.Range(0.0, 1.0),
    temperature=tfkd.tuning.Range(1.0, 16.0, log=True),
)
tuner = tfkd.tuning.BayesianOptimization(
    hypermodel, tfkd.tuning.objective("val_accuracy"), max_trials=12, directory="search"
)
tuner.search(train, validation_data=validation, epochs=10)
best = tuner.get_best_models()[0].student
```

Four tuners are KerasTuner's own with four additions: they begin with the defaults, train the best
few from further seeds where they are told (`finalists`, `seeds`), end a killed search as an
undisturbed one ends, and write every file whole. `SuccessiveHalving` is a fifth one: its trials
race. KerasTuner's own take the hypermodel as well.

Names load on first use: spaces and results import no TensorFlow."""

from typing import TYPE_CHECKING

from tfkd import _lazy

if TYPE_CHECKING:
    from tfkd.spaces import Choice, Range
    from tfkd.tuning.hypermodel import DistillationHyperModel
    from tfkd.tuning.objectives import objective
    from tfkd.tuning.picture import plot
    from tfkd.tuning.results import mean_and_std, pareto, trials
    from tfkd.tuning.spaces import weight_range
    from tfkd.tuning.tuners import (
        BayesianOptimization,
        GridSearch,
        Hyperband,
        RandomSearch,
        SuccessiveHalving,
    )

_HOMES = {
    "BayesianOptimization": "tfkd.tuning.tuners",
    "Choice": "tfkd.spaces",
    "DistillationHyperModel": "tfkd.tuning.hypermodel",
    "GridSearch": "tfkd.tuning.tuners",
    "Hyperband": "tfkd.tuning.tuners",
    "RandomSearch": "tfkd.tuning.tuners",
    "Range": "tfkd.spaces",
    "SuccessiveHalving": "tfkd.tuning.tuners",
    "mean_and_std": "tfkd.tuning.results",
    "objective": "tfkd.tuning.objectives",
    "pareto": "tfkd.tuning.results",
    "plot": "tfkd.tuning.picture",
    "trials": "tfkd.tuning.results",
    "weight_range": "tfkd.tuning.spaces",
}

__all__ = [
    "BayesianOptimization",
    "Choice",
    "DistillationHyperModel",
    "GridSearch",
    "Hyperband",
    "RandomSearch",
    "Range",
    "SuccessiveHalving",
    "mean_and_std",
    "objective",
    "pareto",
    "plot",
    "trials",
    "weight_range",
]
__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)
