"""What can be wrong with a row of a release: its image, its values, and the two copies of it in shard and manifest."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from PIL import Image

from synfer.annotation.rectify import ACTIONS
from synfer.images import DIGITAL_SOURCE_TYPE
from synfer.manifest import FILE_NAME, SPLITS
from synfer.vocabulary import AU_CODES, AU_COUNT, COMPOUNDS, EXPRESSIONS, MAX_INTENSITY, unknown

Size = tuple[int, int]
_UNDECODABLE = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises on bytes that are no whole image: mostly OSError and SyntaxError, on odd headers any of these."""
_ROUNDING = 1e-3  # of the sum of eight probabilities in float32


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a Parquet file, counted from 1."""

    file: str
    number: int
    values: dict[str, Any]

    @property
    def sample(self) -> str:
        """The sample's name, or the row's place where it has none."""
        return str(self.values["sample_id"] or f"(row {self.number}, without a name)")


def join_rows(shards: Iterable[Row], manifest: Iterable[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """Pairs of the two rows of a sample, whatever their order; a row without partner comes at the end, with None.

    Rows wait for their partner only where the orders differ, so memory does not grow with the release.
    """
    waiting: tuple[dict[str, list[Row]], dict[str, list[Row]]] = ({}, {})
    for of_shard, of_manifest in zip_longest(shards, manifest):
        if of_shard is not None and of_manifest is not None and of_shard.sample == of_manifest.sample:
            yield of_shard, of_manifest
            continue
        for side, row in enumerate((of_shard, of_manifest)):
            if row is None:
                continue
            if partners := waiting[1 - side].pop(row.sample, None):
                partner = partners.pop(0)
                if partners:
                    waiting[1 - side][row.sample] = partners
                yield (row, partner) if side == 0 else (partner, row)
            else:
                waiting[side].setdefault(row.sample, []).append(row)
    yield from ((row, None) for row in chain.from_iterable(waiting[0].values()))
    yield from ((None, row) for row in chain.from_iterable(waiting[1].values()))


def image_faults(values: Mapping[str, Any]) -> tuple[list[str], Size | None]:
    """What is wrong with the image of a row, and its width and height where it can be decoded."""
    data = (values["image"] or {}).get("bytes")  # a struct, `synfer.images.SHARD_SCHEMA`
    if not data:
        return ["has no image"], None
    faults = []
    if (found := hashlib.sha256(data).hexdigest()) != values["sha256"]:
        faults.append(f"its image has changed: the SHA-256 is {found[:12]}..., the row has {str(values['sha256'])[:12]}...")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size, mark = image.size, image.info.get("DigitalSourceType")
    except _UNDECODABLE as error:
        return [*faults, f"its image cannot be decoded ({len(data)} bytes): {error}"], None
    if mark != DIGITAL_SOURCE_TYPE:
        faults.append(f"its image lacks the AI-generated mark: DigitalSourceType is {mark!r}")
    return faults, size


def row_faults(values: Mapping[str, Any]) -> list[str]:
    """What breaks the vocabulary, the ranges, or the meaning of label, action and weight in a row of the manifest."""
    words = {"split": SPLITS, "expression": ("", *EXPRESSIONS), "label": EXPRESSIONS, "action": ACTIONS}
    if "compound" in values:
        words["compound"] = ("", *COMPOUNDS)
    faults = [unknown(name, values[name], known) for name, known in words.items() if values[name] not in known]
    for name in ("aus", "aus_seen"):
        if name in values:
            faults += _au_faults(name, values[name] or [])
    return faults or _meaning_faults(values)


def _au_faults(name: str, intensities: Sequence[float | None]) -> list[str]:
    if len(intensities) != AU_COUNT:
        return [f"{name} has {len(intensities)} intensities, not {AU_COUNT}"]
    known = ((code, value) for code, value in zip(AU_CODES, intensities, strict=True) if value is not None)
    return [f"{name}: AU {code} is {value:g}, outside 0..5" for code, value in known if value < 0 or value > MAX_INTENSITY]


def _meaning_faults(values: Mapping[str, Any]) -> list[str]:
    label, asked, action = values["label"], values["expression"], values["action"]
    faults = []
    if (action == "keep" and label != asked) or (action == "relabel" and label == asked):
        faults.append(f"action is {action}, but the label is {label} and {asked or 'nothing'} was asked")
    if "weight" in values and (values["weight"] == 0) != (action == "reject"):
        faults.append(f"weight is {values['weight']} and action {action}; weight 0 and reject belong together")
    if "posterior" in values:
        faults += _posterior_faults(values["posterior"] or [], label)
    return faults


def _posterior_faults(posterior: Sequence[float], label: str) -> list[str]:
    if len(posterior) != len(EXPRESSIONS) or not abs(sum(posterior) - 1) < _ROUNDING:
        return [f"posterior has {len(posterior)} entries of the sum {sum(posterior):.3f}, not {len(EXPRESSIONS)} of the sum 1"]
    surest = max(range(len(posterior)), key=posterior.__getitem__)
    if posterior[EXPRESSIONS.index(label)] < posterior[surest] - _ROUNDING:
        return [f"label is {label}, but the posterior is surest of {EXPRESSIONS[surest]} ({posterior[surest]:.3f})"]
    return []


def row_differences(of_shard: Mapping[str, Any], of_manifest: Mapping[str, Any]) -> list[str]:
    """What the shard's copy of a row has otherwise than the manifest's, column by column; NaN equals NaN."""
    shared = [name for name in of_manifest if name in of_shard]
    return [_difference(name, of_shard[name], of_manifest[name]) for name in shared if not _same(of_shard[name], of_manifest[name])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or (one != one and other != other)


def _difference(name: str, one: Any, other: Any) -> str:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        place = next(index for index, pair in enumerate(zip(one, other, strict=True)) if not _same(*pair))
        entries = {AU_COUNT: AU_CODES, len(EXPRESSIONS): EXPRESSIONS}.get(len(one))
        name, one, other = f"{name} of {entries[place] if entries else place}", one[place], other[place]
    return f"{name} is {one!r}, {FILE_NAME} has {other!r}"
