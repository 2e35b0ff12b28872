"""Transcripts to tokens, and out with what no alignment can reach."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from speechkit.data.utterance import read_utterances, write_utterances
from speechkit.errors import InputError
from speechkit.recipe.context import Context
from speechkit.recipe.stage import Stage
from speechkit.stages.corpus import write_dropped


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSettings:
    """What a token is.

    Attributes:
        kind: whole words, characters, or sentencepiece pieces.
        size: the number of pieces.
    """

    kind: Literal["words", "characters", "sentencepiece"] = "characters"
    size: int = 1000


def learn_tokens(frame_rate: Callable[[Any], float]) -> Stage[Any, tuple[TokenSettings, float]]:
    """Stage 5: a tokenizer from the transcripts of `train_set`, and the lists that CTC can be trained on.

    Args:
        frame_rate: picks that of the encoder in Hz, for what fits into its frames.
    """

    def run(context: Context, task: tuple[TokenSettings, float]) -> None:
        from speechkit.tokenizers.text import learn

        settings, rate = task
        train = read_utterances(context.inputs["train"])
        tokenizer = learn([u.text for u in train if u.text], settings.kind, settings.size)
        tokenizer.save(context.outputs["tokens"])
        context.log.info("%d tokens (%s)", len(tokenizer.vocabulary), settings.kind)
        dropped = []
        for name in ("train", "dev"):
            kept = []
            for u in read_utterances(context.inputs[name]):
                try:
                    tokens = tokenizer.encode(u.text or "")
                    reason = _unreachable(tokens, u.duration_s * rate)
                except InputError as error:
                    reason = error.message
                if reason:
                    dropped.append((u.id, reason, name))
                else:
                    kept.append(u)
            if not kept:
                raise InputError(f"{name}: no transcript can be used: {dropped[-1][1]}", code="text.empty")
            write_utterances(context.outputs[name], kept)
        write_dropped(context, dropped)

    return Stage(
        number=5,
        name="learn_tokens",
        group="data",
        inputs={"train": "exp/lists/{train_set}.jsonl", "dev": "exp/lists/{dev_set}.jsonl"},
        outputs={
            "tokens": "exp/tokens",
            "train": "exp/finetune/train.jsonl",
            "dev": "exp/finetune/dev.jsonl",
            "dropped": "exp/finetune/dropped.tsv",
        },
        settings=lambda c: (c.tokens, frame_rate(c)),
        run=run,
    )


def _unreachable(tokens: list[int], num_frames: float) -> str:
    """Why CTC cannot align so many tokens: it needs a frame for each, and one between equal neighbors."""
    if not tokens:
        return "no words"
    needed = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
    return f"{len(tokens)} tokens need {needed} frames, there are {num_frames:.1f}" if needed > num_frames - 1 else ""
