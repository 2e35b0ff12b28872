#!/usr/bin/env bash
# Runs the stages of recipes/wavlm on this corpus; all flags go to `speechkit run` (see --help).
here=$(cd "$(dirname "$0")" && pwd)
exec speechkit run "${here%/egs/*}/recipes/wavlm" --in "$here" --conf base "$@"
