"""The functions of `tfkd.runs`.

Nothing here imports TensorFlow before settings, files and directory have been checked.
"""
