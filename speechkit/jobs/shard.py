"""A share of some work, for machines that know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `index` of `count`: every `count`-th of all things, from number `index` on.

    Raises:
        ValueError: there is no such share.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"no shard {self}: they count from 0 to {self.count - 1}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `i/n`."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None:
            raise ValueError(f"{text!r} is not like 0/4")
        return cls(int(found[1]), int(found[2]))

    def of(self, things: Sequence[T]) -> list[T]:
        """Its share of the things."""
        return list(things[self.index :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
