#!/bin/sh
# Trains the predictors that are shipped: four architectures, both phases. Some ten minutes on one GPU.
# Usage: benchmarks/train_predictors.sh [OUT], by default into the package; `DEVICE=cpu` trains without a GPU.
set -eu
out=${1:-specmoe/bundled/switch-mini-128/predictors}

train() { # phase, architecture, what differs between architectures
    phase=$1 architecture=$2
    shift 2
    specmoe train "switch-mini-128/$phase/train" --architecture "$architecture" --out "$out/$phase/$architecture" \
        --validation-trace "switch-mini-128/$phase/validation" --device "${DEVICE:-cuda}" \
        --epochs 40 --set width=32 "$@"
    rm "$out/$phase/$architecture/training.png" # the curve is in metrics.json
}

train decode contextual --rate 5e-3 --set hidden=192
train decode hierarchical --rate 5e-3 --set hidden=192
train decode transformer --rate 4e-3 --set hidden=160
train decode fusion --rate 2e-3 --set hidden=128
train encode contextual --rate 3e-3 --set hidden=192 --batch 8
train encode hierarchical --rate 3e-3 --set hidden=192 --batch 8
train encode transformer --rate 4e-3 --set hidden=160 --batch 8
train encode fusion --rate 2e-3 --set hidden=128 --batch 8
