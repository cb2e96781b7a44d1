"""Language and translation as kinds of task, and their two recipes, at the smallest size."""

import csv
import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import recipes, tasks
from tfkd.data import text
from tfkd.data.vocabulary import END, START, Vocabulary
from tfkd.evaluation.text import bleu, negative_log_likelihood
from tfkd.models import generation, one_pass
from tfkd.runs import run_recipe
from tfkd.settings import SettingsError
from tfkd.tasks.translation import sequence_level

SMALL = {
    "tatarnikova2025": {
        "length": 16,
        "limit": 40,
        "teacher_options": {"width": 8, "depth": 1, "heads": 2},
        "student_options": {"width": 8, "depth": 1, "heads": 2, "dropout": 0.0},
        "rank": 2,
    },
    "wan2023": {
        "length": 9,
        "limit": 40,
        "teacher_options": {"width": 8, "depth": 1, "heads": 2},
        "student_options": {"width": 8, "depth": 1, "heads": 2, "dropout": 0.0},
        "memory": 64,
    },
}


class Case:
    """A recipe's settings, data, teacher and student, all small."""

    def __init__(self, name):
        self.recipe = recipes.get(name)
        self.settings = self.recipe.settings(**SMALL[name])
        self.task = tasks.get(self.settings.learns)
        self.splits = self.task.load(self.settings)
        keras.utils.set_random_seed(0)
        self.teacher = self.task.build("teacher", self.settings, self.splits.info)
        self.student = self.task.build("student", self.settings, self.splits.info)
        self.batches = self.task.batches(self.splits.train, self.settings, 0, self.splits.info)
        self.batch = next(iter(self.batches))


@pytest.fixture(scope="module")
def language():
    return Case("tatarnikova2025")


@pytest.fixture(scope="module")
def translation():
    return Case("wan2023")


@pytest.fixture(params=["language", "translation"])
def case(request):
    return request.getfixturevalue(request.param)


def log_softmax(x):
    x = np.asarray(x, "float64")
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_its_figures_are_those_that_it_promises(case):
    """The perplexity against a mean over all positions, one example at a time, no padding."""
    few, logs = case.splits.validation.take(6), []
    found = case.task.judge(case.student, few, case.splits.info)()
    assert list(found) == list(case.task.figures)
    assert case.task.lower_is_better == (case.task.judged == "perplexity")
    assert found.get("bleu", 0.0) < 5.0  # an untrained model translates nothing
    for x, y in few:
        x, y = x[None], y[None]
        if case.task.name == "translation":
            x, y = text.pair_tokens(case.splits.info, x, y)
        own = log_softmax(case.student(x, training=False))[0]
        logs += list(own[np.arange(y.shape[1]), y.numpy()[0]])
    np.testing.assert_allclose(found["perplexity"], math.exp(-np.mean(logs)), rtol=1e-4)


def test_epochs_have_orders_of_their_own_the_same_for_every_row(language):
    def epochs():
        info = language.splits.info
        made = language.task.batches(language.splits.train, language.settings, 0, info)
        assert len(made) == math.ceil(info.sizes["train"] / language.settings.batch_size)
        return [np.concatenate([y.numpy().ravel() for _, y in made]).tolist() for _ in range(2)]

    first, again = epochs(), epochs()
    assert first == again and first[0] != first[1]


def test_a_model_of_another_vocabulary_or_shape_is_refused(case):
    task, info = case.task, case.splits.info
    task.check("student", case.student, "own", info)
    known = [Vocabulary(own.kind, own.tokens[::-1]) for own in info.vocabularies]
    other = dataclasses.replace(info, vocabularies=tuple(known))
    with pytest.raises(ValueError, match="was made for another vocabulary"):
        task.check("student", case.student, "own", other)
    longer = dataclasses.replace(info, lengths=tuple(own + 1 for own in info.lengths))
    with pytest.raises(ValueError, match="reads at most .* Give a smaller length"):
        task.check("student", case.student, "own", longer)
    image = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="expected a model with .*inputs"):
        task.check("student", image, "own", info)


def total(system, teacher, batch, loss):
    distiller = system.distiller(system.source or teacher)
    several = isinstance(system.label_weights, dict)
    loss = dict.fromkeys(system.label_weights, loss) if several else loss
    distiller.compile("sgd", loss, loss_weights=system.loss_weights)
    found = distiller.test_step(batch)
    return float(found["loss"]), distiller


def test_tatarnikova2025_is_labels_and_distributions_by_a_low_rank_student(language):
    case = language
    x, y = case.batch
    system = case.recipe.build(case.settings, case.teacher, case.student)
    assert system.student.count_params() < case.student.count_params()
    found, _ = total(system, case.teacher, (x, y), case.task.loss(None, case.settings, None))
    own, taught = (log_softmax(model(x)) for model in (system.student, case.teacher))
    labels = -np.take_along_axis(own, y.numpy()[..., None], axis=-1).mean()
    apart = (np.exp(taught) * (taught - own)).sum(axis=-1).mean()
    np.testing.assert_allclose(found, 0.1 * labels + 0.9 * apart, rtol=1e-5)
    alone = case.recipe.ablations(case.settings)
    rows = {k: case.recipe.build(s, case.teacher, case.student) for k, s in alone.items()}
    assert rows["intervention only"].student is case.student
    assert rows["intervention only"].source.threshold == case.settings.threshold
    assert rows["low rank only"].source is None
    with pytest.raises(SettingsError, match="threshold is -1"):
        case.settings.replace(threshold=-1.0)


def test_a_run_of_tatarnikova2025_fine_tunes_a_trained_student(language, tmp_path, monkeypatch):
    """Teacher and student from files; with a threshold of 0 every token is the teacher's."""
    for name in ("WARM_UP_RUNS", "FEWEST_RUNS", "SECONDS_PER_MODEL"):
        monkeypatch.setattr(f"tfkd.evaluation.costs.{name}", 1)
    files = {role: str(tmp_path / f"{role}.keras") for role in ("teacher", "student")}
    for role, path in files.items():
        getattr(language, role).save(path)
    settings = language.recipe.settings(
        **{**SMALL["tatarnikova2025"], "student_options": {}, "teacher_options": {}},
        **{**files, "threshold": 0.0, "epochs": 1, "seeds": 1, "seed": 3, "tensorboard": False},
    )
    out = tmp_path / "run"
    record = run_recipe("tatarnikova2025", settings, out)
    lines = ["teacher", "alone", "distilled", "tatarnikova2025"]
    assert list(record["figures"]) == lines
    found = {line: record["figures"][line][0] for line in lines}
    for line in lines[2:]:
        gain = found["alone"]["perplexity"] - found[line]["perplexity"]
        assert found[line]["gain"] == pytest.approx(gain, rel=1e-9)
    sizes = [found[line]["parameters"] for line in lines]
    assert sizes[1] == sizes[2] == language.student.count_params() > sizes[3]
    assert len({record["trainings"][f"3/{line}"]["student_start"] for line in lines[1:]}) == 1
    student = keras.models.load_model(out / "student.keras")
    assert "LowRankDense" in {type(layer).__name__ for layer in student.layers}
    judged = language.task.judge(student, language.splits.test, language.splits.info)()
    assert judged["perplexity"] == pytest.approx(found["tatarnikova2025"]["perplexity"], rel=1e-5)
    with open(out / "history.csv", newline="") as file:
        inserted = {own["row"]: own["inserted"] for own in csv.DictReader(file)}
    assert inserted == {"alone": "", "distilled": "", "tatarnikova2025": "1.0"}
    table = (out / "table.md").read_text()
    for heading in ("perplexity", "ROUGE-L (%)", "file size (kB)", "latency of one sequence (ms)"):
        assert f"| {heading} " in table


def test_wan2023_is_labels_and_two_consistencies(translation):
    """Without neighbours yet and without dropout: cross-entropy, and nothing to agree on."""
    x, y = translation.batch
    system = translation.recipe.build(
        translation.settings, translation.teacher, translation.student
    )
    loss = translation.task.loss(None, translation.settings, None)
    assert [own.name for own in system.losses] == [
        *("neighbor_distillation", "encoder_consistency", "decoder_consistency"),
    ]
    found, distiller = total(system, translation.teacher, (x, y), loss)
    own, known = log_softmax(translation.student(x)), y.numpy() != 0
    assert not known.any(axis=1).all()  # some have no translation
    labels = -np.take_along_axis(own, y.numpy()[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found, labels[known].mean(), rtol=1e-5)
    distiller.train_step((x, y))
    memory = system.losses[0].remembered.numpy()
    assert (memory > 0).sum() == min(64, known.sum())
    deployed = translation.recipe.deployed(distiller.student)[""]
    assert isinstance(deployed, keras.Model) and deployed.output_shape[-1] == own.shape[-1]
    assert deployed.count_params() == one_pass(distiller.student).count_params()
    with pytest.raises(SettingsError, match="both smooth the labels"):
        translation.settings.replace(label_smoothing=0.1)


def test_wan2023_is_consistent_where_there_are_words(translation):
    """Both passes count, in the encoder on every source, in the decoder on every known label."""
    x, y = translation.batch
    dropped = translation.settings.replace(
        student_options={**SMALL["wan2023"]["student_options"], "dropout": 0.3}, neighbors=0
    )
    student = translation.task.build("student", dropped, translation.splits.info)
    system = translation.recipe.build(dropped, None, student)
    loss = dict.fromkeys(system.label_weights, translation.task.loss(None, dropped, None))
    distiller = system.distiller(None)
    distiller.compile("sgd", loss, loss_weights=system.loss_weights)
    distiller.prepare(x, y)
    out, tensors = distiller.taps(x, True)
    found = distiller.compute_loss(x, y, out, None, True, {}, tensors)
    words, known = x["source"].numpy() != 0, y.numpy() != 0
    passes = [out[name].numpy() for name in ("encoded", "encoded_again")]
    units = [own / np.linalg.norm(own, axis=-1, keepdims=True) for own in passes]
    apart = 1 - (units[0] * units[1]).sum(axis=-1)[words].mean()
    first, second = (log_softmax(out[name])[known] for name in ("output", "again"))
    both = [
        (np.exp(p) * (p - q)).sum(axis=-1).mean() for p, q in ((first, second), (second, first))
    ]
    labels = y.numpy()[known][:, None]
    own = [-np.take_along_axis(p, labels, axis=-1).mean() for p in (first, second)]
    weights = (0.5, dropped.encoder_weight, 0.5 * dropped.decoder_weight)
    expected = np.dot(weights, (sum(own), apart, sum(both)))
    assert apart > 0.01 and min(both) > 0.001
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_run_of_wan2023_leaves_a_translator_of_one_pass(translation, tmp_path):
    path = tmp_path / "teacher.keras"
    translation.teacher.save(path)
    settings = translation.settings.replace(
        teacher=str(path), teacher_options={}, epochs=1, seeds=1, any_teacher=True
    )
    record = run_recipe("wan2023", settings, tmp_path / "run")
    assert list(record["figures"]) == ["teacher", "alone", "distilled", "wan2023"]
    alone, own = (record["figures"][row][0] for row in ("alone", "wan2023"))
    assert own["gain"] == own["bleu"] - alone["bleu"]
    assert own["parameters"] == alone["parameters"] == translation.student.count_params()
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    assert set(student.input) == {"source", "target"} and len(student.outputs) == 1
    ((sources, targets),) = translation.splits.test.batch(300)
    x, y = text.pair_tokens(translation.splits.info, sources, targets)
    sums, count = negative_log_likelihood(student(x), y)
    assert own["perplexity"] == pytest.approx(math.exp(sums / count), rel=1e-5)
    assert "| wan2023 " in (tmp_path / "run" / "table.md").read_text()


def test_an_unknown_word_is_one_wrong_word(translation):
    """BLEU cuts "[UNK]" in three; a translation that says it is no longer than it is."""
    info = translation.splits.info
    judge = translation.task.judge(translation.student, translation.splits.test.take(1), info)
    ((_, target),) = translation.splits.test.take(1)
    words = target.numpy().decode().split()
    line = " ".join(["[UNK]", *words[1:]]).encode()
    judge._translate = lambda sources: tf.constant([line])
    wrong = " ".join(["other", *words[1:]])
    assert judge()["bleu"] == bleu([wrong], [target.numpy().decode()]) > 0


def test_sequence_level_distillation_trains_on_the_teachers_translations(translation):
    taught = sequence_level(translation.splits, translation.teacher, beams=1)
    (sources, old), (same, new) = (
        text.lines_of(splits.train) for splits in (translation.splits, taught)
    )
    assert same == sources
    assert not any(line for line, before in zip(new, old, strict=True) if not before)
    info = translation.splits.info
    tokens = text.source_tokens(info, tf.constant(sources[:1]))
    found = generation.translated(translation.teacher, tokens, START, END, info.lengths[1])
    assert new[0] == info.vocabularies[1].decode(found).numpy()[0].decode() != old[0]
