#!/usr/bin/env bash
# Does pre-training help with speakers never heard? Its budgets add up to 1 h 56 min; called again, it goes on
# where it was stopped. Flags (--data-dir, --ngpu, …) go to every run. README.md says what is compared.
set -e
here=$(cd "$(dirname "$0")" && pwd)

run() {  # TAG, then settings
    tag=$1
    shift
    echo "== $tag" >&2
    "$here/run.sh" --conf tiny speaker_disjoint "${flags[@]}" --tag "$tag" --set "$@"
}

flags=("$@")
sets=speaker_disjoint_train_strings
[ -d "$here/../data/other_speakers" ] && sets+=,other_speakers
flags+=(--stop-stage 23)
run pretrain "pretrain_sets=[$sets]"
flags=("$@")

few=(train_set=speaker_disjoint_train_10pct_strings finetune.train.max_minutes=2.5)
scratch=(init=random finetune.train.learning_rate=2e-3)
for seed in 0 1 2; do
    for iteration in 2 1; do
        from=init=wavlm/exp/pretrain/pretrain_$iteration/model
        run iteration$iteration-seed$seed seed=$seed $from
        run iteration$iteration-10pct-seed$seed seed=$seed $from "${few[@]}"
    done
    run scratch-seed$seed seed=$seed "${scratch[@]}" finetune.train.max_minutes=17
    run scratch-10pct-seed$seed seed=$seed "${scratch[@]}" "${few[@]}"
done
