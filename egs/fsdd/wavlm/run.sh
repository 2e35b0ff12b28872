#!/usr/bin/env bash
# Runs the stages of recipes/wavlm on this corpus; all flags go to `speechkit run` (see --help).
here=$(cd "$(dirname "$0")" && pwd)
root=${here%/egs/*}
PATH=$PATH:$root/.venv/bin  # of `make venv`, unless another speechkit comes first
exec speechkit run "$root/recipes/wavlm" --in "$here" --conf tiny "$@"
