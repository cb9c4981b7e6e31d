"""What an iteration costs on a GPU, beside the CPU of the same machine.

    python benchmarks/speed/devices.py  # prints Markdown; about two minutes with a GPU
    python benchmarks/speed/devices.py --environments 64 --memories lstm
    python benchmarks/speed/devices.py --threads 16  # the CPU's, of PyTorch too: by default one
    python benchmarks/speed/devices.py --profile --environments 64  # by operation instead

Rollouts of 128 steps of CartPole without velocities, all else at its default but for `target_kl`:
every pass is made. Both devices iterate in turn, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse

from scale import Times, median, settings, spread, times_of, training
from torch.profiler import ProfilerActivity, profile

ENV_ID = "recurrent_rl/CartPole-NoVelocity-v0"


def compare(memory: str, num_envs: int, device: str, rounds: int, threads: int | None) -> None:
    """A row: steps per second of both, their ratio, and the parts of an iteration."""
    found: list[tuple[Times, Times]] = []
    with (
        training(settings(ENV_ID, memory, num_envs, threads=threads)) as here,
        training(settings(ENV_ID, memory, num_envs, device=device)) as there,
    ):
        for trainer in (here, there):
            times_of(trainer, 1)
        for _ in range(rounds):
            found.append((times_of(here, 1), times_of(there, 1)))
    of_cpu, of_device = (median(times) for times in zip(*found, strict=True))
    steps = 128e3 * num_envs
    cells = (
        *(memory, f"{num_envs:,}", f"{steps / of_cpu.whole:,.0f}"),
        *(f"{steps / of_device.whole:,.0f}", spread([a.whole / b.whole for a, b in found])),
        *(f"{t.collecting:.0f} + {t.whole - t.collecting:.0f}" for t in (of_cpu, of_device)),
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def by_operation(memory: str, num_envs: int, device: str) -> None:
    """What collecting and updating spend their time on, as torch.profiler sees it."""
    with training(settings(ENV_ID, memory, num_envs, device=device)) as trainer:
        times_of(trainer, 2)
        activities = [ProfilerActivity.CPU]
        if device == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiler:
            trainer.iterate()
        print(f"\n### {memory}, {num_envs} environments, {device}: one iteration\n")
        by = "self_cpu_time_total"
        print(profiler.key_averages().table(sort_by=by, row_limit=30, max_name_column_width=50))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--memories", nargs="+", default=["lstm", "gru", "gru-rotor", "gru-matrix"])
    parser.add_argument("--environments", nargs="+", type=int, default=[64, 512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of the CPU's; by default as in a run")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    if not args.profile:
        print(
            f"| memory | environments | CPU, steps/s | {args.device}, steps/s | times the CPU | "
            f"ms of an iteration, collecting + updating: CPU | {args.device} |"
        )
        print("|---|---|---|---|---|---|---|")
    for memory in args.memories:
        for num_envs in args.environments:
            if args.profile:
                by_operation(memory, num_envs, args.device)
            else:
                compare(memory, num_envs, args.device, args.rounds, args.threads)


if __name__ == "__main__":
    main()
