"""What a step of a policy costs in every runtime that can play it.

    python benchmarks/speed/runtimes.py  # prints Markdown; about three minutes
    python benchmarks/speed/runtimes.py --memories lstm --batches 1

128 units, and what CartPole without velocities shows. Each time is that of a whole step: reading
the observation, the network, the state carried to the next step. In turn, several rounds; the
median and the 99th percentile over all steps. ONNX Runtime, and beside ours sb3-contrib's
policy and the exports of rsl_rl, where they are installed. C is compiled with -O3 for this machine,
and times itself.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.export import c_files, numpy_folder, onnx_model, torch_program
from recurrent_rl.agents.export.check import Runner
from recurrent_rl.agents.export.compiled import CompiledStep
from recurrent_rl.agents.export.graph import trace
from recurrent_rl.agents.export.lowering import lower
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.policy import Policy

OBSERVATION, ACTION = spaces.Box(-5, 5, (2,)), spaces.Discrete(2)
ROUNDS, STEPS = 5, 400
Stepper = Callable[[], Any]

TIMED = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#include "policy.h"
int main(void) {
    static policy_state s;
    const uint8_t mask[2] = {1, 1};
    int64_t action[1];
    policy_reset(&s);
    for (int i = 0; i < %d; i++) {
        const float obs[2] = {0.01f * (i %% 7), -0.02f * (i %% 5)};
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        policy_step(&s, obs, mask, action);
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%%.0f\\n", (b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec));
    }
    return 0;
}
"""


def agent_of(memory: str) -> ActorCritic:
    """An untrained agent at its defaults."""
    torch.manual_seed(0)
    return ActorCritic(OBSERVATION, ACTION, AgentConfig(memory)).eval()


def observations(batch: int) -> Iterator[Any]:
    """One after the other, without end."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(64, batch, 2)).astype(np.float32)
    while True:
        yield from drawn


def playing(run: Runner, signature: Signature, batch: int) -> Stepper:
    """A whole step: observation and state in, state kept."""
    seen = observations(batch)
    inputs = {
        field.name: np.zeros([batch if n is None else n for n in field.shape], field.dtype)
        for field in signature.inputs
    }
    inputs["action_mask"][...] = True

    def step() -> None:
        outputs = run(inputs | {"obs": next(seen)})
        inputs.update({before: outputs[after] for before, after in signature.state.items()})

    return step


def steppers(memory: str, batch: int) -> dict[str, Stepper]:
    """All that can be called from Python, by runtime."""
    agent = agent_of(memory)
    policy = Policy(agent)
    seen = observations(batch)
    found: dict[str, Stepper] = {}
    exact = policy.actor(num_envs=batch)
    fast = policy.actor(runner="fast", num_envs=batch)
    found["actor, exact"] = lambda: exact.act(next(seen))
    found["actor, fast"] = lambda: fast.act(next(seen))
    state = [policy.predict(next(seen))[1]]

    def predict() -> None:
        state[0] = policy.predict(next(seen), state[0], deterministic=True)[1]

    found["predict"] = predict
    program = trace(agent, batch=batch)
    compiled = CompiledStep(lower(program))
    found["compiled kernels"] = playing(compiled, program.signature, batch)
    on_numpy = numpy_folder.policy(numpy_folder.files(program))
    found["numpy"] = lambda: on_numpy.act(next(seen))
    forms = {"torch (.pt2)": torch_program, "onnx": onnx_model}
    for name, form in forms.items():
        try:
            run = form.runner(form.files(program))
        except ExportError as error:  # of a package that is not installed
            print(f"left out: {name}: {error}", file=sys.stderr)
            continue
        found[name] = playing(run, program.signature, batch)
    if memory == "lstm":
        found |= sb3_contrib(batch)
        if batch == 1:  # for which alone its exports are made
            found |= rsl_rl()
    return found


def sb3_contrib(batch: int) -> dict[str, Stepper]:
    """Its LSTM, where it is installed."""
    try:
        from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
    except ImportError:
        return {}
    policy = MlpLstmPolicy(OBSERVATION, ACTION, lambda _: 1e-3, lstm_hidden_size=128)
    seen, kept, start = observations(batch), [None], np.zeros(batch, bool)

    def predict() -> None:
        kept[0] = policy.predict(next(seen), kept[0], start, deterministic=True)[1]

    return {"sb3-contrib, predict": predict}


def rsl_rl() -> dict[str, Stepper]:
    """What its exporter writes of an LSTM with a layer of 128 units, where it is installed.

    Both are made as its runner makes them, `torch.jit.script` and `torch.onnx.export`.
    """
    try:
        from rsl_rl.models import RNNModel
        from tensordict import TensorDict
    except ImportError:
        return {}
    shown = TensorDict({"policy": torch.zeros(1, 2)}, batch_size=[1])
    model = RNNModel(
        *(shown, {"actor": ["policy"]}, "actor", 2),
        hidden_dims=[128],
        activation="tanh",
        rnn_hidden_dim=128,
    )
    seen = observations(1)
    scripted = torch.jit.script(model.as_jit().eval())

    def jit() -> Any:
        with torch.inference_mode():
            return scripted(torch.from_numpy(next(seen))).argmax(-1).numpy()

    return {"rsl_rl, JIT": jit} | _rsl_rl_onnx(model)


def _rsl_rl_onnx(model: Any) -> dict[str, Stepper]:
    try:
        import onnxruntime
    except ImportError:
        return {}
    exported, written, seen = model.as_onnx().eval(), io.BytesIO(), observations(1)
    names = {"input_names": exported.input_names, "output_names": exported.output_names}
    program = torch.onnx.export(exported, exported.get_dummy_inputs(), opset_version=18, **names)
    assert program is not None
    program.save(written)  # type: ignore[arg-type]  # which takes files too
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(written.getvalue(), options, ["CPUExecutionProvider"])
    state = [np.zeros((1, 1, 128), np.float32)] * 2

    def step() -> Any:
        inputs = {"obs": next(seen), "h_in": state[0], "c_in": state[1]}
        action, *state[:] = session.run(None, inputs)
        return action.argmax(-1)

    return {"rsl_rl, ONNX Runtime": step}


def nanoseconds_of_c(memory: str) -> list[float]:
    """Of steps in C, compiled for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in c_files.files(trace(agent_of(memory))).items():
            (Path(folder) / name).write_bytes(content)
        (Path(folder) / "main.c").write_text(TIMED % (ROUNDS * STEPS))
        command = [c_files.compiler(), "-std=c99", "-O3", "-march=native", "main.c", "policy.c"]
        subprocess.run([*command, "-lm", "-o", "main"], cwd=folder, check=True)
        told = subprocess.run(["./main"], cwd=folder, check=True, capture_output=True, text=True)
    return list(map(float, told.stdout.split()))


def times_of(found: dict[str, Stepper]) -> dict[str, list[float]]:
    """Nanoseconds of each step, the runtimes in turn."""
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, step in found.items():
            for _ in range(20):
                step()
            for _ in range(STEPS):
                begin = time.perf_counter_ns()
                step()
                times[name].append(time.perf_counter_ns() - begin)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", nargs="+", default=["lstm", "gru-rotor", "gru-matrix"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 256])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| memory | streams | runtime | median, us | 99th percentile, us |")
    print("|---|---|---|---|---|")
    for memory in given.memories:
        for batch in given.batches:
            times = times_of(steppers(memory, batch))
            if batch == 1:
                times["c"] = nanoseconds_of_c(memory)
            for name, found in times.items():
                middle, high = np.quantile(np.array(found) / 1e3, (0.5, 0.99))
                print(f"| {memory} | {batch} | {name} | {middle:.1f} | {high:.1f} |", flush=True)


if __name__ == "__main__":
    main()
