#!/usr/bin/env bash
# All that a machine with a GPU should show, in one call of about ten minutes; what it finds goes to a folder.
#
#     bash benchmarks/gpu.sh gpu-report             # in a checkout with its .venv (make install)
#     DEVICE=cpu bash benchmarks/gpu.sh cpu-report  # the same on a CPU: tries the script, and compares
#
# A step that fails is told at the end, and the others are done all the same.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${1:?the folder for what is found}"
device="${DEVICE:-cuda}"
bin="${VENV:-.venv}/bin"
mkdir -p "$out"
failed=()

step() {
    local name="$1" start="$SECONDS"
    shift
    printf '=== %s: ' "$name"
    # In a shell of its own: timeout knows no functions.
    if timeout 300 bash -c '"$0" "$@"' "$@" >"$out/$name.txt" 2>&1; then
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

resumed_on_the_cpu() {
    train --name moved --total-timesteps 20000
    "$bin/recurrent-rl" train --resume "$(echo "$out"/runs/*__moved__*)" --device cpu \
        --total-timesteps 40000 --quiet
}

# The same settings on the device and on the CPU: how far apart the first iteration's weights are.
against_the_cpu() {
    "$bin/python" - "$device" <<'PYTHON'
import sys

from recurrent_rl.agents import AgentConfig
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.config import TrainConfig
from recurrent_rl.trainer import Trainer

for memory in MEMORIES:
    weights = []
    for device in ("cpu", sys.argv[1]):
        trainer = Trainer(
            TrainConfig(
                "recurrent_rl/RepeatPrevious-Easy-v0", num_envs=8, num_steps=51, device=device,
                total_timesteps=8 * 51 * 4, agent=AgentConfig(memory),
            )
        )
        trainer.iterate()
        weights.append({name: x.cpu() for name, x in trainer.agent.state_dict().items()})
        trainer.close()
    worst = max(
        float((a - b).abs().max() / (a.abs().max() + 1e-9))
        for a, b in zip(*(each.values() for each in weights), strict=True)
    )
    print(f"{memory}: largest difference {worst:.1e} of its tensor's largest entry")
PYTHON
}

# Steps per second of whole iterations, by memory and number of environments.
speed() {
    "$bin/python" - "$device" <<'PYTHON'
import sys
import time

from recurrent_rl.agents import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.trainer import Trainer

print("| memory | 64 environments, steps/s | 512 | 2,048 |\n|---|---|---|---|")
for memory in ("lstm", "gru", "gru-rotor", "gru-matrix"):
    cells = []
    for environments in (64, 512, 2048):
        trainer = Trainer(
            TrainConfig(
                "recurrent_rl/CartPole-NoVelocity-v0", num_envs=environments, num_steps=128,
                device=sys.argv[1], total_timesteps=10**9, agent=AgentConfig(memory),
            )
        )
        trainer.iterate()
        began = time.perf_counter()
        for _ in range(2):
            trainer.iterate()
        cells.append(f"{2 * environments * 128 / (time.perf_counter() - began):,.0f}")
        trainer.close()
    print(f"| {memory} | {' | '.join(cells)} |", flush=True)
PYTHON
}

export out device bin
export -f train resumed_on_the_cpu against_the_cpu speed

step info "$bin/recurrent-rl" info
[ "$device" = cuda ] && step gpu nvidia-smi
step against_the_cpu against_the_cpu
for memory in none rnn lstm gru gru-rotor gru-matrix; do
    step "train_$memory" train --memory "$memory" --name "$memory" --total-timesteps 60000
done
step resumed_on_the_cpu resumed_on_the_cpu
step two_workers train --workers 2 --name two --total-timesteps 60000
step speed speed
rm -rf "$out/runs"
printf '%d steps failed: %s\n' "${#failed[@]}" "${failed[*]:-none}"
[ "${#failed[@]}" -eq 0 ]
