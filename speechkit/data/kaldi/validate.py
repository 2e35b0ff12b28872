"""All that is wrong with a Kaldi data directory, by file and line, from one reading.

The rules lie in `rules_form` (single tables), `rules_sets` (ids between tables), `rules_values`, `rules_times`,
`rules_text` and `rules_audio`; their codes are stable names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechkit.data.kaldi import rules_audio, rules_form, rules_sets, rules_text, rules_times, rules_values
from speechkit.data.kaldi.directory import read_directory
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.tables import root_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidateOptions:
    """What to ask of a data directory.

    Attributes:
        text: `text` must be there.
        wav: `wav.scp` must be there (unless `feats.scp` is).
        feats: `feats.scp` must be there.
        allow_empty_text: a transcript without words is a warning.
        speaker_order: sorting by speaker must give the same order.
        check_audio: how far to look into recordings: not at all, whether they exist, their headers, every sample.
        against: a directory that must not share utterances with this one.
        max_seconds: utterances longer than this are named.
        root: where relative paths count from; None finds it as `tables.root_of` does.
        allow_pipes: run the commands in `wav.scp`.
    """

    text: bool = True
    wav: bool = True
    feats: bool = False
    allow_empty_text: bool = False
    speaker_order: bool = True
    check_audio: rules_audio.Depth = "none"
    against: Path | None = None
    max_seconds: float | None = None
    root: Path | None = None
    allow_pipes: bool = False


def validate(path: str | Path, options: ValidateOptions) -> list[Problem]:
    """All findings, sorted by file and line.

    Raises:
        InputError: the directory (or `against`), or a file in it, cannot be read at all.
    """
    directory = read_directory(path)
    root = options.root or root_of(path)
    problems = list(directory.problems)
    problems += rules_form.check_present(directory, text=options.text, wav=options.wav, feats=options.feats)
    problems += rules_form.check_tables(directory, speaker_order=options.speaker_order)
    problems += rules_sets.check_sets(directory)
    problems += rules_values.check_values(directory)
    recordings = rules_audio.check_recordings(
        directory, options.check_audio, root=root, allow_pipes=options.allow_pipes
    )
    problems += recordings.problems
    problems += rules_audio.check_same_audio(directory)
    problems += rules_audio.check_home_paths(directory)
    problems += rules_audio.check_features(directory, root=root)
    seconds = rules_times.recording_seconds(directory, recordings.headers)
    segments = rules_times.read_segments(directory, seconds)
    durations = rules_times.utterance_durations(directory, recordings.headers, segments)
    problems += rules_times.check_segments(directory, segments, seconds)
    problems += rules_times.check_durations(directory, durations, recordings.headers, options.max_seconds)
    problems += rules_text.check_texts(directory, durations, allow_empty=options.allow_empty_text)
    if options.against:
        other = read_directory(options.against)
        problems += rules_sets.check_against(directory, other, options.against)
        if options.check_audio == "full":
            other_root = options.root or root_of(options.against)
            others = rules_audio.check_recordings(other, "full", root=other_root, allow_pipes=options.allow_pipes)
            problems += rules_audio.check_same_content(directory, recordings.digests, other, others.digests)
    return sorted(problems)
