#!/bin/sh
# A dataset through SLURM alone: plan, then an array of parts, then seal. Submit again after any failure: what is done stays.
#
#   submit.sh RECIPE STORE [OPTION OF rhoflow plan …]      prints the numbers of the three jobs
#
# Times and memory stand at the top of the three .sbatch files; sbatch's own variables (SBATCH_PARTITION, SBATCH_ACCOUNT …)
# hold for all three. `rhoflow` must be on the PATH here, and STORE on a file system that every node sees.
set -eu
PARTS=${PARTS:-32}                # tasks of the array; no more than there are shards are of use
AT_ONCE=${AT_ONCE:-$PARTS}        # of these, how many may run at the same time
LOGS=${LOGS:-.}                   # folder of the jobs' logs

[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
RECIPE=$(realpath "$1")
case $2 in *://*) STORE=$2 ;; *) STORE=$(realpath -m "$2") ;; esac
export RECIPE STORE PARTS
shift 2
of=$(printf %s "$STORE" | cksum)         # jobs on one store share their names, by which `singleton` knows them
of=${of%% *}
here=$(dirname "$(realpath "$0")")
mkdir -p "$LOGS"
left=$(squeue --noheader --user="$(id -un)" --format=%F --name="rhoflow-plan-$of,rhoflow-run-$of,rhoflow-seal-$of" \
    | sort -u | paste -sd: -)            # what an earlier submission still has to do on this store

plan=$(sbatch --parsable --job-name="rhoflow-plan-$of" --output="$LOGS/%x-%j.log" ${left:+--dependency="afterany:$left"} \
    "$here/plan.sbatch" "$@")
array=
trap 'scancel "${plan%;*}" ${array:+"${array%;*}"}' EXIT      # where a later job is refused
# Without a plan there is nothing to compute: the array is then cancelled, rather than pending for ever.
array=$(sbatch --parsable --job-name="rhoflow-run-$of" --output="$LOGS/%x-%A_%a.log" \
    --dependency="afterok:${plan%;*},singleton" --kill-on-invalid-dep=yes --array="1-$PARTS%$AT_ONCE" "$here/run.sbatch")
# However the array ended: sealing refuses by itself, and names what is missing.
seal=$(sbatch --parsable --job-name="rhoflow-seal-$of" --output="$LOGS/%x-%j.log" \
    --dependency="afterany:${array%;*},singleton" "$here/seal.sbatch")
trap - EXIT
echo "${plan%;*} ${array%;*} ${seal%;*}"        # without the cluster's name, which sbatch adds where there are several
