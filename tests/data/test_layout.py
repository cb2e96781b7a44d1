"""What trees of folders mean: splits, classes, nothing, or a refusal that says why."""

import itertools
import os
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfkd.data import layout, left_out, tree

CLASSES = ("ant", "bee")


def read(root):
    """{role: {class: number of images}} of a folder."""
    scanned = tree.scan(root)
    found = layout.read(scanned, root)
    left_out.warn(scanned, found, root)
    return {
        role: {name: folder.images for name, folder in classes.items()}
        for role, classes in found.splits.items()
    }


def in_classes(*folders, classes=CLASSES, count=1):
    return [f"{f}/{c}/{n}.png" for f in folders for c in classes for n in range(count)]


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["Training", "Testing"], ["train", "test"]),  # brain tumour MRI
        (["TRAIN", "TEST", "VAL"], ["train", "test", "validation"]),
        (["Train", "Valid", "Test"], ["train", "validation", "test"]),
        (["train", "valid", "test"], ["train", "validation", "test"]),  # Roboflow
        (["seg_train", "seg_test"], ["train", "test"]),  # Intel scenes
        (["training_set", "test_set"], ["train", "test"]),  # cats and dogs
        (["asl_alphabet_train", "asl_alphabet_test"], ["train", "test"]),
        (["train2017", "val2017"], ["train", "validation"]),
        (["TrainingData", "ValidationData"], ["train", "validation"]),
        (["train-images", "dev-images"], ["train", "validation"]),
        (["Images Train", "Images Test"], ["train", "test"]),
        (["data.train", "data.development"], ["train", "validation"]),
    ],
)
def test_names_of_splits(names, roles, tmp_path, make_tree):
    assert layout.split_roles(names) == dict(zip(names, roles, strict=True))
    make_tree(tmp_path, in_classes(*names))
    assert read(tmp_path) == {role: {"ant": 1, "bee": 1} for role in roles}


@pytest.mark.parametrize(
    "names",
    [
        ["steam_train", "test_tube"],
        ["train_station", "bus_station"],
        ["latest", "contest", "trainer", "evaluation"],
        ["train test", "x"],
        ["train_1", "train_2"],
    ],
)
def test_names_of_no_splits(names):
    assert layout.split_roles(names) == {}


@pytest.mark.parametrize("name", ["train", "test", "Train", "development", "valid"])
def test_a_class_may_be_called_like_a_split(name, tmp_path, make_tree):
    make_tree(tmp_path, [f"{name}/0.png", "bus/0.png", "bus/sub/1.png"])
    with pytest.warns(UserWarning, match=f"{name}. is read as a class, not as a split: .*bus"):
        assert read(tmp_path) == {"train": {name: 1, "bus": 2}}


@pytest.mark.parametrize(
    "prefix",
    ["photos", "photos/photos", "train", "seg_train/seg_train", "a/b/c", "my dataset/Training"],
)
def test_wrapping_folders_are_looked_through(prefix, tmp_path, make_tree):
    make_tree(tmp_path, in_classes(prefix))
    assert read(tmp_path) == {"train": {"ant": 1, "bee": 1}}


@pytest.mark.parametrize("wrap", ["{0}", "{0}/{0}", "{0}/images", "data/{0}", "x/data/{0}/{0}"])
def test_splits_may_be_nested(wrap, tmp_path, make_tree):
    make_tree(tmp_path, in_classes(*(wrap.format(name) for name in ("seg_train", "seg_test"))))
    assert read(tmp_path) == {role: {"ant": 1, "bee": 1} for role in ("train", "test")}


def test_images_of_a_class_may_lie_deeper(tmp_path, make_tree):
    # As in Tiny ImageNet; and coarse classes over fine ones of other names.
    make_tree(tmp_path / "a", [f"train/n0{n}/images/{k}.jpeg" for n in (1, 2) for k in range(3)])
    assert read(tmp_path / "a") == {"train": {"n01": 3, "n02": 3}}
    make_tree(tmp_path / "b", ["animal/cat/0.png", "animal/dog/0.png", "vehicle/car/0.png"])
    assert read(tmp_path / "b") == {"train": {"animal": 2, "vehicle": 1}}


@pytest.mark.parametrize(
    "hidden",
    [
        "{}.DS_Store",
        "{}._0.png",
        "{}.ipynb_checkpoints/0-checkpoint.png",
        "{}__MACOSX/ant/._0.png",
        "{}__MACOSX/ant/0.png",
        "{}@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "{}.AppleDouble/0.png",
        "{}Thumbs.db",
        "{}Desktop.ini",
        "{}Icon\r",
        "{}$RECYCLE.BIN/0.png",
        "{}lost+found/0.png",
        "{}.git/objects/0.png",
        "{}System Volume Information/0.png",
        "{}~$0.png",
    ],
)
@pytest.mark.parametrize("at", ["", "train/", "train/ant/", "test/bee/inner/"])
def test_what_is_hidden_is_no_example_at_any_depth(hidden, at, tmp_path, make_tree):
    make_tree(tmp_path, in_classes("train", "test"))
    make_tree(tmp_path, ["test/bee/inner/1.png", hidden.format(at)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path) == {"train": {"ant": 1, "bee": 1}, "test": {"ant": 1, "bee": 2}}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (in_classes("fold1", "fold2"), "fold1, fold2 .* same names .ant, bee.: they look like"),
        (in_classes("amazon", "dslr", "webcam"), "amazon, dslr, webcam"),
        (in_classes("holdout", "rest") + ["cat/0.png"], "holdout, rest .* Rename them to train"),
        (["Training/0.png", "stuff/0.png"], "named like a train split, .* beside stuff"),
        (["test_set/0.png", "a/0.png", "b/0.png"], "named like a test split, .* beside a, b"),
        (["trian/ant/0.png", *in_classes("test")], "no train split .* it has: test, trian"),
        (["fold_1/0.png", "fold_2/0.png"], "fold_1, fold_2 .* named like folds"),
        (in_classes("Training", "stuff"), "others: stuff beside Training"),
        (in_classes("Training") + ["stuff/0.png"], "others: stuff beside Training"),
        (in_classes("train", "test", "extra"), "others: extra beside test, train"),
        (in_classes("train", "val", "validation"), "2 validation splits: val, validation"),
        (in_classes("train", "TRAIN", "test"), "2 train splits: TRAIN, train"),
        (in_classes("test", "val"), "no train split to learn from; it has: test, val"),
        (["train/0.png", "test/0.png"], "train split .* 1 images, but no class folders"),
        (["images/train/0.png", "images/val/0.png"], "no class folders: their labels"),
        (in_classes("train") + ["test/0.png"], "The test split .*test. holds 1 images, but no"),
        (in_classes("train") + ["test/ant/0.png"], "differ in: bee .bee only in train.*alike"),
        (
            in_classes("train") + in_classes("test", classes=("ant", "bee", "cat", "Dog")),
            r"differ in: Dog, cat \(Dog, cat only in test\)",
        ),
        (in_classes("train", "test") + ["test/cat/"], "cat only in test"),
        (in_classes("") + ["cat/", "dog/"], "2 class folders .*cat, .*dog hold no images"),
        (["ant/0.png"], r"two or more classes .*; found \['ant'\]"),
        (["0.png", "1.png"], "found none, and 2 images directly in it"),
        ([], "found none"),
        (["train/ant/0.png", "test/ant/0.png"], r"two or more classes .*train.; found \['ant'\]"),
    ],
)
def test_what_may_mean_two_things_is_refused(paths, message, tmp_path, make_tree):
    make_tree(tmp_path, [path.lstrip("/") for path in paths])
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_images_without_a_class_are_left_out_with_a_word(tmp_path, make_tree):
    # Intel scenes: seg_pred has no labels. Fruits-360: test-multiple_fruits, papers.
    paths = in_classes("seg_train/seg_train", "seg_test/seg_test")
    make_tree(tmp_path, [*paths, "seg_pred/seg_pred/0.png", "seg_pred/seg_pred/1.png"])
    with pytest.warns(
        UserWarning, match=r'2 images outside .* left out: 2 in ".*seg_pred/seg_pred'
    ):
        assert read(tmp_path) == {role: {"ant": 1, "bee": 1} for role in ("train", "test")}
    fruits = tmp_path / "fruits"
    make_tree(
        fruits, [*in_classes("Training", "Test"), "test-multiple_fruits/0.png", "papers/a.txt"]
    )
    with pytest.warns(UserWarning, match='1 images outside .* 1 in ".*test-multiple_fruits"'):
        assert set(read(fruits)) == {"train", "test"}


def test_files_that_are_not_read_are_counted(tmp_path, make_tree):
    paths = [f"{name}/{n}{s}" for name in CLASSES for n in range(2) for s in (".png", ".heic")]
    make_tree(tmp_path, [*paths, "ant/0.avif", "ant/raw", "ant/notes.txt"])
    with pytest.warns(UserWarning) as said:
        assert read(tmp_path) == {"train": {"ant": 2, "bee": 2}}
    (message,) = (str(warning.message) for warning in said)
    assert "6 files in class folders are not read:" in message
    assert all(part in message for part in ("4 .heic", "1 .avif", "1 without suffix"))


def test_formats_that_earlier_versions_left_out_are_named(tmp_path, make_tree):
    make_tree(tmp_path, ["ant/0.png", "ant/1.webp", "ant/2.TIFF", "bee/0.webp"])
    with pytest.warns(UserWarning, match="1 .png, 2 .webp, 1 .tiff .*left out .webp, .tiff"):
        assert read(tmp_path) == {"train": {"ant": 3, "bee": 1}}


def test_links_are_followed_and_endless_ones_refused(tmp_path, make_tree):
    make_tree(tmp_path / "store", ["0.png", "1.png"])
    make_tree(tmp_path / "data", ["ant/0.png", "bee/"])
    (tmp_path / "data" / "bee" / "more").symlink_to(tmp_path / "store")
    assert read(tmp_path / "data") == {"train": {"ant": 1, "bee": 2}}
    (tmp_path / "data" / "ant" / "up").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match="ant/up. is a link to .* no end. Remove the link"):
        read(tmp_path / "data")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, make_tree, monkeypatch):
    make_tree(tmp_path, in_classes("train"))
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(tree.os, "scandir", closed)
    with pytest.raises(ValueError, match='folder ".*train/bee": Permission denied. .*chmod'):
        read(tmp_path)


def model(root):
    """Counts by a plain walk: {(first folder, class): images} of what has no dot in front."""
    counts = {}
    for directory, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = os.path.relpath(directory, root).split(os.sep)
        images = [name for name in files if name.endswith(".png") and not name.startswith(".")]
        if images:
            key = tuple(parts[:2])
            counts[key] = counts.get(key, 0) + len(images)
    return counts


splits_drawn = st.sampled_from(
    [("train",), ("Train", "Test"), ("training_set", "val_set"), ("TRAIN", "valid", "testing")]
)
files_drawn = st.lists(
    st.sampled_from(
        ["0.png", "1.png", "in/0.png", "in/deep/2.png", ".x.png", ".git/a.png", "b.txt"]
    ),
    unique=True,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    splits=splits_drawn,
    classes=st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=4, unique=True),
    data=st.data(),
)
def test_a_tree_holds_what_a_plain_walk_finds(splits, classes, data, tmp_path_factory, make_tree):
    root = tmp_path_factory.mktemp("tree")
    for split, name in itertools.product(splits, classes):
        files = {"z.png", *data.draw(files_drawn)}
        make_tree(root, [f"{split}/{name}/{file}" for file in files])
    found = layout.read(tree.scan(root), root)
    roles = {os.path.basename(path): role for role, path in found.where.items()}
    assert set(roles) == set(splits) and found.class_names == tuple(sorted(classes))
    counts = {
        (split, name): found.splits[role][name].images
        for split, role in roles.items()
        for name in found.class_names
    }
    assert counts == model(root)
