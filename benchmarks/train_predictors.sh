#!/bin/sh
# Trains the predictors that are shipped: four architectures, both phases. Some ten minutes on one GPU.
# Usage: benchmarks/train_predictors.sh [OUT], by default into the package; `DEVICE=cpu` trains without a GPU.
set -eu
out=${1:-specmoe/bundled/switch-mini-128/predictors}

train() { # architecture, phase, what differs between architectures
    architecture=$1 phase=$2
    shift 2
    specmoe train "switch-mini-128/$phase/train" --architecture "$architecture" --out "$out/$phase/$architecture" \
        --validation-trace "switch-mini-128/$phase/validation" --device "${DEVICE:-cuda}" "$@"
    rm "$out/$phase/$architecture/training.png" # the curve is in metrics.json
}

for phase in decode encode; do
    train contextual "$phase" --epochs 30 --rate 4e-3
    train hierarchical "$phase" --epochs 30 --rate 4e-3
    train transformer "$phase" --epochs 30 --rate 1e-3 --set hidden=128
    train fusion "$phase" --epochs 25 --rate 1e-3 --set hidden=128
done
