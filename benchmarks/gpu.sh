#!/usr/bin/env bash
# All that a machine with a GPU should show, in one call of about ten minutes; what it finds goes to a folder.
#
#     bash benchmarks/gpu.sh gpu-report             # in a checkout with its .venv (make install)
#     bash benchmarks/gpu.sh gpu-report tests speed # these steps only
#     DEVICE=cpu bash benchmarks/gpu.sh cpu-report  # the same on a CPU: tries the script, and compares
#
# A step that fails is told at the end, and the others are done all the same.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${1:?the folder for what is found}"
shift
wanted=("$@")
device="${DEVICE:-cuda}"
bin="${VENV:-.venv}/bin"
mkdir -p "$out"
rm -rf "$out/runs"
failed=()

step() {
    local name="$1" start="$SECONDS"
    shift
    if [ "${#wanted[@]}" -gt 0 ] && [[ " ${wanted[*]} " != *" $name "* ]]; then return; fi
    printf '=== %s: ' "$name"
    # In a shell of its own: timeout knows no functions.
    if timeout 400 bash -c '"$0" "$@"' "$@" >"$out/$name.txt" 2>&1; then
        printf 'done in %d s\n' "$((SECONDS - start))"
    else
        printf 'FAILED in %d s, see %s\n' "$((SECONDS - start))" "$out/$name.txt"
        failed+=("$name")
    fi
}

train() {
    "$bin/recurrent-rl" train recurrent_rl/RepeatPrevious-Easy-v0 --device "$device" \
        --num-envs 64 --num-steps 102 --eval-episodes 20 --quiet --log-dir "$out/runs" "$@"
}

# Side by side, which shows the device shared as well.
trainings() {
    local name pids=() worst=0
    for name in none rnn lstm gru gru-rotor gru-matrix; do
        train --memory "$name" --name "$name" --total-timesteps 60000 &
        pids+=("$!")
    done
    for name in "${pids[@]}"; do
        wait "$name" || worst=1
    done
    return "$worst"
}

resumed_on_the_cpu() {
    train --name moved --total-timesteps 20000 &&
        "$bin/recurrent-rl" train --resume "$(echo "$out"/runs/*__moved__*)" --device cpu \
            --total-timesteps 40000 --quiet
}

# Other versions of PyTorch than the pinned one may warn.
tests() {
    RECURRENT_RL_DEVICE="$device" "$bin/python" -m pytest -q -W default -n 8 tests/test_device.py
}

export out device bin
export -f train trainings resumed_on_the_cpu tests

step info "$bin/recurrent-rl" info
[ "$device" = cuda ] && step gpu nvidia-smi
step tests tests
step trainings trainings
step resumed resumed_on_the_cpu
step two_workers train --workers 2 --name two --total-timesteps 60000
step speed "$bin/python" benchmarks/speed/devices.py --device "$device" --rounds 2 --environments 64 1024
step profile "$bin/python" benchmarks/speed/devices.py --device "$device" --profile --environments 64
step workers "$bin/python" benchmarks/speed/scale.py \
    --only gains --cases fast-1024 --workers 4 16 --rounds 3 --iterations 1
step growth "$bin/python" benchmarks/speed/scale.py \
    --only growth --workers 16 --rounds 3 --iterations 2
rm -rf "$out/runs"
printf '%d steps failed: %s\n' "${#failed[@]}" "${failed[*]:-none}"
[ "${#failed[@]}" -eq 0 ]
