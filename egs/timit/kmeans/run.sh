#!/usr/bin/env bash
# Runs the stages of tokenizers/kmeans on this corpus; all flags go to `speechkit run` (see --help).
here=$(cd "$(dirname "$0")" && pwd)
exec speechkit run "${here%/egs/*}/tokenizers/kmeans" --in "$here" --conf mfcc "$@"
