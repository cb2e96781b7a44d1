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
tuner = keras_tuner.BayesianOptimization(
    hypermodel, tfkd.tuning.objective("val_accuracy"), max_trials=12, directory="search"
)
tuner.search(train, validation_data=validation, epochs=10)
best = tuner.get_best_models()[0].student
```

Names load on first use: spaces, records and fronts import no TensorFlow."""

from tfkd import _lazy

_HOMES = {
    "Choice": "tfkd.tuning.spaces",
    "DistillationHyperModel": "tfkd.tuning.hypermodel",
    "Range": "tfkd.tuning.spaces",
    "baseline_first": "tfkd.tuning.beginnings",
    "mean_and_std": "tfkd.tuning.records",
    "objective": "tfkd.tuning.objectives",
    "pareto": "tfkd.tuning.fronts",
    "trials": "tfkd.tuning.records",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)
