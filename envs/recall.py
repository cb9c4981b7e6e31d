"""Recall: "I grew up in France … so I speak fluent French".

An early word decides the right answer to a question that comes much later. To remember: one of
`num_answers` words, from the first step for `distance` + 1 steps, past words without meaning.

Observation: a word of a small vocabulary: first one of the `num_answers` countries; then `distance`
distractors, drawn at random from `num_distractors` words; then the question. Action: an answer.
Only the action at the question counts: +1 if it names the country, else -1, and the episode
terminates. Best return: 1. A memoryless policy guesses: 2 / num_answers - 1.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.arguments import check_count
from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.single import SingleEnv


class Recall(BatchEnv):
    """Recall, N environments at once.

    Args:
        num_envs: number of environments.
        distance: distractors between the word and the question.
        num_answers: words to tell apart.
        num_distractors: words that mean nothing.
    """

    to_remember = "an early word, past distractors"
    state = ("answer", "word", "t")

    def __init__(
        self,
        num_envs: int = 1,
        distance: int = 16,
        num_answers: int = 4,
        num_distractors: int = 8,
        render_mode: str | None = None,
    ) -> None:
        check_count("distance", distance, 0)
        check_count("num_answers", num_answers, 2)
        check_count("num_distractors", num_distractors, 1)
        words = gym.spaces.Discrete(num_answers + num_distractors + 1)
        super().__init__(
            num_envs, words, gym.spaces.Discrete(num_answers), distance + 2, render_mode=render_mode
        )
        self.distance = distance
        self.num_answers = num_answers
        self.num_distractors = num_distractors
        self.best_return = 1.0
        self.memoryless_return = 2 / num_answers - 1
        names = [f"country {number}" for number in range(num_answers)]
        self.action_names = names
        self.observation_names = [*names, *["distractor"] * num_distractors, "the question"]
        self.answer = np.zeros(num_envs, dtype=np.int64)
        self.word = np.zeros(num_envs, dtype=np.int64)
        self.t = np.zeros(num_envs, dtype=np.int64)
        self._right: Flags = np.zeros(num_envs, dtype=bool)

    def _begin(self, rows: Rows) -> None:
        self.answer[rows] = self.streams.integers(rows, self.num_answers)[:, 0]
        self.word[rows] = self.answer[rows]
        self.t[rows] = 0

    def unseen(self, i: int) -> dict[str, Any]:
        """The country."""
        return {"answer": self.answer[i]}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        asked = self.t == self.distance + 1
        self._right = asked & (actions == self.answer)
        rewards = np.where(self._right, 1.0, -1.0) * asked
        self.t += 1
        distractor = self.streams.integers(self._all_rows, self.num_distractors)[:, 0]
        question = self.num_answers + self.num_distractors
        self.word = np.where(self.t > self.distance, question, self.num_answers + distractor)
        return rewards, asked, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        return self.word.copy()

    def _success(self) -> Flags:
        return self._right


class RecallEnv(SingleEnv):
    """Recall, one environment."""

    batch_type = Recall
