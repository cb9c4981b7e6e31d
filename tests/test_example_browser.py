"""The page of docs/example-browser plays what the policy plays."""

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces

import recurrent_rl
import recurrent_rl.envs
from recurrent_rl.agents.policy import Policy, load_policy
from tests.agents.export.test_export import HAS_ONNX, make

EXAMPLE = Path(__file__).parents[1] / "docs" / "example-browser"
LENGTH, EPISODES = 4, 12
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
    pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm"),
    pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed"),
]


class Silent(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The example's folder, installed as its README says, and its address."""
    folder = tmp_path_factory.mktemp("browser") / "site"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "*.onnx"))
    installed = subprocess.run(
        ["npm", "ci", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    if installed.returncode:
        pytest.skip(f"npm could not install ONNX Runtime Web: {installed.stderr}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def text_of(address: str, element: str, profile: Path) -> str:
    """What a page's element holds once the page has come to rest."""
    assert CHROMIUM
    command = [CHROMIUM, "--headless", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--no-sandbox"]  # root may not have one, and the page is ours
    command += ["--virtual-time-budget=60000", "--dump-dom", address]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(rf'id="{element}"[^>]*>([^<]*)<', result.stdout)
    assert found, result.stderr
    return html.unescape(found[1])


def play(policy: Policy, sign: int) -> tuple[list[int], list[float]]:
    """The actions and rewards of an episode that shows this sign."""
    env = gym.make("recurrent_rl/TMaze-v0", length=LENGTH)
    seed = next(seed for seed in range(100) if env.reset(seed=seed)[0] == sign)
    observation, _ = env.reset(seed=seed)
    is_fed_reward = policy.agent.config.previous_reward
    actor, done = policy.actor(), False
    actions: list[int] = []
    rewards: list[float] = []
    while not done:
        last = rewards[-1] if rewards else 0.0
        action = actor.act(observation, last if is_fed_reward else None)
        observation, reward, terminated, truncated, _ = env.step(action)
        actions.append(int(action))
        rewards.append(float(reward))
        done = terminated or truncated
    return actions, rewards


def trained(folder: Path) -> Policy:
    """An LSTM that has learnt a maze of four steps."""
    config = recurrent_rl.TrainConfig(
        "recurrent_rl/TMaze-v0",
        env=recurrent_rl.EnvConfig(env_kwargs={"length": LENGTH}),
        agent=recurrent_rl.AgentConfig(memory="lstm", hidden_size=32),
        total_timesteps=50_000,
        eval_episodes=0,
        log_dir=str(folder),
    )
    return load_policy(recurrent_rl.train(config).policy_path)


def untrained(memory: str) -> Policy:
    """One that acts as its random weights have it, and is fed the reward."""
    return Policy(make(spaces.Discrete(4), spaces.Discrete(4), memory=memory, previous_reward=True))


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["lstm", "gru-matrix"])
def test_the_page_plays_what_the_policy_plays(
    memory: str, site: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = site
    policy = trained(tmp_path) if memory == "lstm" else untrained(memory)
    policy.export(folder / f"{memory}.onnx")
    query = f"policy={memory}.onnx&length={LENGTH}&episodes={EPISODES}&seed=1"
    found = json.loads(text_of(f"{address}/index.html?{query}", "report", tmp_path / "profile"))

    assert {episode["sign"] for episode in found["episodes"]} == {0, 1}
    assert len({action for episode in found["episodes"] for action in episode["actions"]}) > 1
    total = 0.0
    for episode in found["episodes"]:
        actions, rewards = play(policy, episode["sign"])
        assert episode["actions"] == actions
        assert episode["rewards"] == pytest.approx(rewards)
        total += sum(rewards)
    assert found["mean_return"] == pytest.approx(total / EPISODES)
    if memory == "lstm":
        assert found["mean_return"] == 1


@pytest.mark.slow
def test_the_page_says_what_is_missing(site: tuple[Path, str], tmp_path: Path) -> None:
    _, address = site
    said = text_of(f"{address}/index.html?policy=none.onnx", "status", tmp_path / "profile")
    assert said == ("There is no none.onnx: run recurrent-rl export RUN --to onnx --out none.onnx.")
