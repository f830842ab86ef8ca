"""Action units by py-feat's detector (Cheong et al. 2023, arXiv 2104.03509), an optional package.

Its weights are for research only and come from a hub on first use.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from synfer.descriptions.action_units import ActionUnitError, au_code, presence_intensity
from synfer.vocabulary import AU_COUNT, AU_INDEX


class PyFeat:
    """AUs of faces by `feat.Detectorv2`: probabilities of presence of 20 AUs, of which the vocabulary has all but AU 28."""

    needs_images = True

    def __init__(self, detector: Any, *, batch_size: int = 16) -> None:
        self._detector, self._batch_size = detector, batch_size

    @classmethod
    def load(cls, *, device: str | torch.device = "cpu") -> PyFeat:
        """The detector with its published weights; raises ActionUnitError if py-feat or the weights are not here."""
        return cls(_load_detector(str(device)))

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> np.ndarray:
        """AUs of the largest face of every image, NaN throughout where none is found."""
        found = np.full((len(images), AU_COUNT), np.nan, dtype=np.float32)
        for places in _same_size(images):
            batch = torch.from_numpy(np.stack([images[place] for place in places])).permute(0, 3, 1, 2).contiguous()
            detected = self._detector.detect(batch, data_type="tensor", batch_size=self._batch_size, progress_bar=False)
            frames, aus = face_aus(detected, list(detected.au_columns))
            found[np.array(places)[frames]] = aus
        return found


def face_aus(detected: pd.DataFrame, au_columns: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Of py-feat's table, a row a face: the frames that show one, int (M,), and intensities (M, AU_COUNT) of the largest in each."""
    faces = detected.dropna(subset=["FaceRectWidth", "FaceRectHeight"])
    faces = faces.assign(area=faces["FaceRectWidth"] * faces["FaceRectHeight"]).sort_values("area", kind="stable")
    faces = faces.drop_duplicates("frame", keep="last")
    known = {column: code for column in au_columns if (code := au_code(column)) in AU_INDEX}
    aus = np.full((len(faces), AU_COUNT), np.nan, dtype=np.float32)
    aus[:, [AU_INDEX[str(code)] for code in known.values()]] = presence_intensity(faces[list(known)].to_numpy(dtype=np.float64))
    return faces["frame"].to_numpy(dtype=np.int64), aus


def _load_detector(device: str) -> Any:
    try:
        from feat import Detectorv2
    except ImportError as error:
        raise ActionUnitError(f"AUs by pyfeat need the extra: pip install 'synfer[pyfeat]' ({error})") from error
    try:
        return Detectorv2(device=device, identity_model=None)
    except OSError as error:  # what the hub's client raises offline
        raise ActionUnitError(f"py-feat's weights are not here; fetch them once with HF_HUB_OFFLINE=0 ({error})") from error


def _same_size(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Positions of the images, grouped by shape: a batch has one."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.shape, []).append(place)
    return list(groups.values())
