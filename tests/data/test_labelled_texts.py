"""Texts of classes from every source: splits, what is refused, left out and said."""

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfkd.data import labelled_texts, small_grammar

FINGERPRINT = "sha256:2e10813e70a6d"  # of the built-in texts, on every machine


def examples(splits):
    """{role: [(text, label)]}."""
    return {
        role: [(text.decode(), int(label)) for text, label in dataset.as_numpy_iterator()]
        for role, dataset in zip(("train", "validation", "test"), splits[:3], strict=True)
    }


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def folder(root, **files):
    """Two classes in three splits, each with two texts; and others."""
    own = {
        f"{split}/{label}/{number}.txt": f"{split} {label} number{number}"
        for split in ("train", "validation", "test")
        for label in ("bad", "good")
        for number in range(2)
    }
    return write(root, own | files)


def test_the_built_in_texts_say_who_acted():
    splits = labelled_texts.load("who_acted")
    info, own = splits.info, examples(splits)
    assert info.sizes == small_grammar.TEXTS and info.label_names[0] == "anna"
    past = {*small_grammar._DID, *small_grammar._RESTED}
    counts = []
    for text, label in (pair for some in own.values() for pair in some):
        clauses = [clause.split() for clause in text.removesuffix(" .").split(" , and ")]
        (acted,) = [words for words in clauses if past & set(words)]
        assert [word for word in acted if word in info.label_names] == [info.label_names[label]]
        counts.append(len(text.replace(",", "").replace(".", "").split()))
    assert info.counts.tolist() == sorted(counts[:2000])
    assert (info.counts <= info.usual_length).mean() >= 0.95
    assert (info.counts < info.usual_length).mean() < 0.95
    assert not info.findings  # no text is there twice
    assert info.fingerprint.startswith(FINGERPRINT)
    few = labelled_texts.load("who_acted", limit=50)
    assert few.info.sizes == {"train": 50, "validation": 500, "test": 1000}
    labels = [label for _, label in examples(few)["train"]]
    assert max(np.bincount(labels)) - min(np.bincount(labels)) <= 2  # each class in proportion
    assert few.info.fingerprint != info.fingerprint


def test_a_folder_with_splits(tmp_path):
    others = {
        "train/bad/empty.txt": " \n",
        "train/bad/once.txt": "Only, once; only!",
        "train/bad/mark.txt": "\ufeffa mark in front",
        "test/good/known.txt": "train good number0",
        "validation/bad/known.txt": "train good number1\n",
    }
    splits = labelled_texts.load(folder(tmp_path, **others))
    own, info = examples(splits), splits.info
    assert info.label_names == ("bad", "good")
    assert info.sizes == {"train": 6, "validation": 5, "test": 5}
    assert own["train"][2:4] == [("a mark in front", 0), ("Only, once; only!", 0)]
    first, *rest = info.findings
    assert first == "1 empty texts of train are left out, such as train/bad/empty.txt."
    assert "The test split shows texts that are trained on: 1 of its 5 texts" in rest[0]
    assert any("The same text stands in more than one class: once" in text for text in rest)
    # Words of the training split alone, the most frequent first.
    assert info.words[0] == "train" and set(info.words) == {
        *("train", "good", "bad", "number0", "number1", "only", "once", "a", "mark", "in", "front"),
    }
    assert info.counts.tolist() == [3, 3, 3, 3, 3, 4]


def test_a_folder_that_is_cut(tmp_path):
    """A text that is alone in its class is trained on, and the findings say so."""
    texts = {f"{'ab'[n % 2]}/{n:02d}.txt": f"text {n}" for n in range(40)} | {"c/once.txt": "alone"}
    splits = labelled_texts.load(write(tmp_path, texts), limit=20)
    assert splits.info.sizes == {"train": 20, "validation": 3, "test": 8}
    lacking = [text for text in splits.info.findings if '"c" (' in text]
    assert lacking and all(
        text.startswith("No ") and " text of 1 class" in text for text in lacking
    )


def test_files_that_are_no_text_are_named_or_left_out(tmp_path):
    broken = {"train/bad/broken.txt": b"caf\xe9", "test/good/wide.txt": "x".encode("utf-16")}
    root = folder(tmp_path, **broken)
    message = "Cannot read 2 of 14 texts.*broken.txt.*byte 3 is not UTF-8.*wide.txt.*--skip-damaged"
    with pytest.raises(ValueError, match=message):
        labelled_texts.load(root)
    with pytest.warns(UserWarning, match="2 of 14 texts .* are left out"):
        splits = labelled_texts.load(root, skip_damaged=True)
    assert splits.info.sizes == {"train": 4, "validation": 4, "test": 4}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/1.txt": "x", "a/2.txt": "y"}, "two or more classes"),
        ({"a/1.txt": "x", "b/2.png": "y"}, r'folder ".*b" holds no texts \(\.txt\)'),
        ({"a/1.txt": "x", "a/3.txt": "z", "b/2.txt": " "}, "No training text .* class 'b'"),
    ],
    ids=["one class", "no text", "empty texts"],
)
def test_a_folder_without_two_classes(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        labelled_texts.load(write(tmp_path, files))


TABLE = '\ufefftext,label,split\n"One, two\nthree",b,train\n  ,b,train\nx\u2028y,a,train\n'
TABLE += "z,a,validation\nw,b,testing\n"


def test_a_table(tmp_path):
    for name, text in {"t.csv": TABLE, "t.tsv": TABLE.replace(",", "\t")}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        splits = labelled_texts.load(tmp_path / name)
        first = "One, two\nthree" if name == "t.csv" else "One\t two\nthree"
        assert examples(splits) == {
            "train": [(first, 1), ("x\u2028y", 0)],
            "validation": [("z", 0)],
            "test": [("w", 1)],
        }
        assert splits.info.label_names == ("a", "b")
        assert "1 empty texts of train are left out, such as line 4." in splits.info.findings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("words,label\nx,a\n", r"begins with \['words', 'label'\]"),
        ("text,label\nx,a\ny\n", "row that ends in line 3 .* has 1 columns; expected 2"),
        ("text,label\nx,a\ny, \n", "row that ends in line 3 .* has no label"),
        ('text,label\nx,a\n"y"z,b\n', "Line 3 .* cannot be read"),
        ("text,label,split\nx,a,train\ny,b,tset\n", 'has the split "tset"'),
        ("text,label,split\nx,a,train\nv,b,train\ny,c,test\n", r'has the label "c" \(line 4\)'),
        ("text,label,split\nx,a,test\n", "has no train split"),
        ("text,label\nx,a\ny,a\n", "All texts .* one class"),
        (b"text,label\ncaf\xe9,a\n", "byte 14 is not UTF-8. Save it as UTF-8"),
    ],
    ids=["columns", "short", "label", "quotes", "split", "unknown", "train", "one", "bytes"],
)
def test_a_table_that_cannot_be_read(tmp_path, text, message):
    path = write(tmp_path, {"t.csv": text}) / "t.csv"
    with pytest.raises(ValueError, match=message):
        labelled_texts.load(path)
    with pytest.raises(FileNotFoundError, match="No table"):
        labelled_texts.load(tmp_path / "other.csv")


def test_a_tfds_set(tmp_path):
    class Reviews(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = tfds.features.ClassLabel(names=["bad", "good"])
            features = {"text": tfds.features.Text(), "title": tfds.features.Text(), "label": names}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("text", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(20)}

        def _generate_examples(self, count):
            for n in range(count):
                yield n, {"text": f"Ätext {n}", "title": "t", "label": n % 2}

    Reviews(data_dir=tmp_path).download_and_prepare()
    splits = labelled_texts.load("reviews", tmp_path)
    assert splits.info.label_names == ("bad", "good")
    assert splits.info.sizes == {"train": 14, "validation": 2, "test": 4}
    found = sorted(pair for own in examples(splits).values() for pair in own)
    assert found == sorted((f"Ätext {n}", n % 2) for n in range(20))


def test_other_data_is_refused():
    with pytest.raises(ValueError, match='"digits" is images.*"who_acted"'):
        labelled_texts.load("digits")


def test_texts_without_spaces_and_without_words(tmp_path):
    texts = {f"{'ab'[n % 2]}/{n:02d}.txt": f"{'字' * 25}{n}" for n in range(20)}
    (finding,) = labelled_texts.load(write(tmp_path / "long", texts)).info.findings
    assert 'split="character"' in finding
    texts = {name: "." * (3 + number) for number, name in enumerate(texts)}
    with pytest.raises(ValueError, match="punctuation alone"):
        labelled_texts.load(write(tmp_path / "none", texts))


def test_how_many_texts_a_model_cuts():
    info = labelled_texts.load("who_acted", limit=30).info
    given = keras.Input((), dtype="string")
    for length, count in ((12, int((info.counts > 12).sum())), (40, 0)):
        model = keras.Model(given, labelled_texts.vectorizer(["a"], length)(given))
        assert labelled_texts.cut(model, info) == (count, length)
    other = keras.layers.TextVectorization(split="character", vocabulary=["a"])
    assert labelled_texts.cut(keras.Model(given, other(given)), info) == (0, None)
