"""DistillationHyperModel in KerasTuner's tuners."""

import h5py
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from tfkd import Distiller, defaults, losses, metrics, tuning
from tfkd.data.pipeline import index_batches
from tfkd.settings import DistillSettings
from tfkd.teachers import Source
from tfkd.tuning import race, spaces

TOP_2 = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")
HINT = losses.FeatureDistillation("mse", "features", "hidden")
FREE = {
    "student_loss_weight": tuning.Range(0.0, 1.0),
    "temperature": tuning.Range(1.0, 16.0, log=True),
    "learning_rate": tuning.Choice([0.01, 0.003]),
    "distillation_loss_weights": [tuning.Range(0.5, 2.0)],
}


class Changing(Source):
    """A teacher that learns, say."""

    storable = False


def test_one_trace_serves_every_trial_over_weights(hypermodel, tuner, traces, search):
    found = search(tuner(hypermodel(**FREE), max_trials=4))
    assert len(traces) == 1
    trials = found.oracle.get_best_trials(4)
    assert len({tuple(trial.hyperparameters.values.items()) for trial in trials}) == 4
    assert len({trial.score for trial in trials}) > 1


def test_first_trial_is_the_published_baseline(hypermodel, tuner, search):
    found = search(tuner(hypermodel(**FREE), max_trials=1), epochs=1)
    settings = DistillSettings()
    assert found.get_best_hyperparameters()[0].values == {
        "student_loss_weight": settings.student_loss_weight,
        "temperature": spaces.TEMPERATURE.baseline,
        "learning_rate": settings.learning_rate,
        "logits_distillation_weight": settings.logits_weight,
    }


@pytest.mark.parametrize("schedule", [False, True])
def test_a_reused_trial_has_the_figures_of_a_new_one(schedule, hypermodel, tuner, search, examples):
    optimizer = keras.optimizers.Adam
    if schedule:

        def optimizer(rate):
            return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, 10))

    settings = {**FREE, "optimizer": optimizer, "metrics": ["accuracy", TOP_2]}
    hints = [
        losses.LogitsDistillation(2.0),
        losses.FeatureDistillation("mse", "features", "hidden"),  # with an adapter
    ]
    settings["distillation_loss_weights"] = [1.0, tuning.Range(0.0, 1.0)]
    settings["given"] = hints
    found = search(tuner(hypermodel(**settings), max_trials=2, executions_per_trial=2))
    (x, y), validation = examples
    row = tuning.trials(found.project_dir)[-1]
    trial = found.oracle.get_trial(row["trial"])
    assert [execution["seed"] for execution in row["executions"]] == [0, 1]
    for execution in row["executions"]:
        alone = hypermodel(**{**settings, "seed": execution["seed"]})
        model = alone.build(trial.hyperparameters.copy())
        history = alone.fit(
            None, model, x, y, epochs=2, batch_size=32, validation_data=validation, verbose=0
        ).history
        assert history == execution["history"]


class Noise(keras.layers.Layer):
    """Random numbers that no variable of the layer decides."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def call(self, inputs, training=False):
        return inputs + self.draw(keras.ops.shape(inputs)) if training else inputs


@pytest.mark.parametrize(
    "draw",
    [keras.random.normal, tf.random.normal, lambda shape: tf.random.uniform(shape, seed=3)],
    ids=["keras", "tensorflow", "tensorflow with a seed"],
)
def test_a_step_with_random_numbers_of_its_own_serves_one_training(
    draw, hypermodel, tuner, search, traces, examples
):
    def student():
        inputs = keras.Input((8,))
        return keras.Model(inputs, keras.layers.Dense(4)(Noise(draw)(inputs)))

    found = search(tuner(hypermodel(student), max_trials=2), epochs=1)
    assert len({id(distiller) for distiller in traces}) == 2
    row = tuning.trials(found.project_dir)[-1]
    alone = hypermodel(student)
    model = alone.build(found.oracle.get_trial(row["trial"]).hyperparameters.copy())
    (x, y), validation = examples
    settings = {"epochs": 1, "batch_size": 32, "verbose": 0, "validation_data": validation}
    assert alone.fit(None, model, x, y, **settings).history == row["executions"][0]["history"]


def test_the_numbers_reach_the_model(hypermodel):
    hp = keras_tuner.HyperParameters()
    hp.values = {
        "student_loss_weight": 0.7,
        "temperature": 9.0,
        "learning_rate": 0.01,
        "logits_distillation_weight": 1.5,
    }
    model = hypermodel(**FREE).build(hp)
    assert model.student_loss_weight == 0.7
    assert model.distillation_losses[0].temperature == 9.0
    assert model.distillation_loss_weights == [1.5]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_losses_that_were_given_stay_as_they_were(hypermodel):
    given = losses.LogitsDistillation(2.0)
    hypermodel(given=[given], temperature=tuning.Range(5.0, 8.0)).build(
        keras_tuner.HyperParameters()
    )
    assert given.temperature == 2.0


def test_bayesian_optimization(hypermodel, tuner, traces, search):
    weights = tuning.Choice([0.1, 0.3, 0.6, 0.9])
    made = tuner(
        hypermodel(student_loss_weight=weights),
        tuning.BayesianOptimization,
        num_initial_points=2,
        max_trials=3,
    )
    rows = tuning.trials(search(made, epochs=1).project_dir)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    assert len(traces) == 1
    for row in rows:
        assert row["score"] == pytest.approx(row["mean"]["val_accuracy"])
        assert row["values"].keys() == {"student_loss_weight"}


def test_hyperband_goes_on_from_weights_and_optimizer(hypermodel, tuner, traces, examples):
    begun = []

    class Begin(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            begun.append(int(self.model.optimizer.iterations))

        def __deepcopy__(self, memo):
            return self

    made = tuner(hypermodel(), tuning.Hyperband, max_epochs=2, factor=2)
    (x, y), validation = examples
    made.search(x, y, batch_size=32, validation_data=validation, verbose=0, callbacks=[Begin()])
    rows = tuning.trials(made.project_dir)
    assert rows[0]["values"] == {"student_loss_weight": defaults.STUDENT_LOSS_WEIGHT}
    trials = [made.oracle.get_trial(row["trial"]).hyperparameters.values for row in rows]
    # Two steps an epoch, counted on from the first round.
    assert begun == [2 * values["tuner/initial_epoch"] for values in trials]
    assert sum(begun) > 0
    assert len(traces) == 1


def test_the_factory_may_ask_for_more(hypermodel, tuner, traces, search, dense_model):
    built = []

    def student(hp):
        kind = hp.Choice("kind", ["plain", "dropped"])
        with hp.conditional_scope("kind", ["dropped"]):
            rate = hp.Float("rate", 0.1, 0.5) if kind == "dropped" else 0.0
        built.append((kind, rate))
        return dense_model(hp.values["width"] if "width" in hp.values else 4, dropout=rate)

    space = keras_tuner.HyperParameters()
    space.Choice("width", [4, 8])
    made = tuner(hypermodel(student), max_trials=7, hyperparameters=space)
    assert {p.name for p in made.oracle.get_space().space} == {
        "width", "kind", "rate", "student_loss_weight",
    }  # fmt: skip
    search(made, epochs=1)
    rows = tuning.trials(made.project_dir)
    assert len(rows) == 7
    # One compiled step for each structure: plain ones differ in width only.
    structures = {
        (row["values"]["width"], row["values"]["kind"], row["values"].get("rate")) for row in rows
    }
    assert len(traces) == len(structures) < 7
    for row in rows:
        width = row["values"]["width"]
        assert row["parameters"] == (8 + 1) * width + 4 * width + (width + 1) * 4


def test_a_second_search_uses_what_the_first_compiled(
    hypermodel, tuner, traces, search, dense_model
):
    def student(hp):
        return dense_model(hp.Choice("width", [4, 8]))

    model = hypermodel(student)
    search(tuner(model, max_trials=2), epochs=1)
    once = len(traces)
    again = tuner(model, max_trials=2, overwrite=True)
    assert {p.name for p in again.oracle.get_space().space} == {"width", "student_loss_weight"}
    search(again, epochs=1)
    assert len(traces) == once


def test_best_models_are_of_their_own_and_score_what_the_table_says(
    hypermodel, tuner, search, examples
):
    found = search(tuner(hypermodel(**FREE), max_trials=3))
    best = found.get_best_models(2)
    assert len({id(model) for model in best}) == 2
    assert len({id(model.student) for model in best}) == 2
    x, y = examples[1]
    for trial, model in zip(found.oracle.get_best_trials(2), best, strict=True):
        assert isinstance(model, Distiller)
        right = np.mean(np.argmax(model.student.predict(x, verbose=0), axis=1) == y)
        assert right == pytest.approx(trial.score)
        assert model.student_loss_weight == trial.hyperparameters["student_loss_weight"]
    # Later trials leave them alone.
    weights = best[0].student.get_weights()
    found.hypermodel.build(found.get_best_hyperparameters()[0])
    for before, after in zip(weights, best[0].student.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_best_model_can_be_saved(hypermodel, tuner, tmp_path, search, examples):
    def optimizer(rate):
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, 10))

    found = search(tuner(hypermodel(optimizer=optimizer, **FREE), max_trials=2))
    model = found.get_best_models()[0]
    model.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    x, y = examples[1]
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(
        model.evaluate(x, y, verbose=0, return_dict=True)
    )
    assert float(loaded.optimizer.learning_rate) == pytest.approx(
        float(model.optimizer.learning_rate)
    )


def test_the_checkpoints_of_kerastuners_own_tuners_hold_no_teacher(hypermodel, tuner, search):
    big = keras.Sequential([keras.Input((8,)), keras.layers.Dense(333), keras.layers.Dense(4)])
    found = search(tuner(hypermodel(teacher=big), keras_tuner.RandomSearch, max_trials=2), epochs=1)
    for row in tuning.trials(found.project_dir):
        with h5py.File(f"{found.get_trial_dir(row['trial'])}/checkpoint.weights.h5") as file:
            paths = []
            file.visit(paths.append)
            shapes = [file[path].shape for path in paths if isinstance(file[path], h5py.Dataset)]
        assert (8, 4) in shapes  # the student's hidden layer
        assert not any(333 in shape for shape in shapes)


def test_stored_knowledge_needs_no_teacher(hypermodel, tuner, teacher, traces, examples):
    def stored(arrays):
        x, y = arrays
        known = {"output": teacher.predict(x, verbose=0), "features": np.ones((len(x), 3), "f4")}
        ones = np.ones(len(x), "float32")
        return tf.data.Dataset.from_tensor_slices((x, y, ones, known)).batch(32)

    train, validation = map(stored, examples)
    given = [
        losses.LogitsDistillation(2.0),
        losses.FeatureDistillation("mse", "features", "hidden"),
    ]
    settings = {
        "teacher": None,
        "given": given,
        "distillation_loss_weights": [1.0, 0.1],
        "teacher_metrics": [metrics.TeacherAgreement()],
        "knowledge_shapes": {"output": (None, 4), "features": (None, 3)},
    }
    found = tuner(hypermodel(**settings), objective=tuning.objective("val_teacher_agreement"))
    found.search(train, validation_data=validation, epochs=2, verbose=0)
    assert len(traces) == 1
    best = found.oracle.get_best_trials()[0]
    logs = found.get_best_models()[0].evaluate(validation, verbose=0, return_dict=True)
    assert logs["teacher_agreement"] == pytest.approx(best.score)
    with pytest.raises(keras_tuner.errors.FatalValueError, match="knowledge_shapes"):
        tuner(hypermodel(**{**settings, "knowledge_shapes": None}), project_name="other")


def test_data_by_seed(hypermodel, tuner, examples):
    asked = []
    (x, y), validation = examples

    def train(seed):
        asked.append(seed)
        return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64, seed=seed).batch(32)

    made = tuner(hypermodel(seed=5), max_trials=2, executions_per_trial=2)
    made.search(train, validation_data=validation, epochs=1, verbose=0)
    assert asked == [5, 6, 5, 6]
    rows = tuning.trials(made.project_dir)
    for row in rows:
        assert [execution["seed"] for execution in row["executions"]] == [5, 6]
        scores = [execution["metrics"]["val_accuracy"] for execution in row["executions"]]
        assert row["score"] == pytest.approx(np.mean(scores))
        assert row["std"]["val_accuracy"] == pytest.approx(np.std(scores, ddof=1))


def test_a_trial_that_diverges_fails_and_the_search_goes_on(hypermodel, tuner, traces, search):
    rates = tuning.Choice([1e30, 1e-3, 3e-3], default=1e30)
    settings = {"student_loss_weight": 0.5, "learning_rate": rates}
    made = tuner(
        hypermodel(optimizer=keras.optimizers.SGD, **settings),
        tuning.GridSearch,
        max_trials=3,
    )
    search(made)
    rows = tuning.trials(made.project_dir)
    assert [row["status"] for row in rows] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert rows[0]["message"].startswith("The student diverged in epoch 1: loss")
    assert rows[0]["score"] is None and rows[0]["mean"] == {}
    assert len(traces) == 1
    assert made.get_best_hyperparameters()[0]["learning_rate"] < 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"student_loss_weight": 0.5}, "nothing to search"),
        ({"student_loss_weight": tuning.Range(0.5, 1.5)}, "between 0 and 1"),
        ({"temperature": tuning.Choice([0.0, 1.0])}, "temperature must be greater than 0"),
        ({"learning_rate": -1.0}, "learning_rate must be greater than 0"),
        ({"distillation_loss_weights": [tuning.Range(-1, 1)]}, "at least 0"),
        ({"distillation_loss_weights": [1.0, 1.0]}, "one weight for each of the 1"),
        ({"student": keras.Sequential()}, "must be a function"),
        ({"given": []}, "at least one loss"),
        ({"teacher": Changing()}, "Changing does not answer every trial alike"),
        ({"given": [HINT], "temperature": 4}, "none of the distillation"),
    ],
)
def test_what_is_refused_at_construction(settings, words, hypermodel):
    with pytest.raises(ValueError, match=words):
        hypermodel(**settings)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (keras_tuner.Objective("val_logits_distillation", "min"), "temperature that is searched"),
        (
            keras_tuner.Objective("val_f1", "max"),
            "There are: val_accuracy, val_student_loss, val_teacher_agreement",
        ),
    ],
)
def test_objectives_that_are_refused(objective, words, hypermodel, tuner, search):
    compared = [metrics.TeacherAgreement()]
    model = hypermodel(temperature=tuning.Range(1, 8), teacher_metrics=compared)
    with pytest.raises(keras_tuner.errors.FatalValueError, match=words):
        search(tuner(model, objective=objective))


def test_validation_data_is_needed(hypermodel, tuner, examples):
    (x, y), _ = examples
    made = tuner(hypermodel(), max_trials=1)
    with pytest.raises(keras_tuner.errors.FatalValueError, match="no validation data"):
        made.search(x, y, epochs=1, verbose=0)
    made = tuner(hypermodel(), max_trials=1, overwrite=True)
    made.search(x, y, epochs=1, verbose=0, validation_split=0.25)
    assert made.oracle.get_best_trials()[0].status == "COMPLETED"


def test_a_race_goes_on_as_if_a_training_had_not_been_cut(hypermodel, tuner, examples, traces):
    """Of its epochs and of its seeds: every figure is that of one training at once."""
    (x, y), validation = examples

    def train(seed, epoch):
        order = index_batches(len(x), 32, shuffle=True, seed=seed)
        for _ in range(epoch):  # it counts its iterations
            next(iter(order))
        return order.map(lambda chosen, _: (tf.gather(x, chosen), tf.gather(y, chosen)))

    settings = {"validation_data": validation, "verbose": 0}
    model = hypermodel(metrics=["accuracy"], seed=5)
    raced = tuner(model, tuning.SuccessiveHalving, max_epochs=6, seeds=2, max_trials=2)
    raced.search(train, **settings)
    assert len(traces) == 1
    rows = tuning.trials(raced.project_dir)
    trials = {
        (row["trial"], own["seed"]): own
        for row in race.joined(rows, "val_accuracy", 1)
        for own in row["seeds"]
    }
    assert trials["0000", 5]["epochs"] == trials["0000", 6]["epochs"] == 6
    undisturbed = {seed: hypermodel(metrics=["accuracy"], seed=seed) for seed in (5, 6)}
    for (name, seed), own in trials.items():
        alone = undisturbed[seed]
        space = raced.oracle.get_trial(name).hyperparameters.copy()
        space.values = race.own_values(space.values)
        built = alone.build(space)
        history = alone.fit(None, built, train, epochs=own["epochs"], **settings).history
        assert history == own["history"]
