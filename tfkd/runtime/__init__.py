"""Loading what was exported by the loaders that others will use, each in a process of its own.

`loader` is TensorFlow's C++ loader of SavedModels, `interpreter` LiteRT, `keras_process` Keras
itself; `worker` starts their processes, `messages` is how they talk. `exported_models` reads any
export back as a function from images to logits, and `versions` knows the directories that
TensorFlow Serving watches. Nothing here knows how an export is made."""
