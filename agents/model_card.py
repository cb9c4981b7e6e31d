"""The page that a shared policy is read by: what it does, how it was made, how to load it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.hub import SCHEME

CARD = "README.md"
"""Its file: what the Hub shows."""


@runtime_checkable
class Played(Protocol):
    """Episodes that a policy has played, one entry each: an `Evaluation`."""

    @property
    def returns(self) -> NDArray[Any]:
        """Of each episode that ended."""
        ...

    @property
    def mean_length(self) -> float:
        """Of these episodes."""
        ...

    @property
    def success_rate(self) -> float | None:
        """Share of these that reached their goal; None where the environment does not say."""
        ...


@dataclass(frozen=True)
class Result:
    """What one evaluation came to: a line of the card."""

    way: str
    """How the policy played: "deterministic actions"."""
    episodes: int
    mean_return: float
    std_return: float
    """Standard deviation over the episodes."""
    mean_length: float
    success_rate: float | None

    @classmethod
    def of(cls, played: Played, way: str = "deterministic actions") -> Result:
        """Of these episodes."""
        returns = played.returns
        std = float(returns.std(ddof=1)) if len(returns) > 1 else math.nan
        mean = float(returns.mean()) if len(returns) else math.nan
        return cls(way, len(returns), mean, std, played.mean_length, played.success_rate)


def model_card(
    agent: ActorCritic,
    summary: dict[str, Any],
    version: str,
    repo: str,
    results: Sequence[Result],
) -> str:
    """The card as Markdown, after its data in YAML.

    Args:
        agent: of the policy.
        summary: of its training.
        version: of the library that saved it.
        repo: `OWNER/NAME` that it is shared as.
        results: of evaluations, the first of the policy as it is used; none where there were none.
    """
    env_id = str(summary.get("env_id", "an environment that it does not name"))
    memory = agent.config.memory
    return "\n".join(
        [
            "---",
            *_data(env_id, memory, repo, results),
            "---",
            "",
            f"# PPO with memory {memory} on {env_id}",
            "",
            f"A recurrent policy, trained by PPO with recurrent-rl {version}"
            f"{_trained(summary)}. Its file holds numbers and text, never code.",
            "",
            "## Results",
            "",
            *_results(results, summary),
            "",
            "## Use",
            "",
            "```",
            "pip install 'PATH/OF/A/CLONE/OF/recurrent-rl[hub]'  # there is no release yet",
            f"recurrent-rl evaluate {SCHEME}{repo}",
            "```",
            "",
            "```python",
            "import recurrent_rl",
            "",
            f'actor = recurrent_rl.load_policy("{SCHEME}{repo}").actor()',
            "action = actor.act(observation)  # actor.reset() before the next episode",
            "```",
            "",
            f"It takes raw observations of `{agent.observation_space}`, and gives actions of "
            f"`{agent.action_space}`.",
            "",
            "## Training",
            "",
            *_training(summary),
            "",
            *_settings(agent.config),
            "",
        ]
    )


def _data(env_id: str, memory: str, repo: str, results: Sequence[Result]) -> Sequence[str]:
    """What the Hub reads, a line for each key; JSON is YAML too."""
    data: dict[str, Any] = {
        "library_name": "recurrent-rl",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "recurrent", "partially-observable", memory, env_id],
    }
    if results and results[0].episodes:
        std = results[0].std_return
        spread = f" +/- {std:.2f}" if math.isfinite(std) else ""
        metric = {
            "type": "mean_reward",
            "value": f"{results[0].mean_return:.2f}{spread}",
            "name": "mean_reward",
            "verified": False,
        }
        task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
        dataset = {"name": env_id, "type": env_id}
        result = {"task": task, "dataset": dataset, "metrics": [metric]}
        data["model-index"] = [{"name": repo.rpartition("/")[2], "results": [result]}]
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items()]


def _trained(summary: dict[str, Any]) -> str:
    """How long and with which seed, as the end of a clause."""
    text = ""
    if isinstance(steps := summary.get("timesteps"), int):
        text += f" for {steps:,} steps"
    if isinstance(seed := summary.get("seed"), int):
        text += f" with seed {seed}"
    return text


def _results(results: Sequence[Result], summary: dict[str, Any]) -> Sequence[str]:
    """A table; where there are none, the mean return of the last episodes in training."""
    if not results:
        text = "It was not evaluated before it was shared."
        if isinstance(best := summary.get("eval/mean_reward"), float):
            text += f" An evaluation during its training had a mean return of {best:.4g}."
        elif isinstance(last := summary.get("rollout/ep_rew_mean"), float):
            text += f" The last episodes of its training had a mean return of {last:.4g}."
        return [text]
    return [
        "| | episodes | mean return | standard deviation | mean length | success |",
        "|---|---|---|---|---|---|",
        *map(_row, results),
    ]


def _row(result: Result) -> str:
    statistics = map(_known, (result.mean_return, result.std_return, result.mean_length))
    success = "" if result.success_rate is None else f"{result.success_rate:.1%}"
    return f"| {' | '.join([result.way, f'{result.episodes:,}', *statistics, success])} |"


def _known(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _training(summary: dict[str, Any]) -> Sequence[str]:
    """The command that trains such a policy; else what is known of its environment."""
    if isinstance(command := summary.get("command"), str):
        begun = ["", "Training began with another policy."] if "--init-from " in command else []
        return ["```", command, "```", *begun]
    lines = ["The command that trained it is not recorded."]
    if "env" in summary:
        lines += ["", f"Settings of the environment: `{json.dumps(summary['env'])}`"]
    return lines


def _settings(config: AgentConfig) -> Sequence[str]:
    return [
        "| the agent's setting | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in dataclasses.asdict(config).items()),
    ]
