"""Every random draw, addressed by (seed, epoch, purpose, id) and never by what was drawn before.

Source: Philox4x32-10 of Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
N is the number of addresses, W the number of 32-bit words of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Words = NDArray[np.uint64]  # 32-bit words kept in 64-bit lanes, so that products do not overflow

EVALUATION = -1  # the epoch of draws made outside training

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_INCREMENTS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))


def philox(counter: Words, key: Words) -> Words:
    """Apply the ten rounds of Philox4x32 to counters `(…, 4)` with keys `(…, 2)`."""
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    k0, k1 = key[..., 0], key[..., 1]
    for _ in range(10):
        low, high = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (high >> _SHIFT) ^ c1 ^ k0, high & _MASK, (low >> _SHIFT) ^ c3 ^ k1, low & _MASK
        k0, k1 = (k0 + _INCREMENTS[0]) & _MASK, (k1 + _INCREMENTS[1]) & _MASK
    return np.stack([c0, c1, c2, c3], axis=-1)


def address_words(seed: int, epoch: int, purpose: str, ids: Sequence[str]) -> Words:
    """Hash addresses to `(N, 4)` words: the two of the key, then the upper two of the counter."""
    prefix = f"{seed}\n{epoch}\n{purpose}\n"
    digests = b"".join(hashlib.blake2b((prefix + i).encode(), digest_size=16).digest() for i in ids)
    return np.frombuffer(digests, dtype="<u4").reshape(len(ids), 4).astype(np.uint64)


def words(seed: int, epoch: int, purpose: str, ids: Sequence[str], count: int) -> Words:
    """The first `count` words of every address, `(N, count)`."""
    address = address_words(seed, epoch, purpose, ids)
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counter = np.empty((len(ids), len(blocks), 4), dtype=np.uint64)
    counter[..., 0], counter[..., 1] = blocks & _MASK, blocks >> _SHIFT
    counter[..., 2:] = address[:, None, 2:]
    return philox(counter, address[:, None, :2]).reshape(len(ids), -1)[:, :count]


def uniform(w: Words) -> NDArray[np.float64]:
    """One number in [0, 1) a word, exact in float32 too."""
    return (w >> np.uint64(8)).astype(np.float64) * 2.0**-24


def uniform53(w: Words) -> NDArray[np.float64]:
    """One number in [0, 1) with 53 bits for every two words (last axis)."""
    return ((w[..., 0::2] >> np.uint64(5)) * 2.0**26 + (w[..., 1::2] >> np.uint64(6))) * 2.0**-53


def randint(w: Words, n: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """One integer in [0, n) a word; `n` broadcasts against the words."""
    return ((w * np.asarray(n, dtype=np.uint64)) >> _SHIFT).astype(np.int64)


def key64(w: Words) -> Words:
    """One 64-bit sort key for every two words (last axis)."""
    return (w[..., 0::2] << _SHIFT) | w[..., 1::2]


def normal(w: Words) -> NDArray[np.float64]:
    """One standard normal number for every two words (last axis): Box–Muller, the cosine half."""
    u1 = ((w[..., 0::2] >> np.uint64(8)) + 0.5) * 2.0**-24
    u2 = (w[..., 1::2] >> np.uint64(8)) * 2.0**-24
    return np.sqrt(-2 * np.log(u1)) * np.cos(2 * np.pi * u2)


def choose(w: Words, k: int, n: int) -> NDArray[np.int64]:
    """`k` distinct integers of [0, n) from 2n words `(2n,)`, in the order of their keys."""
    return np.argsort(key64(w[: 2 * n]), kind="stable")[:k]


def shuffle(seed: int, epoch: int, ids: Sequence[str], *, purpose: str = "shuffle") -> list[str]:
    """The ids in an order that depends on each id alone: adding one moves no other pair."""
    keys = key64(words(seed, epoch, purpose, ids, 2))[:, 0].tolist()
    return [i for _, i in sorted(zip(keys, ids, strict=True))]


def torch_seed(seed: int, epoch: int, purpose: str, id: str) -> int:
    """A seed for a torch generator (initial weights, dropout, large noise), from an address."""
    return int(key64(words(seed, epoch, purpose, [id], 2))[0, 0]) & (2**63 - 1)


def generator(seed: int, epoch: int, purpose: str, id: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator seeded from an address: the same numbers on every device of a type."""
    import torch

    return torch.Generator(device).manual_seed(torch_seed(seed, epoch, purpose, id))
