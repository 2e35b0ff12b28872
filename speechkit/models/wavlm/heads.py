"""What is put on top of the encoder: prediction of hidden units, and CTC.

B utterances, T samples, F frames, N selected frames, D width, E width of a class embedding, C classes of a label set,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechkit.decode.vocabulary import Vocabulary
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.model import WavLM


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitHead:
    """Settings of the prediction head; the defaults are those of WavLM Base.

    Attributes:
        embedding_dim: E; None: D.
        own_projections: whether each label set has a projection of its own (fairseq: `untie_final_proj`).
        target_glu: whether a gated linear unit is applied to the class embeddings.
        temperature: divides the cosines.
    """

    embedding_dim: int | None = 256
    own_projections: bool = True
    target_glu: bool = False
    temperature: float = 0.1


class WavLMForUnits(nn.Module):
    """Pre-training: cosines between projected frames and the embeddings of the hidden units.

    Source: Hsu et al., "HuBERT" (2021), equation (3).

    Args:
        config: of the encoder.
        num_classes: of each label set. (fairseq counts 4 special symbols among them.)
        head: of the prediction head.
    """

    def __init__(self, config: WavLMConfig, num_classes: Sequence[int], head: UnitHead | None = None) -> None:
        super().__init__()
        self.settings = head or UnitHead()
        self.num_classes = tuple(num_classes)
        width = self.settings.embedding_dim or config.encoder.dim
        projections = len(self.num_classes) if self.settings.own_projections else 1
        self.encoder = WavLM(config)
        self.projection = nn.Linear(config.encoder.dim, width * projections)
        self.class_weights = nn.Parameter(torch.empty(sum(self.num_classes), width).uniform_())
        self.target_glu = nn.Linear(width, 2 * width) if self.settings.target_glu else None

    def logits(self, frames: Tensor) -> list[Tensor]:
        """Logits `(N, C)` of each label set for outputs of the encoder `(N, D)`, in float32."""
        projected = self.projection(frames).float()
        parts = projected.chunk(len(self.num_classes), -1) if self.settings.own_projections else [projected]
        parts = list(parts) * (len(self.num_classes) // len(parts))
        with torch.autocast(frames.device.type, enabled=False):
            return [
                _cosines(p, e.float()) / self.settings.temperature
                for p, e in zip(parts, self.class_embeddings(), strict=True)
            ]

    def class_embeddings(self) -> list[Tensor]:
        """Embeddings `(C, E)` of the classes of each label set."""
        embeddings: Tensor = self.class_weights
        if self.target_glu is not None:
            embeddings = F.glu(self.target_glu(embeddings), dim=-1)
        return list(embeddings.split(self.num_classes))


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    """The cosine of the angle between every row of one and every row of the other."""
    return F.normalize(x, dim=-1, eps=1e-8) @ F.normalize(y, dim=-1, eps=1e-8).t()


@dataclass(frozen=True, kw_only=True, slots=True)
class CTCOutput:
    """Logits float `(B, F, V)` and the valid frames of each row, int64 `(B,)`."""

    logits: Tensor
    lengths: Tensor


class WavLMForCTC(nn.Module):
    """Recognition: a linear map of the encoder's output to the symbols of a vocabulary.

    Args:
        config: of the encoder.
        vocabulary: what the rows of the head stand for.
        final_dropout: before the head.
    """

    def __init__(self, config: WavLMConfig, vocabulary: Vocabulary, *, final_dropout: float = 0.0) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.encoder = WavLM(config)
        self.dropout = nn.Dropout(final_dropout)
        self.head = nn.Linear(config.encoder.dim, len(vocabulary))
        self.reset_head()

    def reset_head(self) -> None:
        """Draw the head as fairseq does: Xavier uniform, biases 0."""
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        waves: Tensor,
        lengths: Tensor,
        *,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        dropped_layers: frozenset[int] = frozenset(),
    ) -> CTCOutput:
        """Waves float `(B, T)` to logits; the arguments are those of `WavLM`.

        Args:
            waves: float `(B, T)`.
            lengths: int64 `(B,)` samples.
            mask: bool `(B, F)`.
            channel_mask: bool `(B, D)`.
            dropped_layers: layers to skip.
        """
        states = self.encoder(waves, lengths, mask=mask, channel_mask=channel_mask, dropped_layers=dropped_layers)
        return CTCOutput(logits=self.head(self.dropout(states.output)), lengths=states.lengths)
