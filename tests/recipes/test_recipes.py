"""Each recipe's total loss against the paper's sum, derived anew in NumPy at float64; who deploys
what; bad input."""

import types

import keras
import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from tfkd import data, losses, models, recipes
from tfkd.data.seeds import view_seed
from tfkd.recipes import base, feng2021, ye2024
from tfkd.runs import run_recipe
from tfkd.settings import SettingsError

SHAPE, CLASSES = (16, 16, 1), 5


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(7)
    images = generator.integers(0, 256, (12, *SHAPE)).astype("float32")
    return images, generator.integers(0, CLASSES, 12)


def network(name="modified_alexnet", seed=0, **options):
    keras.utils.set_random_seed(seed)
    options = {"width": 0.05, **options} if name != "resnet" else {"depth": 8, "width": 0.5}
    model = models.build(name, SHAPE, CLASSES, **options)
    logits = model.get_layer("logits")
    # Bold logits: a softened divergence of nearly equal ones would be nearly nothing.
    logits.set_weights([12 * weight for weight in logits.get_weights()])
    return model


@pytest.fixture(scope="module")
def teacher():
    return network(seed=1)


def total(system, teacher, batch):
    """What the Distiller says of one batch: its total loss in inference mode."""
    distiller = system.distiller(teacher)
    # Eagerly: one batch costs less than its trace.
    given = {"loss": system.loss, "loss_weights": system.loss_weights}
    distiller.compile(**given, run_eagerly=True)
    return distiller.evaluate(*batch, batch_size=12, verbose=0, return_dict=True)["loss"]


def tensors(model, images, *layers):
    """{output or layer: float64 array} of a model, read without tfkd's taps."""
    outputs = model.output if isinstance(model.output, dict) else {"output": model.output}
    inner = {name: model.get_layer(name).output for name in layers}
    given = keras.Model(model.input, {**outputs, **inner})(images, training=False)
    return {name: np.asarray(tensor, "float64") for name, tensor in given.items()}


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(labels, logits):
    return -np.mean(log_softmax(logits)[np.arange(len(labels)), labels])


def divergence(teacher, student, temperature):
    """T² KL of each example."""
    taught, learnt = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return temperature**2 * (np.exp(taught) * (taught - learnt)).sum(axis=-1)


def built(name, teacher, student, **settings):
    recipe = recipes.get(name)
    return recipe.build(recipe.settings(**settings), teacher, student)


def test_avazov2024_is_labels_logits_and_hints(batch, teacher):
    images, labels = batch
    system = built("avazov2024", teacher, network())
    stages = models.stages(teacher)
    assert len(stages) == 4
    own, taught = (tensors(model, images, *stages) for model in (system.student, teacher))
    hints = 0.0
    for stage in stages:
        variance = taught[stage].var(axis=(1, 2, 3), keepdims=True)
        hints += np.mean((own[stage] - taught[stage]) ** 2 / variance)
    softened = np.mean(divergence(taught["output"], own["output"], 4.0))
    expected = 0.5 * cross_entropy(labels, own["output"]) + 0.5 * softened + 0.05 * hints
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)


def test_umirzakova2024_is_labels_and_logits_at_the_papers_numbers(batch, teacher):
    images, labels = batch
    system = built("umirzakova2024", teacher, network("streamlined_student"))
    own, taught = (tensors(model, images)["output"] for model in (system.student, teacher))
    expected = 0.3 * cross_entropy(labels, own) + 0.7 * np.mean(divergence(taught, own, 15.0))
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)


@pytest.mark.parametrize("cosine_on", ["logits", "probabilities"])
def test_sur2026_is_labels_divergence_and_cosine(batch, teacher, cosine_on):
    images, labels = batch
    system = built("sur2026", teacher, network(), kl_share=0.25, cosine_on=cosine_on)
    own, taught = (tensors(model, images)["output"] for model in (system.student, teacher))
    if cosine_on == "logits":
        cosine = [np.corrcoef(*pair)[0, 1] for pair in zip(own, taught, strict=True)]
    else:
        own_p, taught_p = (np.exp(log_softmax(logits / 4.0)) for logits in (own, taught))
        lengths = np.linalg.norm(own_p, axis=1) * np.linalg.norm(taught_p, axis=1)
        cosine = (own_p * taught_p).sum(axis=1) / lengths
    soft = 0.25 * np.mean(divergence(taught, own, 4.0)) + 0.75 * np.mean(1 - np.array(cosine))
    expected = 0.5 * cross_entropy(labels, own) + 0.5 * soft
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)


def test_sur2026_compares_the_last_stages_features_and_hints_on_request(teacher):
    system = built("sur2026", teacher, network(), cosine_on="features", hints="auto")
    cosine = system.losses[1]
    assert (cosine.teacher_layer_name, cosine.student_layer_name) == ("stage4_out", "stage4_out")
    assert [loss.name for loss in system.losses[2:]] == ["hint1", "hint2", "hint3", "hint4"]


def test_xu2022_is_labels_teacher_and_the_deepest_exit(batch, teacher):
    images, labels = batch
    # As wide as the deepest exit's features: nothing to adapt.
    system = built("xu2022", teacher, network("resnet"), feature_weight=0.1, exit_features=32)
    student = system.student
    shallow = ["exit_1", "exit_2"]
    assert list(models.exit_names(student)) == [*shallow, "output"]
    own = tensors(student, images, "pool", *(f"{exit}_features" for exit in shallow))
    taught = tensors(teacher, images)["output"]
    expected = 0.0
    for exit in (*shallow, "output"):
        share = 0.7 if exit == "output" else 0.4
        expected += share * cross_entropy(labels, own[exit])
        expected += 0.3 * np.mean(divergence(taught, own[exit], 3.0))
    for exit in shallow:
        expected += 0.3 * np.mean(divergence(own["output"], own[exit], 3.0))
        expected += 0.1 * np.mean((own[f"{exit}_features"] - own["pool"]) ** 2)
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)


def test_xu2022_without_self_teaching_is_deep_supervision_by_the_teacher(batch, teacher):
    images, labels = batch
    system = built("xu2022", teacher, network("resnet"), self_weight=0.0, feature_weight=0.0)
    assert all(loss.taught_by == "teacher" for loss in system.losses)
    own = tensors(system.student, images)
    soft = np.exp(log_softmax(tensors(teacher, images)["output"] / 3.0))
    expected = 0.0
    for logits in own.values():  # deep supervision: soft targets' cross-entropy less their entropy
        expected += 0.7 * cross_entropy(labels, logits)
        expected += 0.3 * 9 * np.mean((soft * -log_softmax(logits / 3.0)).sum(axis=1))
        expected -= 0.3 * 9 * np.mean((soft * -np.log(soft)).sum(axis=1))
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)


def test_xu2022_deploys_votes_and_exits(batch):
    system = built("xu2022", None, network("resnet"))
    deployed = recipes.get("xu2022").deployed(system.student)
    assert list(deployed) == ["soft vote", "hard vote", "exit_1", "exit_2", "output"]
    own = tensors(system.student, batch[0])
    mean = np.mean([np.exp(log_softmax(logits)) for logits in own.values()], axis=0)
    np.testing.assert_allclose(deployed["soft vote"](batch[0]), mean, atol=1e-5)
    np.testing.assert_array_equal(deployed["exit_1"](batch[0]), own["exit_1"].astype("float32"))


def test_xu2022_finds_the_vector_behind_the_deepest_exit():
    from tfkd.recipes.xu2022 import last_features

    fully_connected = network("streamlined_student")  # ... fc1, dropout, logits
    assert last_features(models.with_exits(fully_connected)) == "fc1"
    image = keras.Input(SHAPE)
    maps = keras.layers.Conv2D(4, 3, name="stage1_out")(image)
    maps = keras.layers.Conv2D(4, 3, 2, name="stage2_out")(maps)
    logits = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(CLASSES, 1)(maps))
    with pytest.raises(ValueError, match="no vector of features. Set feature_weight to 0"):
        built("xu2022", None, keras.Model(image, logits))


def test_si2026_has_the_value_of_plain_distillation(batch, teacher):
    images, labels = batch
    system = built("si2026", teacher, network("streamlined_student"), strength=3.0)
    own, taught = (tensors(model, images)["output"] for model in (system.student, teacher))
    expected = cross_entropy(labels, own) + np.mean(divergence(taught, own, 4.0))
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)
    (loss,) = system.losses
    assert (loss.strength, loss.sharpness, loss.temperature) == (3.0, 0.5, 4.0)


def test_tu2022_is_labels_and_logits_of_a_teacher_of_its_own(batch, teacher):
    images, labels = batch
    teacher.trainable = False  # as another row has left it
    system = built("tu2022", teacher, network("streamlined_student"), distill_weight=0.5)
    own, taught = (tensors(model, images)["output"] for model in (system.student, teacher))
    expected = cross_entropy(labels, own) + 0.5 * np.mean(divergence(taught, own, 4.0))
    np.testing.assert_allclose(total(system, system.source, batch), expected, rtol=1e-5)
    source = system.source
    assert (source.label_weight, source.feedback_weight, source.anchor_weight) == (1.0, 0.1, 1.0)
    assert source.learning_rate == pytest.approx(1e-4) and source.temperature == 4.0
    learns = source.model.trainable_variables
    assert len(learns) == len([w for w in teacher.weights if "moving" not in w.path])
    assert not {id(v) for v in learns} & {id(v) for v in teacher.variables}
    fixed = recipes.get("tu2022").ablations(recipes.get("tu2022").settings())["fixed teacher"]
    assert recipes.get("tu2022").build(fixed, teacher, system.student).source is None


def test_ye2024_deeper_groups_teach_shallower_ones():
    names = ("branch_1_1", "branch_2_1", "branch_3_1", "output")
    taught = {name: (group, learners) for name, group, learners in ye2024.lessons(names, True)}
    assert taught == {
        "group_1": (["branch_1_1", "output"], ["branch_1_1"]),
        "group_2": (["branch_2_1", "output"], ["branch_1_1", "branch_2_1"]),
        "group_3": (["branch_3_1", "output"], ["branch_1_1", "branch_2_1", "branch_3_1", "output"]),
        "everyone": (list(names), list(names)),
    }
    symmetric = {name: set(learners) for name, _, learners in ye2024.lessons(names, False)}
    assert all(learners == set(names) for learners in symmetric.values())


def test_ye2024_is_labels_and_ensembles_that_select(batch):
    images, labels = batch
    system = built("ye2024", None, network(), ensemble_weight=0.5, branch_weight=0.25)
    own = tensors(system.student, images)
    forks = [[f"branch_{fork}_{number}" for number in (1, 2)] for fork in (1, 2)]
    everyone = [*forks[0], *forks[1], "output"]
    assert set(own) == set(everyone)
    lessons = [
        ([*forks[0], "output"], forks[0]),
        ([*forks[1], "output"], everyone),
        (everyone, everyone),
    ]
    expected = cross_entropy(labels, own["output"])
    expected += 0.25 * sum(cross_entropy(labels, own[name]) for name in everyone[:-1])
    for group, learners in lessons:
        for index, label in enumerate(labels):  # example by example, as one would by hand
            right = [own[name][index] for name in group if own[name][index].argmax() == label]
            if right and np.mean(right, axis=0).argmax() == label:
                for name in learners:
                    taught = divergence(np.mean(right, axis=0), own[name][index], 3.0)
                    expected += 0.5 * taught / len(labels)
    np.testing.assert_allclose(total(system, None, batch), expected, rtol=1e-5)


def test_ye2024_of_one_group_without_selection_is_mutual_learning_by_an_ensemble(batch):
    images, labels = batch
    weights = {"branch_weight": 1.0, "ensemble_weight": 1.0}
    system = built("ye2024", None, network(), forks=("stage3_out",), selective=False, **weights)
    own = tensors(system.student, images)
    assert len(own) == 3
    mean = np.mean(list(own.values()), axis=0)
    expected = sum(
        cross_entropy(labels, logits) + np.mean(divergence(mean, logits, 3.0))
        for logits in own.values()
    )
    np.testing.assert_allclose(total(system, None, batch), expected, rtol=1e-5)


def test_ye2024_deploys_the_trunk_alone(batch):
    student = network()
    system = built("ye2024", None, student)
    (trunk,) = recipes.get("ye2024").deployed(system.student).values()
    assert [w.path for w in trunk.weights] == [w.path for w in student.weights]
    output = system.student(batch[0], training=False)["output"]
    np.testing.assert_array_equal(trunk(batch[0], training=False), output)


def mean_over_views(model, images):
    """Log of the mean of a model's probabilities over all turns and mirror images, in float64."""
    views = [
        np.rot90(side, turns, (1, 2)) for side in (images, images[:, ::-1]) for turns in range(4)
    ]
    each = [np.exp(log_softmax(tensors(model, view)["output"])) for view in views]
    return np.log(np.mean(each, axis=0))


def test_song2024_is_labels_and_the_mean_over_the_views_of_each_teacher(batch, teacher):
    images, labels = batch
    other = network("resnet", seed=2)
    together, student = models.ensemble({"cnn": teacher, "vit": other}), network()
    system = built("song2024", together, student, teacher_weights="3,1")
    own = tensors(system.student, images)["output"]
    cnn, vit = (
        np.mean(divergence(mean_over_views(model, images), own, 4.0)) for model in (teacher, other)
    )
    expected = 0.3 * cross_entropy(labels, own) + 0.7 * (0.75 * cnn + 0.25 * vit)
    np.testing.assert_allclose(total(system, system.source, batch), expected, rtol=1e-4)
    assert system.source.storable and system.source_name
    # Of one teacher and one view nothing is left but plain distillation.
    recipe = recipes.get("song2024")
    plain = recipe.build(recipe.settings(teacher="resnet", target_views="one"), teacher, student)
    taught = tensors(teacher, images)["output"]
    expected = 0.3 * cross_entropy(labels, own) + 0.7 * np.mean(divergence(taught, own, 4.0))
    assert plain.source is None
    np.testing.assert_allclose(total(plain, teacher, batch), expected, rtol=1e-5)


def two_views(images, **settings):
    """What students of li2024 and their teacher are given of images."""
    name, options = recipes.get("li2024").settings(**settings).separate_augmentation
    seeds = view_seed(np.arange(len(images)), 0)
    return data.augmentation(name, **options)(images.astype("uint8"), seeds)


def test_li2024_is_labels_and_logits_weighed_by_confidence(batch, teacher):
    images, labels = batch
    system = built("li2024", teacher, network(), label_weight=0.8, distill_weight=1.2)
    x = two_views(images)
    seen, plain = (tensors(teacher, x["teacher"][view])["output"] for view in ("seen", "plain"))
    lengths = np.linalg.norm(seen, axis=1) * np.linalg.norm(plain, axis=1)
    augmented = x["teacher"]["augmented"].numpy()
    assert 0 < augmented.sum() < 12
    weights = 1 + np.where(augmented, (seen * plain).sum(1) / lengths, 0)
    own = tensors(system.student, x["student"])["output"]
    expected = 0.8 * cross_entropy(labels, own)
    expected += 1.2 * np.mean(weights * divergence(seen, own, 4.0))
    assert total(system, system.source, (x, labels)) == pytest.approx(expected, rel=1e-4)
    # No image augmented: plain distillation, bit for bit.
    x = two_views(images, augmented_share=0)
    plain_system = built("li2024", teacher, system.student, confident=False)
    system = built("li2024", teacher, system.student)
    expected = total(plain_system, teacher, (x["student"], labels))
    assert total(system, system.source, (x, labels)) == expected
    # No operation and no crop: both views are the image, and the augmented ones count twice.
    x = two_views(images, operation_probability=0, augment="none")
    np.testing.assert_array_equal(x["student"], images)
    own = tensors(system.student, images)["output"]
    taught = tensors(teacher, images)["output"]
    twice = 1 + x["teacher"]["augmented"].numpy()
    expected = cross_entropy(labels, own) + np.mean(twice * divergence(taught, own, 4.0))
    assert total(system, system.source, (x, labels)) == pytest.approx(expected, rel=1e-4)


def test_hossain2024_without_blur_is_plain_hints_exactly(batch, teacher):
    student = network(seed=2)
    plain = total(built("avazov2024", teacher, student), teacher, batch)
    assert total(built("hossain2024", teacher, student, blur=0), teacher, batch) == plain
    system = built("hossain2024", teacher, student, blur=0.8)
    assert [loss.blur for loss in system.losses[1:]] == [0.8] * 4
    assert total(system, teacher, batch) != plain


def test_feng2021_is_a_small_image_and_four_terms(batch, teacher):
    images, labels = batch
    given = network("resnet")
    system = built("feng2021", teacher, given, discriminator_units=8, pair_weight=3.0)
    small = images.reshape(12, 8, 2, 8, 2, 1).mean((2, 4))
    inner = feng2021.small_images(system.student)
    assert inner.input_shape[1:] == (8, 8, 1) and system.student.input_shape[1:] == SHAPE
    for own, start in zip(inner.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(own, start)
    own = tensors(inner, small)["output"]
    np.testing.assert_allclose(system.student(images), own, rtol=1e-4, atol=1e-4)
    kinds = (
        *(losses.LogitsDistillation, losses.SimilarityPreserving),
        *(losses.MaximumMeanDiscrepancy, losses.AdversarialAlignment),
    )
    assert [type(loss) for loss in system.losses] == list(kinds)
    assert system.weights == [0.5, 3.0, 0.05, 0.02]
    labels_and_logits = built(
        "feng2021", teacher, given, pair_weight=0, discrepancy_weight=0, adversarial_weight=0
    )
    taught = tensors(teacher, images)["output"]
    expected = 0.5 * cross_entropy(labels, own) + 0.5 * np.mean(divergence(taught, own, 4.0))
    assert total(labels_and_logits, teacher, batch) == pytest.approx(expected, rel=1e-4)
    assert total(system, teacher, batch) > expected


def test_feng2021_at_full_resolution_is_the_student_and_what_does_not_divide_is_refused(teacher):
    given = network("resnet")
    assert built("feng2021", teacher, given, reduction=1).student is given
    with pytest.raises(SettingsError, match="does not divide images of 16 x 16. Give one of 2, 4,"):
        built("feng2021", teacher, given, reduction=3)
    with pytest.raises(SettingsError, match="cannot be built for images of 8 x 8"):
        built("feng2021", teacher, network(head="fc"))


def test_mao2025_is_labels_and_logits_on_the_trees_mixture(batch, teacher):
    images, labels = batch
    student = models.build("oblique_tree", SHAPE, CLASSES, depth=2)
    student.layers[-1].leaves.assign(np.random.default_rng(1).normal(size=(4, CLASSES)))
    system = built("mao2025", teacher, student)
    own, taught = (tensors(model, images)["output"] for model in (student, teacher))
    expected = 0.3 * cross_entropy(labels, own) + 0.7 * np.mean(divergence(taught, own, 2.0))
    np.testing.assert_allclose(total(system, teacher, batch), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """(digits, a tree with random splits through their middle, directory, figures, texts)."""
    splits = data.load("digits", limit=300)
    student = models.build("oblique_tree", (8, 8, 1), 10, depth=4)
    images, _ = next(splits.train.batch(300).as_numpy_iterator())
    tree = student.layers[-1]
    values = (images.reshape(-1, 64) / 127.5 - 1) @ np.asarray(tree.kernel)
    tree.norm.moving_mean.assign(values.mean(axis=0))
    directory = tmp_path_factory.mktemp("studied")
    record = types.SimpleNamespace(seeds=[0])
    finished = base.Finished([], record, [splits], directory, lambda: student)
    return splits, student, directory, *recipes.get("mao2025").study(finished)


def test_mao2025_leaves_rules_and_compares_them_with_cart(studied):
    splits, student, directory, figures, said = studied
    images, labels = next(splits.test.batch(1000).as_numpy_iterator())
    tree = models.HardTree.load(directory / "tree.npz")
    assert (directory / "rules.txt").read_text().splitlines() == tree.rules()
    assert tree.labels == tuple("0123456789") and figures["rules"] == 16
    predicted = tree.predict(images)
    assert figures["hard_accuracy"] == np.mean(predicted == labels)
    assert figures["rules_used"] == len(set(tree.leaves(images))) > 8
    soft = models.soft_tree_model(student)(images)
    assert figures["soft_accuracy"] == np.mean(np.argmax(soft, axis=1) == labels)
    assert list(figures["cart"]) == ["6", "12"] and len(said) == 3
    train_images, train_labels = next(splits.train.batch(1000).as_numpy_iterator())
    cart = DecisionTreeClassifier(max_depth=6, random_state=0)
    cart.fit(train_images.reshape(-1, 64), train_labels)
    assert figures["cart"]["6"]["accuracy"] == cart.score(images.reshape(-1, 64), labels)


def test_mao2025_deploys_the_hard_tree_first(studied):
    splits, student, *_ = studied
    deployed = recipes.get("mao2025").deployed(student)
    assert list(deployed) == ["hard tree", "soft tree"]
    images, _ = next(splits.test.batch(100).as_numpy_iterator())
    hard = np.argmax(deployed["hard tree"](images), axis=1)
    np.testing.assert_array_equal(hard, np.argmax(student(images), axis=1))
    assert deployed["hard tree"].count_params() == 15 * 65


WAYS = [name for name in recipes.names() if not recipes.get(name).compares]


@pytest.mark.parametrize("name", WAYS)
def test_ablations_differ_from_the_recipe_and_start_from_the_same_student(name, teacher):
    recipe = recipes.get(name)
    settings = recipe.settings()
    ablations = recipe.ablations(settings)
    assert len(ablations) >= 2 and settings not in ablations.values()
    budget = [field for field in ("student", "student_options", "epochs", "batch_size", "seeds")]
    for variant in ablations.values():
        assert all(getattr(variant, field) == getattr(settings, field) for field in budget)


def test_avazov2024_reports_both_heads():
    recipe = recipes.get("avazov2024")
    (line,) = recipe.notes(recipe.settings(student_options={}), (32, 32, 3), 10)
    convolutions = 27 * 64 + 9 * (64 + 192 + 384 + 256)  # conv1, then depthwise
    convolutions += 64 * 192 + 192 * 384 + 384 * 256 + 256 * 256  # 1x1
    convolutions += 4 * (64 + 256 + 576 + 640 + 512)  # BatchNorm
    gap = convolutions + 257 * 10
    fully_connected = convolutions + 4097 * 1024 + 1025 * 512 + 513 * 10
    assert f"modified_alexnet with head gap {gap:,}," in line
    assert f"modified_alexnet with head fc {fully_connected:,}," in line
    assert recipe.notes(recipe.settings(student="resnet", student_options={}), SHAPE, 10) == []


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("xu2022", {"teacher_weight": 0.8}, "add up to more than 1"),
        ("sur2026", {"cosine_on": "logit"}, "There are: logits, probabilities, features"),
        ("umirzakova2024", {"sweep_weights": (0.5, 2)}, "above 0 and at most 1.0"),
        ("umirzakova2024", {"sweep_temperatures": (0,)}, "sweep_temperatures is"),
        ("avazov2024", {"hints": ("stage1",)}, "pairs of layers"),
        ("song2024", {"teacher": "vit", "teacher_weights": "confidence"}, "there is one teacher"),
        ("li2024", {"augment": "jda"}, "applies these operations by itself"),
        ("li2024", {"augmented_share": 1.5}, "augmented_share is 1.5"),
        ("li2024", {"teacher": "a.keras", "augmented_teacher": True}, "is trained already"),
        ("hossain2024", {"hints": "none"}, "The recipe is about hints"),
        ("hossain2024", {"sweep_blurs": (-1,)}, "sweep_blurs is"),
        ("feng2021", {"reduction": 0}, "reduction is 0"),
        ("ye2024", {"branches": 0}, "branches is 0"),
        ("tu2022", {"teacher": ("resnet", "alexnet")}, "one teacher, which learns, .* names 2"),
        ("ye2024", {"student": "alexnt"}, 'Did you mean "alexnet"'),
    ],
)
def test_settings_that_cannot_be_right(name, settings, message):
    with pytest.raises(SettingsError, match=message):
        recipes.get(name).settings(**settings)


def test_unknown_recipe_and_foreign_settings(tmp_path):
    with pytest.raises(ValueError, match='Did you mean "xu2022"'):
        recipes.get("xu2023")
    foreign = recipes.get("ye2024").settings()
    with pytest.raises(TypeError, match="settings are Ye2024; expected .*Xu2022"):
        run_recipe("xu2022", foreign, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("xu2022", {"exits": ("stage9_out",)}, "stage9_out"),
        ("ye2024", {"forks": ("logits",)}, "a fork needs a map"),
        ("avazov2024", {"hints": ("stage1_out:stage1_uot",)}, 'Did you mean "stage1_out"'),
    ],
)
def test_unknown_layers_are_refused(teacher, name, settings, message):
    with pytest.raises(ValueError, match=message):
        built(name, teacher, network(), **settings).distiller(teacher)


def test_a_distiller_has_the_coefficients_of_the_paper(teacher):
    system = built("umirzakova2024", teacher, network())
    distiller = system.distiller(teacher)
    assert distiller.independent_weights
    assert distiller.student_loss_weight == pytest.approx(0.3)
    assert list(distiller.distillation_loss_weights) == pytest.approx([0.7])
    assert system.loss_weights is None
    assert recipes.get("ye2024").settings().default_out() == "saved_models/ye2024-digits"
