"""AdamW over the parameters that are trained, which those are, its state as named tensors, and averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from speechkit.errors import UsageError
from speechkit.train.settings import TrainSettings
from speechkit.train.world import World


def freeze(model: nn.Module, settings: TrainSettings) -> None:
    """Switch off, for good, the gradients of what is never trained.

    Raises:
        UsageError: a beginning of names fits no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    wanted = {"frozen": settings.frozen, "freeze_first": settings.freeze_first if settings.freeze_steps else ()}
    for key, prefixes in wanted.items():
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise UsageError(
                    f"train.{key}: no parameter's name begins with {prefix!r}",
                    hint="names begin with: " + ", ".join(sorted({name.partition(".")[0] for name in names})),
                )
    for name, parameter in model.named_parameters():
        if name.startswith(settings.frozen):
            parameter.requires_grad_(False)


def freeze_for(model: nn.Module, settings: TrainSettings, step: int) -> None:
    """Switch the gradients of what is not trained in the first steps off before `freeze_steps` and on from then."""
    if not settings.freeze_steps:
        return
    for name, parameter in model.named_parameters():
        if name.startswith(settings.freeze_first) and not name.startswith(settings.frozen):
            parameter.requires_grad_(step >= settings.freeze_steps)


class Optimizer:
    """AdamW, with its parameters' names.

    Its epsilon stands outside the bias correction, as in torch (fairseq's is inside; they agree after the first
    steps).
    """

    def __init__(self, model: nn.Module, settings: TrainSettings) -> None:
        self.parameters = {n: p for n, p in model.named_parameters() if not n.startswith(settings.frozen)}
        if not self.parameters:
            raise UsageError("train.frozen: every parameter is frozen")
        self.clip = settings.clip
        self.adam = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=next(iter(self.parameters.values())).device.type in ("cpu", "cuda"),
        )

    def add_gradients(self, world: World) -> None:
        """Sum the gradients of all processes; a parameter that none of them used keeps none, as in one process."""
        if world.size == 1:
            return
        parameters = [p for p in self.parameters.values() if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        world.add([used])
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        world.add([p.grad for p in parameters if p.grad is not None])
        for parameter, count in zip(parameters, used.tolist(), strict=True):
            if not count:
                parameter.grad = None

    def clip_gradients(self) -> Tensor:
        """Scale the gradients to the largest norm allowed; returns the norm that they had."""
        return nn.utils.clip_grad_norm_(self.parameters.values(), torch.inf if self.clip is None else self.clip)

    def step(self, learning_rate: float) -> None:
        """Apply the gradients."""
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.adam.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """The state by names: `PARAMETER.exp_avg`, `PARAMETER.exp_avg_sq`, `PARAMETER.step`."""
        states = self.adam.state
        return {
            f"{n}.{key}": value for n, p in self.parameters.items() if p in states for key, value in states[p].items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state that `tensors` gave."""
        numbers = {name: number for number, name in enumerate(self.parameters)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, field = key.rpartition(".")
            state.setdefault(numbers[name], {})[field] = tensor
        self.adam.load_state_dict({"state": state, "param_groups": self.adam.state_dict()["param_groups"]})


class RunningAverage:
    """An exponential moving average of a model's weights, with a shorter memory in the first steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.clone() for name, tensor in _floats(model).items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))  # as TensorFlow's ExponentialMovingAverage(num_updates)
        current = _floats(model)
        torch._foreach_lerp_(list(self.weights.values()), [current[name] for name in self.weights], 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the averages of a checkpoint."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let the model have the averaged weights while the body runs."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def _swap(self, model: nn.Module) -> None:
        for tensor, average in zip(_floats(model).values(), self.weights.values(), strict=True):
            kept = tensor.clone()
            tensor.copy_(average)
            average.copy_(kept)


def _floats(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers that are floating-point numbers, sharing the model's memory, outside autograd."""
    return {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
