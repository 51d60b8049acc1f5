#!/usr/bin/env bash
# The paper's synthetic setting at its full size, 1,000,000 records of 128 events, on one GPU: SiLU, softmax and a
# Transformer. It stops after ten minutes and writes checkpoints; run the same command again to go on. OUT is the folder
# of results (default: hstu-compare-paper-1m); at the end it contains report.html.
set -euo pipefail
cd "$(dirname "$0")/.."
hstu=${HSTU:-$([ -x .venv/bin/hstu ] && echo .venv/bin/hstu || echo hstu)}
timeout --signal INT 570 "$hstu" compare --preset paper --records 1000000 --test-share 0.01 --jobs 1 \
    --vary batch_examples=64 --vary learning_rate=3e-3 --out "${OUT:-hstu-compare-paper-1m}" "$@"
