#!/usr/bin/env bash
# The whole reproduction at the paper's scale on one GPU, without a network if need be, in slices of a few minutes.
# docs/gpu.md is its manual.
#
# Where there is a network:
#   paper_scale.sh split SOURCE PARTS [MIB]   pack the folder SOURCE into parts of at most MIB (60) MiB, with checksums
#   paper_scale.sh wheels FOLDER NAME…        fetch wheels for the other machine, which has Python $PYTHON_VERSION (3.12)
# On the machine with the GPU:
#   paper_scale.sh join PARTS TARGET          check the parts and unpack them into the folder TARGET
#   paper_scale.sh setup [FOLDER]             install this checkout, and the wheels in FOLDER, without a network
#   paper_scale.sh run [--scale SCALE] [--checkpoint FILE] [--second FILE] [--minutes M] [--out RUNS] [STEP…]
#                                             go on with the steps for at most M (9) minutes; with a checkpoint its
#                                             network is measured, where else CCT-7/3x1 would be trained, and with a
#                                             second one where else CCT-7/7x2 would be
#   paper_scale.sh steps [--out RUNS]         the steps, which of them are finished, expected minutes on an H200
#   paper_scale.sh collect RUNS FOLDER        what is worth bringing back, in files of at most 16 MiB
#
# `run` ends with 0 when all steps are finished, with 3 when its time is up: call it again, it goes on. Any other code
# is an error, whose sentence stands above. NODELENS is the command to run (nodelens).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
read -r -a nodelens <<< "${NODELENS:-nodelens}"
readonly TIME_IS_UP=3 SMALL=$((16 * 1024 * 1024))
# Of little value: a step that would be begun and stopped at once.
readonly LEAST_SECONDS=${LEAST_SECONDS:-20}

# In the order of their value, should the time be short. Minutes: of the first three and of Table 3 measured, else
# derived from counted FLOP (docs/gpu.md).
readonly STEPS=(
  "network:18:CCT-7/3x1 on CIFAR-100, 300 epochs (13 minutes); probes of all its sites"
  "nodes:3:Tables 1 and 2, Figs. 3 to 5"
  "heads:1:Table 4, Figs. 7 to 11"
  "pruning:19:Table 3, the output layer"
  "flowers:11:CCT-7/7x2 on Flowers-102, Table 5"
  "vgg:12:VGG-16 on CIFAR-100: trained, all sites measured, linear.2 and output pruned"
  "seeds:70:two further networks: nodes, heads and pruning of each"
  "enforced:140:networks whose heads were given labels, against free ones"
)

fail() {
  echo "paper_scale: $*" >&2
  exit 2
}

# --- carrying folders ---------------------------------------------------------------------------------------------

split_folder() {
  local source=$1 parts=$2 mib=${3:-60}
  [[ -d $source ]] || fail "there is no folder $source to split"
  [[ $mib =~ ^[1-9][0-9]*$ ]] || fail "parts of $mib MiB: give a whole number of at least 1"
  rm -rf "$parts.partial"
  mkdir -p "$parts.partial"
  tar --create --dereference --sort=name --directory "$source" . |
    (cd "$parts.partial" && split --bytes="${mib}M" --numeric-suffixes --suffix-length=3 - part-)
  (cd "$parts.partial" && sha256sum part-* > SHA256SUMS)
  rm -rf "$parts"
  mv "$parts.partial" "$parts"
  echo "$(wc -l < "$parts/SHA256SUMS") parts of at most $mib MiB in $parts"
}

join_folder() {
  local parts=$1 target=$2 part
  [[ -f $parts/SHA256SUMS ]] || fail "$parts has no SHA256SUMS; carry it with the parts"
  while read -r _ part; do
    [[ -f $parts/$part ]] || fail "$part is missing in $parts; carry it too"
  done < "$parts/SHA256SUMS"
  (cd "$parts" && sha256sum --check --quiet SHA256SUMS) ||
    fail "a part in $parts is damaged; carry it again"
  rm -rf "$target.partial"
  mkdir -p "$target.partial"
  cat "$parts"/part-* | tar --extract --directory "$target.partial"
  rm -rf "$target"
  mv "$target.partial" "$target"
  echo "unpacked into $target"
}

fetch_wheels() {
  local folder=$1
  shift
  (($#)) || fail "name the packages whose wheels are to be fetched, e.g. jaxtyping lazy-loader"
  python3 -m pip download --no-deps --only-binary=:all: --implementation cp \
    --python-version "${PYTHON_VERSION:-3.12}" --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
    --dest "$folder" "$@"
}

setup() {
  local folder=${1:-}
  if [[ -n $folder ]]; then
    python3 -m pip install --no-index --no-deps "$folder"/*.whl
  fi
  # Not built: without a network there may be no build backend. The checkout itself goes onto the path.
  local site
  site=$(python3 -c 'import site; print(site.getsitepackages()[0])')
  echo "$here/../src" > "$site/nodelens.pth"
  python3 -m nodelens --version 2> /dev/null || python3 -m nodelens --help > /dev/null ||
    fail "nodelens does not start; fetch the wheels that it misses (python3 -m nodelens --help names one)"
  echo "run it as NODELENS='python3 -m nodelens'"
}

# --- the steps ----------------------------------------------------------------------------------------------------

reproduce() {
  limited "${nodelens[@]}" reproduce all --scale "$scale" "${checkpoint[@]}" --out "$runs/cct" --parts "$1" "${@:2}"
}

step_network() { reproduce network; }
step_nodes() { reproduce table1,table2,figure3,figure4,figure5; }
step_heads() { reproduce figure7,table4,figure10,figure8,figure9,figure11; }
step_pruning() { reproduce output,table3; }
step_flowers() { reproduce table5; }
step_enforced() { reproduce enforced; }

step_vgg() {
  local out=$runs/vgg
  local network=(vgg16_bn_512 --data cifar100 --recipe vgg-sgd) sites='*' layers='linear.2,output' more=()
  if [[ $scale != paper ]]; then
    # A miniature of the step: VGG itself is too large for it.
    network=(cct_2_3x1_16 --data digits --recipe digits --epochs 2)
    sites='block.2.linear2' layers='output' more=(--seeds 1 --probe-epochs 1)
  fi
  limited "${nodelens[@]}" train "${network[@]}" --out "$out"
  limited "${nodelens[@]}" measure "$out" --sites "$sites"
  # All else frozen: a checkpoint of eight variants that train all of VGG would take 1.5 GB.
  limited "${nodelens[@]}" prune "$out" --layers "$layers" --name fc --rest-learning-rate 0 "${more[@]}"
}

step_seeds() {
  if ((${#checkpoint[@]})); then
    echo "further networks are trained where the first one is; with a checkpoint there are none"
    return
  fi
  reproduce network,table1,table2,figure3,figure4,figure5,figure7,table4,figure10,figure8,figure9,figure11,output,table3 \
    --networks 3
}

# What a finished step was made with: the scale, and the contents of the networks that were given, where it reads them.
made_with() {
  local given=("${checkpoint[@]}") i
  [[ $1 != vgg && $1 != enforced ]] || given=()
  for ((i = 1; i < ${#given[@]}; i += 2)); do
    [[ -f ${given[i]} ]] || fail "${given[i]} is no file; give a checkpoint"
    given[i]=$(sha256sum < "${given[i]}")
  done
  echo "$scale" "${given[@]}"
}

# Run a command for the time that is left. Stopped by SIGTERM it leaves its last checkpoint, and goes on from there.
limited() {
  local left=$((deadline - SECONDS)) code=0
  ((left >= LEAST_SECONDS)) || exit "$TIME_IS_UP"
  timeout --signal=TERM --kill-after=30 "$left" "$@" || code=$?
  case $code in
    0) ;;
    124 | 143) exit "$TIME_IS_UP" ;;
    137) # killed: by timeout where the time is up, else by others, as where memory runs out
      ((SECONDS < deadline)) || exit "$TIME_IS_UP"
      exit "$code"
      ;;
    *) exit "$code" ;;
  esac
}

run_steps() {
  local scale=paper minutes=9 runs=runs/paper checkpoint=() chosen=() entry name made code
  while (($#)); do
    [[ $1 != --* || $# -ge 2 ]] || fail "$1 without a value"
    case $1 in
      --scale) scale=$2 && shift 2 ;;
      --checkpoint | --second) checkpoint+=("$1" "$2") && shift 2 ;;
      --minutes) minutes=$2 && shift 2 ;;
      --out) runs=$2 && shift 2 ;;
      --*) fail "unknown option $1" ;;
      *) chosen+=("$1") && shift ;;
    esac
  done
  [[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--minutes $minutes: give a number"
  for name in "${chosen[@]}"; do
    declare -F "step_$name" > /dev/null || fail "there is no step $name; see: $0 steps"
  done
  local deadline
  deadline=$(awk -v s="$SECONDS" -v m="$minutes" 'BEGIN { printf "%d", s + 60 * m }')
  mkdir -p "$runs/steps"
  for entry in "${STEPS[@]}"; do
    name=${entry%%:*}
    [[ ${#chosen[@]} -eq 0 || " ${chosen[*]} " == *" $name "* ]] || continue
    made=$(made_with "$name") || exit
    if [[ -e $runs/steps/$name ]]; then
      [[ $(< "$runs/steps/$name") == "$made" ]] ||
        fail "step $name in $runs was finished at another scale or of another checkpoint; choose another --out"
      continue
    fi
    echo "step $name: ${entry##*:}"
    # Not "if step": within a condition the shell would go on after a failed command of the step.
    set +e
    (set -e && "step_$name")
    code=$?
    set -e
    if ((code == TIME_IS_UP)); then
      echo "time is up in step $name; call again to go on"
      exit "$TIME_IS_UP"
    fi
    ((code == 0)) || { echo "paper_scale: step $name failed with code $code" >&2; exit "$code"; }
    echo "$made" > "$runs/steps/$name"
  done
  echo "all steps are finished; bring back what $0 collect $runs FOLDER puts there"
}

list_steps() {
  local runs=runs/paper entry name minutes what
  if [[ ${1:-} == --out ]]; then
    (($# >= 2)) || fail "--out without a value"
    runs=$2
  fi
  for entry in "${STEPS[@]}"; do
    IFS=: read -r name minutes what <<< "$entry"
    printf '%-9s %-8s about %3d min  %s\n' "$name" "$([[ -e $runs/steps/$name ]] && echo finished || echo open)" \
      "$minutes" "$what"
  done
}

# --- what is brought back -----------------------------------------------------------------------------------------

collect() {
  local runs=$1 folder=$2
  [[ -d $runs ]] || fail "there are no runs in $runs"
  rm -rf "$folder.partial"
  mkdir -p "$folder.partial"
  (cd "$runs" && find . -type f \( -path '*/tables/*' -o -path '*/figures/*' -o -name '*.jsonl' -o -name config.json \
    -o -name 'reproduction.*' \) -print0 | sort -z | tar --create --gzip --null --files-from=- --file=-) |
    (cd "$folder.partial" && split --bytes=$SMALL --numeric-suffixes --suffix-length=2 - results.tar.gz.)
  python3 "$here/small_weights.py" "$runs" "$folder.partial" "$SMALL"
  (cd "$folder.partial" && sha256sum -- * > SHA256SUMS)
  rm -rf "$folder"
  mv "$folder.partial" "$folder"
  du --bytes "$folder"/*
}

command=${1:-}
shift || true
case $command in
  split) (($# >= 2)) || fail "split SOURCE PARTS [MIB]" && split_folder "$@" ;;
  join) (($# == 2)) || fail "join PARTS TARGET" && join_folder "$@" ;;
  wheels) (($# >= 1)) || fail "wheels FOLDER NAME…" && fetch_wheels "$@" ;;
  setup) setup "$@" ;;
  run) run_steps "$@" ;;
  steps) list_steps "$@" ;;
  collect) (($# == 2)) || fail "collect RUNS FOLDER" && collect "$@" ;;
  *)
    sed -n '2,23s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
