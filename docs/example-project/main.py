"""Play with a policy that recurrent-rl has trained."""

import sys

import gymnasium
import numpy as np

import agents
import envs
import recurrent_rl

ENV_ID = "recurrent_rl.envs:recurrent_rl/RepeatPrevious-Easy-v0"


def play_with_actor(policy: recurrent_rl.Policy, episodes: int) -> float:
    """One environment, one actor that remembers by itself."""
    env = gymnasium.make(ENV_ID)
    actor = policy.actor()
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        actor.reset()
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(actor.act(observation))
            total += float(reward)
            done = terminated or truncated
    return total / episodes


def play_with_predict(policy: recurrent_rl.Policy, episodes: int) -> float:
    """Many environments at once; the state goes in and comes out."""
    env = gymnasium.make_vec(ENV_ID, num_envs=episodes)
    observation, _ = env.reset(seed=0)
    state = None
    episode_start = np.ones(episodes, dtype=bool)
    total = np.zeros(episodes)
    while True:
        action, state = policy.predict(observation, state, episode_start, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        episode_start = terminated | truncated
        total += reward
        if episode_start.all():  # every episode of this game has the same length
            return float(total.mean())


if __name__ == "__main__":
    policy = recurrent_rl.load_policy(sys.argv[1])
    print(f"{envs.WAREHOUSE}, {agents.GREETING}, and {policy.config.memory} from recurrent-rl")
    print(f"actor:   mean return {play_with_actor(policy, 20):.3f}")
    print(f"predict: mean return {play_with_predict(policy, 20):.3f}")
