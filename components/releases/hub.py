"""The Hugging Face hub's convention of a Parquet data set: what the columns mean stands in the metadata of the Arrow schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa


def hub_schema(schema: pa.Schema, *, class_names: Mapping[str, Sequence[str]] | None = None) -> pa.Schema:
    """`schema` with the metadata by which `datasets` reads `image` as an Image and the int64 columns of `class_names` as ClassLabels.

    All other columns have the types of Arrow.
    """
    features = {name: {"names": list(names), "_type": "ClassLabel"} for name, names in (class_names or {}).items()}
    info = {"info": {"features": {**features, "image": {"_type": "Image"}}}}
    return schema.with_metadata({**(schema.metadata or {}), b"huggingface": json.dumps(info).encode()})


def size_category(images: int) -> str:
    """The hub's name for a number of images, such as 1K<n<10K."""
    bounds = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"), (10_000_000, "10M"))
    if images < bounds[0][0]:
        return "n<1K"
    for (low, low_name), (high, high_name) in zip(bounds, bounds[1:]):
        if low <= images < high:
            return f"{low_name}<n<{high_name}"
    return "n>10M"
