#!/usr/bin/env bash
# Train the source prompts of the packaged library, one after another, and add each when it is done.
#
#     recipes/library.sh DATA OUT [LIBRARY]
#
# DATA holds the data sets (trec/train.jsonl, ...), OUT the runs, LIBRARY is a new folder or the one to go on with.
# Interrupted at any point and started again it goes on where it stopped: a finished run is only read.
set -euo pipefail

data=$1 out=$2 library=${3:-src/spot/packaged}
spot=${SPOT:-spot}

test -d "$library/prompts" || "$spot" library create --library "$library"

# task, steps (about 30,000 text tokens), steps between evaluations
while read -r task steps every; do
    "$spot" tune "$task" --data "$data" --config recipes/library.toml --set "steps=$steps" --set "eval_every=$every" \
        --out "$out/${task//\//-}"
    "$spot" library add "$out/${task//\//-}/prompt.safetensors" --library "$library"
done <<TASKS
glue/sst2 200 50
trec 216 54
ag_news 72 18
tweet_eval/emotion 128 32
tweet_eval/offensive 108 27
yelp_polarity 44 11
glue/cola 216 54
quora_pairs 96 24
banking77 180 60
TASKS
