"""`speechkit features`: filter banks, MFCC or the layers of an encoder, of a recording or of a corpus."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.cli.console import Console
from speechkit.cli.inputs import Input, Inputs, add_input_arguments, find_inputs
from speechkit.cli.model import add_offline_argument, positive, require_model, seconds
from speechkit.cli.outputs import Outputs, Target, choose_formats, choose_target
from speechkit.cli.shares import add_sharing_arguments
from speechkit.errors import OutputError, SpeechkitError, UsageError
from speechkit.files import sha256, unwritable, whole, write_text
from speechkit.jobs import Piece, Walk, cut

if TYPE_CHECKING:
    from speechkit.pipelines.feature_files import CorpusRecording, FeatureWork

FORMATS = ("safetensors", "npy", "ark")
_LIST = "feats.scp"
_LAYERS = re.compile(r"(\d+)(?:-(\d+))?")
_WEIGHTS = (".safetensors", ".bin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_input_arguments(parser)
    which = parser.add_argument_group("which features")
    which.add_argument("-m", "--model", metavar="NAME", help="folder, published file, or hf:owner/name[@revision]")
    which.add_argument("--layer", type=_layers, metavar="L", help="9, 0-12, 3,9 or all; 0 is what enters the first")
    which.add_argument("--kind", choices=["fbank", "mfcc"], help="80 log-mel values or 39 MFCC, without a model")
    parser.add_argument("-o", "--output", metavar="PATH", required=True, help="a file for one input, else a folder")
    parser.add_argument("-f", "--format", metavar="F", help=f"{', '.join(FORMATS)} (default: by the ending of -o)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of the files")
    parser.add_argument("--normalize", action="store_true", help="every frame of a layer to mean 0 and variance 1")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist (default: refuse, exit 5)")
    parser.add_argument("--device", default=os.environ.get("SPEECHKIT_DEVICE", "auto"), help="auto, cpu, cuda[:N], mps")
    parser.add_argument("--batch-seconds", type=seconds, default=120.0, metavar="S", help="audio in a batch (120)")
    add_offline_argument(parser)
    many = parser.add_argument_group("a corpus: it is cut into pieces, and what is done is not done again")
    many.add_argument("--piece", type=positive, default=1000, metavar="N", help="recordings of a piece (1000)")
    add_sharing_arguments(many, "processes, each with one core")


def run(args: argparse.Namespace) -> int:
    """Compute the features of everything named.

    Raises:
        SpeechkitError: the command is wrong, the model or the outputs are, or its only input is.
    """
    if args.output == "-":
        raise UsageError("features do not go to standard output", hint="-o FILE or -o FOLDER", code="usage.output")
    formats = choose_formats(args.format, args.output, FORMATS, "safetensors")
    work = _work(args, formats)
    inputs = find_inputs(args)
    target = choose_target(inputs, args.output, formats, known=FORMATS, joinable=frozenset())
    return _one(args, work, inputs, target) if target.file else _corpus(args, work, inputs, Path(args.output))


def _work(args: argparse.Namespace, formats: Sequence[str]) -> FeatureWork:
    if len(formats) > 1:
        raise UsageError(f"one format at a time, not {', '.join(formats)}", code="usage.format")
    if args.kind and (args.model or args.layer is not None):
        raise UsageError(f"--kind {args.kind} takes neither a model nor a layer", code="usage.features")
    if not args.kind:
        require_model(args)
        if args.layer is None:
            raise UsageError("which layer?", hint="--layer 9, 0-12, 3,9 or all", code="usage.layer")
    from speechkit.pipelines.feature_files import FeatureWork, StoreSettings
    from speechkit.pipelines.features import FeatureSettings

    layers = args.layer or None  # () is all
    features = FeatureSettings(kind=args.kind or "layers", layers=layers)
    store = StoreSettings(format=formats[0], dtype=args.dtype, normalize=args.normalize)  # type: ignore[arg-type]
    store.check(features)
    return FeatureWork(
        features=features,
        store=store,
        encoder=args.model or "",
        identity=_identity(args.model) if args.model else "",
        device=args.device,
        offline=args.offline,
        batch_seconds=args.batch_seconds,
    )


def _one(args: argparse.Namespace, work: FeatureWork, inputs: Inputs, target: Target) -> int:
    """Compute one recording, on all cores."""
    from speechkit.pipelines.feature_files import open_extractor, write_features
    from speechkit.pipelines.features import extract
    from speechkit.pipelines.sources import Failure

    if args.shard:
        raise UsageError("--shard is for a folder of outputs", hint="-o FOLDER/", code="usage.shard")
    (item,) = inputs.items
    if item.source is None:
        assert item.error is not None
        raise item.error
    outputs = Outputs(target=target, settings={}, overwrite=args.overwrite)
    with outputs.opened():
        outputs.left([item])
        (result,) = extract([item.source], open_extractor(work), args.batch_seconds)
        if isinstance(result, Failure):
            raise result.error
        assert target.file is not None
        with whole(target.file) as temporary:
            write_features(temporary, {item.output: result}, work.features, work.store)
    return 0


def _corpus(args: argparse.Namespace, work: FeatureWork, inputs: Inputs, folder: Path) -> int:
    """Compute this process's share of a corpus; the last to finish writes the manifest."""
    if work.store.format == "npy":
        raise UsageError("npy holds one recording", hint="-f safetensors or ark for several", code="features.format")
    broken = [_as_json(item) for item in inputs.items if item.source is None]
    pieces = cut(_recordings(inputs.items), lambda recording: 1, args.piece)  # noqa: ARG005
    walk = Walk(compute=work, folder=folder, suffix=f".{work.store.format}", settings=_settings(work))
    if pieces:
        left = _walk(args, walk, pieces)
        if left and not args.shard:
            message = f"{folder}: {left} of {len(pieces)} pieces are not there"
            hint = "do the processes write to a folder that this machine sees?"
            raise SpeechkitError(message, hint=hint, code="features.pieces")
        if left:
            _say(args, f"shard {args.shard} is done, {left} of {len(pieces)} pieces are left")
            return 0
        _finish(walk, pieces)
    facts = [done.facts for piece in pieces if (done := walk.done(piece))]
    return _report(args, facts, broken)


def _walk(args: argparse.Namespace, walk: Walk[CorpusRecording], pieces: list[Piece[CorpusRecording]]) -> int:
    """Compute what is not done; gives the number of pieces that are left."""
    mine = args.shard.of(pieces) if args.shard else pieces
    if not args.overwrite:
        _refuse_other(walk, pieces)
    try:
        walk.folder.mkdir(parents=True, exist_ok=True)
        for piece in mine:
            _try_failures_again(walk, piece)
        if any(walk.done(piece) is None for piece in pieces):
            (walk.folder / _LIST).unlink(missing_ok=True)  # it tells of others
    except OSError as error:
        raise unwritable(walk.folder, error) from error
    bar = Console(quiet=args.verbosity < 0).bar("features", "piece")
    try:
        left = walk.run(
            pieces,
            args.shard,
            nj=args.nj,
            executor=args.executor,
            gpu=args.device != "cpu",
            progress=lambda done, total: bar.update(done, total, ""),
            fail_fast=True,  # bad recordings are facts of a piece; what fails a piece fails all
        )
    finally:
        bar.close()
    return len(left)


def _refuse_other(walk: Walk[CorpusRecording], pieces: Sequence[Piece[CorpusRecording]]) -> None:
    """See that what lies in the folder is of these settings and of this corpus, as it is or as it was."""
    hint = "another folder, or --overwrite"
    other = walk.otherwise(pieces)
    if other:
        raise OutputError(f"{other}: belongs to features with other settings", hint=hint, code="output.exists")
    keys = {recording.key for piece in pieces for recording in piece.items}
    ends = {done.facts.get(end) for done in walk.found() for end in ("first", "last")}
    if ends and not ends & keys:
        raise OutputError(f"{walk.folder}: has the features of another corpus", hint=hint, code="output.exists")


def _try_failures_again(walk: Walk[CorpusRecording], piece: Piece[CorpusRecording]) -> None:
    """Let a piece with recordings that failed be computed anew: they may have been mended."""
    done = walk.done(piece)
    if done is not None and done.facts["failed"]:
        walk.marker(piece).unlink(missing_ok=True)


def _finish(walk: Walk[CorpusRecording], pieces: Sequence[Piece[CorpusRecording]]) -> None:
    walk.write_manifest(pieces)
    if walk.suffix != ".ark":
        return
    places: dict[str, str] = {}
    for piece in pieces:
        done = walk.done(piece)
        assert done is not None
        places |= {key: f"{walk.output(piece)}:{offset}" for key, offset in done.facts.get("offsets", {}).items()}
    write_text(walk.folder / _LIST, "".join(f"{key} {places[key]}\n" for key in sorted(places)))


def _report(args: argparse.Namespace, facts: Sequence[dict[str, Any]], broken: list[dict[str, Any]]) -> int:
    for warning in (w for fact in facts for w in fact.get("warnings", ()) if args.verbosity >= 0):
        print(f"speechkit: warning: {warning['input']}: {warning['message']}", file=sys.stderr)
    failed = broken + [failure for fact in facts for failure in fact["failed"]]
    for failure in failed:
        named = (
            failure["message"]
            if failure["input"] in failure["message"]
            else f"{failure['input']}: {failure['message']}"
        )
        print(f"speechkit: error: {named}" + f"\nhint: {failure['hint']}" * bool(failure["hint"]), file=sys.stderr)
    computed = sum(fact["recordings"] for fact in facts)
    ending = f" · {len(failed)} failed" if failed else ""
    frames = sum(fact["frames"] for fact in facts)
    _say(args, f"{computed + len(failed)} recordings · {computed} ok{ending} · {frames} frames · {len(facts)} pieces")
    codes = {failure["exit"] for failure in failed}
    return 0 if not failed else codes.pop() if not computed and len(codes) == 1 else 1


def _recordings(items: Sequence[Input]) -> list[CorpusRecording]:
    """The recordings that are there, sorted by their keys."""
    from speechkit.pipelines.feature_files import CorpusRecording

    found = []
    for item in items:
        source = item.source
        if source is None:
            continue
        if not isinstance(source.path, str | Path):
            raise UsageError("standard input is one recording, not one of several", code="usage.stdin")
        file = _file(source.path)
        stat = file.stat() if file is not None and file.is_file() else None
        found.append(
            CorpusRecording(
                key=item.output,
                name=source.name,
                path=str(source.path),
                is_file=isinstance(source.path, Path),
                start=source.start,
                num_samples=source.num_samples,
                channel=source.channel,
                state=(stat.st_size, stat.st_mtime_ns) if stat else (0, 0),
            )
        )
    twice = [key for key, count in Counter(recording.key for recording in found).items() if count > 1]
    if twice:
        raise UsageError(f"two inputs would be called {twice[0]}", code="usage.clash")
    return sorted(found, key=lambda recording: recording.key)


def _file(path: str | Path) -> Path | None:
    """The file that holds a recording; None where a command makes it."""
    from speechkit.data.kaldi.rxfilename import parse

    if isinstance(path, Path):
        return path
    name = parse(path)
    return None if name.kind == "pipe" else Path(name.target)


def _settings(work: FeatureWork) -> dict[str, Any]:
    """Everything that the numbers depend on besides the recordings."""
    return {
        "features": work.features,
        "store": work.store,
        "encoder": work.identity,
        "batch_seconds": work.batch_seconds,
    }


def _identity(model: str) -> str:
    """A model by the content of its files, wherever they lie; one of the hub by its name."""
    path = Path(model).expanduser()
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    wanted = [f for f in files if f == path or f.name == "config.json" or f.suffix in _WEIGHTS]
    return " ".join(f"{f.name}:{sha256(f)}" for f in wanted) or model


def _as_json(item: Input) -> dict[str, Any]:
    assert item.error is not None
    error = item.error
    return {"input": item.name, "message": error.message, "hint": error.hint, "exit": error.exit_code}


def _say(args: argparse.Namespace, text: str) -> None:
    if args.verbosity >= 0:
        print(text, file=sys.stderr)


def _layers(text: str) -> tuple[int, ...]:
    """Read `9`, `0-12`, `3,9`; `all` gives none."""
    if text == "all":
        return ()
    layers: set[int] = set()
    for part in text.split(","):
        found = _LAYERS.fullmatch(part.strip())
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise argparse.ArgumentTypeError(f"{text!r}: expected 9, 0-12, 3,9 or all")
        layers |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(sorted(layers))
