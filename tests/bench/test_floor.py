"""The floor asks torch for the products of a piece of work and for nothing else."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from bench.floor import floor_of
from bench.timing import Side
from tests.bench import sides


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_convolutions_and_products_are_repeated_and_nothing_else() -> None:
    side = floor_of(Side(name="ours", make=sides.products))
    work = side.make(**side.arguments)
    with Names() as asked:
        assert work() == []
    assert [name.removesuffix("1d").replace("convolution", "conv") for name in asked.names] == ["conv", "bmm"]
