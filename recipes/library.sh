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

# task, steps (30,000 to 110,000 text tokens; 580,000 for the long run, glue/mnli), steps between evaluations
while read -r task steps every; do
    "$spot" tune "$task" --data "$data" --config recipes/library.toml --set "steps=$steps" --set "eval_every=$every" \
        --out "$out/${task//\//-}"
    "$spot" library add "$out/${task//\//-}/prompt.safetensors" --library "$library"
done <<TASKS
glue/sst2 200 50
trec 150 50
ag_news 60 15
tweet_eval/emotion 100 25
tweet_eval/offensive 88 22
yelp_polarity 72 18
glue/cola 152 38
quora_pairs 100 25
banking77 200 50
glue/mnli 840 84
TASKS
