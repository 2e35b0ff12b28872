"""The floor: the convolutions, matrix products and attention kernels of a piece of work, and nothing else of it.

What the work asked of torch is recorded once and then asked again. Attention kernels count as products, softmax
included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from bench.timing import FLOOR, Output, Side, Work

_PRODUCTS = ("conv", "linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "scaled_dot", "_scaled_dot")


def floor_of(side: Side) -> Side:
    """What a side does, without all that is no product."""
    return Side(name=FLOOR, make=_products, arguments={"make": side.make, "arguments": side.arguments})


def _products(make: Callable[..., Work], arguments: dict[str, Any]) -> Work:
    recorder = _Recorder()
    work = make(**arguments)
    with recorder:
        work()
    del work

    def replay() -> Output:
        with torch.no_grad():
            for call, args, kwargs in recorder.calls:
                call(*args, **kwargs)
        return []

    return replay


class _Recorder(TorchDispatchMode):
    """Keeps the calls of products; of inputs of the same form it keeps one, so the floor is rather too low."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], Any, Any]] = []
        self.kept: dict[Any, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        if func.overloadpacket.__name__.startswith(_PRODUCTS):
            self.calls.append((func, *tree_map(self._keep, given)))
        return func(*given[0], **given[1])

    def _keep(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.numel() == 0:
            return value
        return self.kept.setdefault((value.shape, value.stride(), value.dtype), value.detach())
