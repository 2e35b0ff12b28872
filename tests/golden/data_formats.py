"""Goldens of transcripts written in every format."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from speechkit.pipelines.formats import render
from speechkit.pipelines.subtitles import Layout
from speechkit.pipelines.transcript import Segment, Transcript, Word
from tests.golden.golden import Case


def is_transcript_formats(case: Case) -> bool:
    return case.has("results", "expected")


def check_transcript_formats(case: Case) -> None:
    transcripts = {name: transcript_from(value) for name, value in case.config["results"].items()}
    for number, expected in enumerate(case.config["expected"]):
        transcript = transcripts[expected["result"]]
        if not expected["words"]:
            transcript = replace(transcript, segments=tuple(replace(s, words=()) for s in transcript.segments))
        options = dict(expected["options"])
        place = {key: options.pop(key) for key in ("file", "channel") if key in options}
        text = render(transcript, expected["format"], **place, layout=Layout(**options))
        case.equal(f"expected[{number}].text ({expected['format']})", text, expected["text"])


def transcript_from(value: dict[str, Any]) -> Transcript:
    segments = []
    for s in value["segments"]:
        words = [Word(text=w["word"], start=w["start"], end=w["end"], probability=w["probability"]) for w in s["words"]]
        segments.append(
            Segment(start=s["start"], end=s["end"], text=s["text"], words=tuple(words), speaker=s.get("speaker", ""))
        )
    return Transcript(text=value["text"], segments=tuple(segments), duration_s=value.get("duration", 0.0))


CHECKS = [(is_transcript_formats, check_transcript_formats)]
