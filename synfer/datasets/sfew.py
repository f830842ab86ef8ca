"""SFEW 2.0 (Dhall et al., EmotiW 2015): frames of films, seven classes, 958 training and 436 validation images; people not named.

Research use only, on request at https://cs.anu.edu.au/few/. Class folders, so there is no order of labels. The test set's labels are not
public, so the validation set is the test split here, as in the literature; a val split is taken from train.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from synfer.datasets.entries import Entry, Format, Layout
from synfer.datasets.folders import holds_classes, read_class_folders
from synfer.datasets.names import LEFT_OUT, LabelNames

_SPLITS = {"train": "train", "train_aligned_faces": "train", "val": "test", "val_aligned_faces": "test", "test": LEFT_OUT}


def read(root: Path) -> Iterator[Entry]:
    """`{Train,Val}/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/*.png`, or the folders of aligned faces."""
    return read_class_folders(root, meaning=LabelNames().meaning, splits=_SPLITS)


FORMAT = Format(
    title="SFEW 2.0",
    licence="research only, by agreement with the authors",
    source="https://cs.anu.edu.au/few/",
    layouts=(
        Layout(
            "class folders", "{Train,Val}/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/*.png",
            lambda root: root.is_dir() and any(holds_classes(child, "angry", "happy") for child in root.iterdir()), read,
        ),
    ),
)  # fmt: skip
