"""What a teacher says of every view of every example, stored once and read while students train.

Keyed by example and view: an augmentation is a pure function of (image, seed), the seed a hash of
(example, view), so that what is stored belongs to exactly the image that the student sees (Beyer et
al. 2022, arXiv:2106.05237; Shen and Xing 2022, "FKD", arXiv:2112.01528).

Shards are `.npy` files (NumPy's format, stable since 2007) of fixed-size records: `np.load` opens
them anywhere, and any record is found by arithmetic, which a full shuffle in every epoch needs. A
batch of 128 random records of 2 kB takes 0.13 ms by `pread`, 1.7 ms from ArrayRecord; TFRecord (0.3
ms) can only be read in order, to be shuffled in a buffer that costs memory.
"""

import tensorflow as tf

from tfkd.batches import INDEX
from tfkd.data.pipeline import augmented_labels, batches_of
from tfkd.data.seeds import view_seed
from tfkd.heads import Head
from tfkd.teachers.cache import building, disk, examples, identity, inspecting, manifest, merging
from tfkd.teachers.cache.folders import folder_of
from tfkd.teachers.cache.layout import Layout
from tfkd.teachers.cache.records import Records


class TeacherCache:
    """Stored knowledge of a teacher, complete and checked.

    ```python
    train = tfkd.data.load("cifar10").train
    crop_flip = tfkd.data.augmentation("crop_flip")
    tfkd.TeacherCache.build("cache", distiller, train, crop_flip, views=30)

    cache = tfkd.TeacherCache("cache")
    distiller.fit(cache.dataset(train, batch_size=128), epochs=90)     # the teacher is not run
    ```

    Opening reads every file once, to see that it is what was written; in an object store it looks
    at their sizes alone.

    Args:
        directory: where `TeacherCache.build` has put it: a path, or a URL that fsspec knows, such
            as "s3://bucket/cache" (the extra `remote`, and fsspec's package for that store).
        distiller: optional `tfkd.Distiller` that is to learn from the cache: its teacher (if it has
            one) and the layers that its losses read must be those of the cache.
        checksums: whether to read every file at once; unless told, where it lies on a disk.

    Attributes:
        directory: `pathlib.Path`, or the URL as str.
        manifest: dict of what is stored and what it belongs to.
        knowledge_shapes: {name: shape with an open batch dimension}.
        heads: {name: `tfkd.heads.Head`} of what is stored; outputs of probabilities are stored as
            their logits. For `Distiller(None, student, losses, teacher_head=cache.heads)`.

    Raises:
        ValueError: no cache, one that is not finished or damaged, or of another teacher or taps.
    """

    def __init__(self, directory, distiller=None, *, checksums=None):
        self._folder = folder_of(directory)
        self.directory = self._folder.path
        self.manifest = manifest.read(self._folder)
        if self.manifest is None:
            raise ValueError(inspecting.unfinished(self._folder))
        if distiller is not None:
            self._check_distiller(distiller)
        checksums = self._folder.local if checksums is None else checksums
        sound = manifest.sound_shards(self._folder, self.manifest, checksums)
        damaged = [
            shard["file"]
            for shard, whole in zip(self.manifest["shards"], sound, strict=True)
            if not whole
        ]
        if damaged:
            raise ValueError(
                f'Teacher cache "{self._folder}": {", ".join(damaged[:3])}'
                f"{' and others' if len(damaged) > 3 else ''} ({len(damaged)} of {len(sound)} "
                "shards) are missing or damaged: size or checksum is not that of the manifest. "
                "Call TeacherCache.build again with the same arguments, which makes these anew."
            )

    @classmethod
    def build(
        cls,
        directory,
        distiller,
        dataset,
        augment=None,
        views=1,
        batch_size=128,
        *,
        seed=0,
        dtype="float16",
        top_k=None,
        temperature=1.0,
        augment_name=None,
        shards=manifest.SHARDS,
        share=None,
        verbose=1,
    ):
        """Runs the distiller's teacher over a dataset and stores what its losses read.

        Called again with the same arguments it goes on where it was stopped, makes anew what is
        damaged, and does nothing where all is there. Called by several processes or hosts that
        share a file system, each takes shards that no other holds, and what a dead one leaves; it
        returns when all is there. Where there is no such file system, or it has no locks, each
        takes a share by index. The bytes are the same in every case.

        Args:
            directory: new, empty, or with a cache of the same settings; a path, or a URL as above.
            distiller: `tfkd.Distiller` with a teacher: a model, a source that may be stored (given
                the labels where it needs them), or a Python function, which is called here with
                NumPy arrays. A function is known by its name, and by what it says of the first
                examples.
            dataset: unbatched `tf.data.Dataset` of (x, y) in fixed order, as `tfkd.data.load`
                gives. x is an image (H, W, C) or any structure of tensors of fixed shape,
                {"teacher": ..., "student": ...} for a Distiller with separate inputs.
            augment: None, or a callable (x, seeds) -> x such as `tfkd.data.augmentation` returns.
                Where x holds an input for each, both are given to it, one by one, with the same
                seeds; it may also make both of one image.
            views: how many augmented versions of each example to store. Epoch e of reading gives
                view e % views.
            batch_size: examples that the teacher sees at once.
            seed: Python integer, of the augmentation: view v of example i is augmented with
                `tfkd.data.view_seed(i, v, seed)`.
            dtype: "float16" or "float32".
            top_k: store only so many of the largest logits of each output with more classes, at
                each of its positions (of softmax heads: not for independent labels); the others
                share what probability is left.
            temperature: at which the probabilities of the top k are the teacher's own: give the
                loss's.
            augment_name: what to call an augmentation that is no function at the top of a module.
            shards: how many files at most, 1 to 512. A builder that is killed loses one at most,
                and more builders than shards have nothing to do.
            share: None, or (i, n): build the part i of n alone, i from 0 to n - 1. Anyone may build
                the share of a builder that died. `TeacherCache.merge` puts shares together that
                were built in different directories.
            verbose: 0 to say nothing; else a line on a terminal shows how far it is, and a log
                is told once a minute.

        Returns:
            `TeacherCache`; None where the own share is finished and others are not.

        Raises:
            ValueError: unfit arguments; a directory with other files, or with the cache of another
                teacher, data or settings, or begun by other versions of Keras or TensorFlow; a
                teacher that is not finite.
            OSError: the disk is too small, or full. What is finished stays and is used again.
            RuntimeError: another process builds something else in this directory.
        """
        options = {
            "seed": seed,
            "dtype": dtype,
            "top_k": top_k,
            "temperature": temperature,
            "augment_name": augment_name,
            "shards": shards,
            "share": share,
        }
        complete = building.build(
            directory, distiller, dataset, augment, views, batch_size, verbose, **options
        )
        return cls(directory, checksums=False) if complete else None

    @classmethod
    def merge(cls, directory, parts, verbose=1):
        """Puts parts together that were built as shares in directories of their own.

        The bytes are those of one builder's cache. Called again it goes on where it was stopped.

        Args:
            directory: new, empty, or one in which this was begun; it may be one of the parts.
            parts: list of directories (paths or URLs) of `TeacherCache.build(..., share=(i, n))`,
                of the same arguments but the share; finished caches count, too.
            verbose: 0 to say nothing.

        Returns:
            `TeacherCache`.

        Raises:
            ValueError: no cache in one of them, parts of different caches, shards that are in none
                of them, or in two of them with different content, or that are damaged.
        """
        merging.merge(directory, parts, verbose)
        return cls(directory, checksums=False)

    @staticmethod
    def info(directory):
        """What is known of a cache, finished or not, without reading its records.

        Args:
            directory: path or URL.

        Returns:
            dict: "complete"; "shards" and "missing", the numbers of all shards and of those that
            are not there; "bytes" of those that are; and of the manifest "examples", "views",
            "knowledge" ({name: {"shape", "dtype", "top_k", "head"}}), "teacher", "augmentation",
            "seed", "temperature", "inputs".

        Raises:
            ValueError: no cache, or a damaged manifest.
        """
        return inspecting.info(folder_of(directory))

    @staticmethod
    def verify(directory, dataset=None, verbose=1):
        """Reads every record of every shard of a cache, finished or not.

        The files' checksums, that all views of an example have one fingerprint, that no number is
        NaN or infinite; of a finished cache that the fingerprints are those of the manifest; and
        with the data that each example's are those of its records.

        Args:
            directory: path or URL.
            dataset: the unbatched dataset that the cache was built from.
            verbose: 0 to say nothing.

        Returns:
            List of str: what is wrong, shard by shard; empty where all is as it should be.

        Raises:
            ValueError: no cache, a damaged manifest, or a dataset of another shape or length.
        """
        return inspecting.verify(folder_of(directory), dataset, verbose)

    def __repr__(self):
        own = self.manifest
        tensors = ", ".join(
            f"{name} {tuple(tensor['shape'])}" for name, tensor in own["knowledge"].items()
        )
        size = sum(manifest.shard_bytes(own, number) for number in range(len(own["shards"])))
        return (
            f'TeacherCache("{self.directory}": {own["examples"]:,} examples, {own["views"]} views '
            f"of {tensors}; {disk.readable(size)})"
        )

    @property
    def knowledge_shapes(self):
        return Layout(self.manifest["knowledge"]).shapes

    @property
    def heads(self):
        tensors = self.manifest["knowledge"].items()
        return {name: Head(**tensor["head"]) for name, tensor in tensors}

    def dataset(
        self,
        dataset,
        batch_size,
        shuffle=True,
        seed=None,
        augment=None,
        views_per_step=1,
        *,
        drop_remainder=False,
        input_context=None,
    ):
        """Batches for `Distiller.fit`: examples as the teacher saw them, and what it said.

        The e-th iteration gives view e % views of each example. Order and images are those of
        `tfkd.data.batches` with the same arguments.

        Args:
            dataset: the unbatched dataset that the cache was built from.
            batch_size: examples a batch; the last batch of an epoch holds what is left.
            shuffle: whether to shuffle anew each epoch.
            seed: Python integer, of the order; by default the cache's.
            augment: the augmentation, where it is none of `tfkd.data`.
            views_per_step: V, how many views of each example stand in a batch, next to each other:
                in epoch e the views e * V to e * V + V - 1, modulo views. Batches have batch_size *
                V rows.
            drop_remainder, input_context: as for `tfkd.data.batches`.

        Returns:
            `tf.data.Dataset` of (x augmented, y, sample weights of 1, {name: float32 tensor
            (batch, ...)}), where the examples' numbers, int64 (batch,), stand under "index".

        Raises:
            ValueError: other data or another augmentation than those of the cache. Every example is
                checked when it is read: `tf.errors.InvalidArgumentError` names one that differs.
        """
        views, augment_seed = self.manifest["views"], self.manifest["seed"]
        _check_views(views_per_step, views)
        records = Records(self._folder, self.manifest)
        given, augment = augment, self._checked_augmentation(dataset, batch_size, augment, records)
        layout = records.layout
        kinds = layout.kinds[1:]  # without the fingerprint

        def stored(indices, epochs, x, y):
            view, marks = epochs * views_per_step, examples.fingerprints(x)
            if views_per_step > 1:
                view = tf.broadcast_to(view, tf.shape(indices))
                indices, view, marks, x, y = tf.nest.map_structure(
                    lambda part: None if part is None else tf.repeat(part, views_per_step, 0),
                    (indices, view, marks, x, y),
                )
                view += tf.range(tf.size(view, tf.int64)) % views_per_step
            view %= views
            fields = tf.numpy_function(
                records.read, (indices, view, marks), [kind.base for kind in kinds], stateful=False
            )
            for field, kind in zip(fields, kinds, strict=True):
                field.set_shape((indices.shape[0], *kind.shape))
            if augment is not None:
                seeds = view_seed(indices, view, augment_seed)
                x, y = augment(x, seeds), augmented_labels(given, y, seeds)
            ones = tf.ones_like(indices, tf.float32)  # replicas can be given no None
            return x, y, ones, {**layout.unpack(fields), INDEX: indices}

        seed = augment_seed if seed is None else seed
        options = {"drop_remainder": drop_remainder, "input_context": input_context}
        options["at_once"] = self._folder.at_once
        return batches_of(dataset, batch_size, stored, shuffle=shuffle, seed=seed, **options)

    def _checked_augmentation(self, dataset, batch_size, augment, records):
        examples.check(dataset, batch_size, augment)
        given = {
            "examples": int(dataset.cardinality()),
            "inputs": examples.described(dataset),
        }
        manifest.check_same(self._folder, self.manifest, given, list(given))
        records.check(*examples.sample(dataset, 64))
        if augment is None:
            augment = identity.find_augmentation(self.manifest["augmentation"])
        augment = identity.traced(augment, dataset)
        first = examples.first(dataset, identity.PROBE)
        identity.check_probe(augment, first, self._folder, self.manifest)
        return augment

    def _check_distiller(self, distiller):
        matching = distiller.matching
        names = matching.read_of_teacher if matching.connected else matching.names("teacher")
        missing = set(names) - set(self.manifest["knowledge"])
        if missing:
            raise ValueError(
                f'Teacher cache "{self.directory}" holds {sorted(self.manifest["knowledge"])}, but '
                f"the distiller's losses read {sorted(missing)} of the teacher as well. Build "
                "another cache with this distiller."
            )
        if distiller.teacher is not None:
            found = {"teacher": identity.teacher_fingerprint(distiller.source)}
            manifest.check_same(self._folder, self.manifest, found, ["teacher"])


def _check_views(views_per_step, views):
    if isinstance(views_per_step, bool) or int(views_per_step) != views_per_step:
        raise ValueError(f"views_per_step must be a whole number; given {views_per_step!r}.")
    if not 1 <= views_per_step <= views:
        raise ValueError(
            f"views_per_step is {views_per_step}, but the teacher cache holds {views} views of "
            "each example. Give at most as many, or build a cache with more views elsewhere."
        )
