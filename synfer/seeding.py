"""One random generator a sample: image 17 is the same in a batch of 1 or of 64, on 1 or on 8 workers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

_SEED_BITS = 63  # fits a signed 64-bit column and torch.Generator.manual_seed


def derive_seed(*parts: object) -> int:
    """A seed 0..2^63-1 from any parts with a stable repr; unlike `seed + index`, neighbours do not collide between streams."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _SEED_BITS)


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator a seed; CPU so that a sample's noise does not depend on the device it is denoised on."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def randn(shape: Sequence[int], seeds: Sequence[int]) -> torch.Tensor:
    """Standard normal noise (len(seeds), *shape), row i from seed i alone."""
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators(seeds)])
