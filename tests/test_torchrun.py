"""Workers that torchrun starts: they join, survive being killed, and leave when asked to."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recurrent_rl import load_policy, resume
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.resolve import resolved
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.torchrun import of_launch
from tests.recurrent_rl.runs.test_launch import is_gone

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAIN = (
    *("-m", "recurrent_rl", "train", "recurrent_rl/RepeatPrevious-Easy-v0", "--quiet"),
    *("--num-envs", "8", "--num-steps", "52", "--hidden-size", "16", "--device", "cpu"),
    *("--checkpoint-interval", "0", "--eval-episodes", "0"),
)


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}


def start(folder: Path, steps: int, *options: str) -> subprocess.Popen[str]:
    folder.mkdir()
    return launch([*TORCHRUN, *options, *TRAIN, "--total-timesteps", str(steps)], folder)


def launch(command: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )


def workers_of(launcher: subprocess.Popen[str], program: str = "recurrent_rl") -> list[int]:
    """The processes that torchrun has started to run this program."""
    found = subprocess.run(
        ["pgrep", "-P", str(launcher.pid), "-f", program], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def run_of(folder: Path) -> RunFolder:
    (path,) = (folder / "runs").iterdir()
    return RunFolder(path)


def wait_for_checkpoint(folder: Path, launcher: subprocess.Popen[str], after: float) -> bool:
    """Wait for one that is newer; false where torchrun has ended."""
    while launcher.poll() is None:
        for file in folder.glob("runs/*/checkpoint.safetensors"):
            if file.stat().st_mtime > after:
                return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_workers_that_are_killed_learn_what_the_undisturbed_do(tmp_path: Path) -> None:
    """With as many kills as KILLS says, 3 by default."""
    kills, steps = int(os.environ.get("KILLS", "3")), 416 * 60
    undisturbed = start(tmp_path / "undisturbed", steps)
    assert undisturbed.communicate(timeout=600)[0] is not None
    killed, chance = 0, random.Random(0)
    launcher = start(tmp_path / "disturbed", steps, "--max-restarts", "100")
    since = time.time()
    while killed < kills and wait_for_checkpoint(tmp_path / "disturbed", launcher, since):
        time.sleep(chance.random() * 0.2)
        if pids := workers_of(launcher):
            os.kill(chance.choice(pids), signal.SIGKILL)
            killed += 1
            since = time.time() + 0.5
    output, _ = launcher.communicate(timeout=600)
    assert killed == kills, output
    assert launcher.returncode == 0, output
    one, other = (run_of(tmp_path / name) for name in ("undisturbed", "disturbed"))
    weights = load_policy(one.policy).agent.state_dict()
    for name, x in load_policy(other.policy).agent.state_dict().items():
        assert torch.equal(x, weights[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_worker_saves_and_looks_like_success(tmp_path: Path, rank: int) -> None:
    launcher = start(tmp_path / "it", 416 * 10_000)
    assert wait_for_checkpoint(tmp_path / "it", launcher, 0.0)
    os.kill(sorted(workers_of(launcher))[rank], signal.SIGTERM)
    output, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, output
    assert run_of(tmp_path / "it").state().value == "stopped"
    assert output.count("resume: recurrent-rl train --resume") == 1


def test_a_run_goes_on_with_as_many_workers_as_torchrun_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}
    elastic = {"TORCHELASTIC_RUN_ID": "it", "TORCHELASTIC_RESTART_COUNT": 0}
    for name, value in (launch | elastic).items():
        monkeypatch.setenv(name, str(value))
    of_four = resolved(TrainConfig("CartPole-v1", num_envs=8, workers=4))
    assert of_launch(of_four, asked=False).workers == 2
    assert of_launch(resolved(TrainConfig("CartPole-v1", num_envs=8)), asked=False).workers == 2
    with pytest.raises(UserError, match="workers is 4, but torchrun has started 2: leave"):
        of_launch(of_four, asked=True)
    of_one = resolved(TrainConfig("CartPole-v1", num_envs=8))
    with pytest.raises(UserError, match="workers is 1, but torchrun has started 2: leave"):
        of_launch(of_one, asked=True)


SPACE = """
import gymnasium as gym

class Words(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (2,))
    action_space = gym.spaces.Text(3)
"""
OF_ONE_WORKER = """
import os
import recurrent_rl

env_id = "CartPole-v1" if os.environ["RANK"] == "0" else "No-v0"
recurrent_rl.train(recurrent_rl.TrainConfig(env_id))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["CartPole-v9"], "Unknown environment 'CartPole-v9'"),
        (["CartPole-v1", "--nonsense"], "Unrecognized options: --nonsense"),
        (["CartPole-v1", "--n-steps", "3"], "has no --n-steps. Here it is --num-steps"),
        (["CartPole-v1", "--gamma", "2"], "gamma is 2.0"),
        (["CartPole-v1", "--memory", "LSTM"], "memory is 'LSTM'; here that is 'lstm'"),
        (["--config", "none.json"], "The settings in none.json cannot be read"),
        (["ALE/Pong-v5"], "error: "),  # it is not installed
        (["CartPole-v1", "--workers", "3"], "workers is 3, but torchrun has started 2"),
        (["CartPole-v1", "--num-envs", "1"], "error: "),  # too few for two
        (["words:Words"], "error: "),  # its actions have no head
        (["--resume", "none"], "error: "),
    ],
    ids=lambda x: x[-1] if isinstance(x, list) else "",
)
def test_a_mistake_that_all_workers_make_is_told_once(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "words.py").write_text(SPACE)
    launcher = launch([*TORCHRUN, "-m", "recurrent_rl", "train", *arguments], tmp_path)
    output, _ = launcher.communicate(timeout=120)
    assert output.count(told) == 1, output


@pytest.mark.slow
def test_a_mistake_that_one_worker_makes_is_told(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(OF_ONE_WORKER)
    launcher = launch([*TORCHRUN, "script.py"], tmp_path)
    output, _ = launcher.communicate(timeout=120)
    assert "Unknown environment 'No-v0'" in output


@pytest.mark.slow
def test_the_number_of_workers_that_torchrun_has_started_is_told(tmp_path: Path) -> None:
    command = [*TORCHRUN, *(x for x in TRAIN if x != "--quiet"), "--workers", "1"]
    output, _ = launch([*command, "--total-timesteps", "416"], tmp_path).communicate(timeout=120)
    assert output.count("workers 2: as many as torchrun has started\n") == 1, output


@pytest.mark.slow
def test_workers_end_with_torchrun_and_the_same_command_resumes_their_run(tmp_path: Path) -> None:
    address = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:29437", "--rdzv-id", "it")
    command = [*TORCHRUN[:-3], *address, *TORCHRUN[-2:], *TRAIN, "--total-timesteps", "99999999"]
    launcher = launch(command, tmp_path)
    assert wait_for_checkpoint(tmp_path, launcher, 0.0)
    workers = workers_of(launcher)
    launcher.kill()
    launcher.communicate(timeout=20)
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while not all(map(is_gone, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = launch(command, tmp_path)
    assert wait_for_checkpoint(tmp_path, again, time.time())
    os.kill(workers_of(again)[0], signal.SIGTERM)
    output, _ = again.communicate(timeout=100)
    assert again.returncode == 0, output
    assert run_of(tmp_path).state().value == "stopped"  # the only one there is


SCRIPT = """
import os
import recurrent_rl

for seed in (0, 1):
    config = recurrent_rl.TrainConfig(
        "recurrent_rl/RepeatPrevious-Easy-v0", seed=seed, total_timesteps=416 * (2, 10_000)[seed],
        num_envs=8, num_steps=52, device="cpu", eval_episodes=2, checkpoint_interval=0,
    )
    result = recurrent_rl.train(config, progress=False)
    print("worker", os.environ["RANK"], "of seed", seed, "stopped by", result.stopped_by)
"""


@pytest.mark.slow
def test_a_script_trains_twice_and_goes_on_after_a_signal_that_stops_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = launch([*TORCHRUN, "script.py"], tmp_path)
    while not list(tmp_path.glob("runs/*__1__*/checkpoint.safetensors")):
        assert launcher.poll() is None, launcher.communicate()[0]
        time.sleep(0.02)
    os.kill(workers_of(launcher, "script.py")[1], signal.SIGTERM)
    output, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, output
    for worker in (0, 1):
        assert f"worker {worker} of seed 0 stopped by None" in output
        assert f"worker {worker} of seed 1 stopped by 15" in output
    states = [RunFolder(path).state().value for path in sorted(tmp_path.glob("runs/*"))]
    assert states == ["evaluated", "stopped"]


ENDS = """
import os, sys
import recurrent_rl

class Ends(recurrent_rl.Callback):
    def end(self, state):
        if state.iteration != 2:
            return
        if how == "stop":
            state.stop("enough for today")
        elif how == "interrupt":
            raise KeyboardInterrupt
        else:
            sys.exit(int(how))

event, how = sys.argv[1:]
setattr(Ends, event, Ends.end)
config = recurrent_rl.TrainConfig(
    "recurrent_rl/RepeatPrevious-Easy-v0", total_timesteps=416 * 5, num_envs=8, num_steps=52,
    device="cpu", eval_episodes=0, checkpoint_interval=60,
)
recurrent_rl.train(config, progress=False, callbacks=[Ends()])
"""


@pytest.mark.slow
@pytest.mark.parametrize("event", ["on_iteration", "on_rollout"])
@pytest.mark.parametrize(("how", "status"), [("stop", 0), ("0", 0), ("3", 1), ("interrupt", 1)])
def test_a_callback_that_ends_the_run_by_hand_ends_all_workers_alike(
    tmp_path: Path, event: str, how: str, status: int
) -> None:
    """To torchrun it is a success where the program says so."""
    (tmp_path / "script.py").write_text(ENDS)
    launcher = launch([*TORCHRUN, "script.py", event, how], tmp_path)
    output, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == status, output
    assert "ToldError" not in output
    folder = run_of(tmp_path)
    assert folder.state().value == "stopped"
    done = 3 if (event, how) == ("on_rollout", "stop") else 2  # it ends after its iteration
    assert resume(folder.path, workers=1, progress=False).resumed_from == done * 416


HANGS = """
import os, sys, time
from pathlib import Path
import recurrent_rl
from recurrent_rl.trainer import Trainer

iterate = Trainer.iterate

def hanging(trainer):
    hangs = os.environ["RANK"] == "1" and trainer.iteration == 3 and len(sys.argv) > 1
    if hangs and not Path("hung").exists():
        Path("hung").touch()
        time.sleep(10_000)
    return iterate(trainer)

Trainer.iterate = hanging
config = recurrent_rl.TrainConfig(
    "recurrent_rl/RepeatPrevious-Easy-v0", total_timesteps=416 * 6, num_envs=8, num_steps=52,
    device="cpu", eval_episodes=0, checkpoint_interval=0, worker_timeout=20,
)
recurrent_rl.train(config, progress=False)
"""


@pytest.mark.slow
def test_after_a_hang_torchrun_starts_all_again_and_they_learn_what_the_undisturbed_do(
    tmp_path: Path,
) -> None:
    outputs, weights = [], []
    for name, arguments in (("undisturbed", []), ("hung", ["once"])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "script.py").write_text(HANGS)
        launcher = launch([*TORCHRUN, "--max-restarts", "1", "script.py", *arguments], folder)
        outputs.append(launcher.communicate(timeout=400)[0])
        assert launcher.returncode == 0, outputs[-1]
        assert run_of(folder).state().value == "finished"
        weights.append(load_policy(run_of(folder).policy).agent.state_dict())
    assert (tmp_path / "hung" / "hung").exists()
    assert "Worker 1 did not answer for 20 s" in outputs[1]
    for name, x in weights[1].items():
        assert torch.equal(x, weights[0][name]), name


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The addresses of two hosts that see each other: network namespaces beside one bridge."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root, and the program ip, to make network namespaces")
    try:
        ip("link", "add", "rrlbr", "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no bridge can be made here: {error.stderr!r}")
    try:
        ip("link", "set", "rrlbr", "up")
        for host in ("1", "2"):
            name, outside = f"rrl{host}", f"rrlv{host}"
            ip("netns", "add", name)
            ip(*f"link add {outside} type veth peer name eth0 netns {name}".split())
            ip("link", "set", outside, "master", "rrlbr", "up")
            within = ("netns", "exec", name, "ip")
            ip(*within, "addr", "add", f"10.77.0.{host}/24", "dev", "eth0")
            ip(*within, "link", "set", "eth0", "up")
            ip(*within, "link", "set", "lo", "up")
        yield ["10.77.0.1", "10.77.0.2"]
    finally:
        for host in ("1", "2"):
            inside = subprocess.run(["ip", "netns", "pids", f"rrl{host}"], capture_output=True)
            for pid in map(int, inside.stdout.split()):
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", f"rrl{host}"], capture_output=True)
            # A namespace lives on with the last process in it, and its end of the cable too.
            subprocess.run(["ip", "link", "del", f"rrlv{host}"], capture_output=True)
        subprocess.run(["ip", "link", "del", "rrlbr"], capture_output=True)


def start_on(host: str, first: str, folder: Path, steps: int) -> subprocess.Popen[str]:
    """torchrun on this host, as docs/many-machines.md has it."""
    is_host = "true" if host == first else "false"
    command = [
        *("ip", "netns", "exec", f"rrl{host[-1]}", "env", "GLOO_SOCKET_IFNAME=eth0"),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "9", "--rdzv-id", "it"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:29400", "--local-addr", host),
        # A host that is gone is noticed after three seconds, not fifteen.
        *("--rdzv-conf", f"is_host={is_host},last_call_timeout=2,keep_alive_interval=1"),
        *(*TRAIN, "--worker-timeout", "10", "--total-timesteps", str(steps)),
    ]
    return launch(command, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "disks"),
    [("killed", "shared"), ("torchrun killed", "shared"), ("cut off", "shared"), ("killed", "own")],
)
def test_the_run_goes_on_without_a_host_that_is_gone(
    tmp_path: Path, hosts: list[str], how: str, disks: str
) -> None:
    """Where each host has a disk of its own, whichever of them was the first worker's."""
    disk, of_other = (tmp_path / "disk", tmp_path / ("disk" if disks == "shared" else "other"))
    disk.mkdir()
    of_other.mkdir(exist_ok=True)
    first = start_on(hosts[0], hosts[0], disk, 416 * 100)
    other = start_on(hosts[1], hosts[0], of_other, 416 * 100)
    try:
        assert wait_for_checkpoint(disk, first, 0.0)
        assert run_of(disk).load_config().workers == 2
        if how == "killed":
            for pid in workers_of(other):
                os.kill(pid, signal.SIGKILL)
        if how in ("killed", "torchrun killed"):
            other.kill()
        else:
            ip("link", "set", "rrlv2", "down")
        output, _ = first.communicate(timeout=400)
        assert first.returncode == 0, output
        assert run_of(disk).state().value == "finished"
        assert run_of(disk).load_config().workers == 1
    finally:
        for launcher in (first, other):
            for pid in workers_of(launcher):
                os.kill(pid, signal.SIGKILL)
            launcher.kill()
            launcher.communicate()


@pytest.mark.slow
def test_a_host_that_joins_later_takes_its_share(tmp_path: Path, hosts: list[str]) -> None:
    first = start_on(hosts[0], hosts[0], tmp_path, 416 * 100_000)
    launchers = [first]
    try:
        assert wait_for_checkpoint(tmp_path, first, 0.0)
        assert run_of(tmp_path).load_config().workers == 1
        launchers.append(start_on(hosts[1], hosts[0], tmp_path, 416 * 100_000))
        deadline = time.monotonic() + 120
        while run_of(tmp_path).load_config().workers == 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert wait_for_checkpoint(tmp_path, first, time.time())
    finally:
        for launcher in launchers:
            for pid in workers_of(launcher):
                os.kill(pid, signal.SIGKILL)
            launcher.kill()
            launcher.communicate()
