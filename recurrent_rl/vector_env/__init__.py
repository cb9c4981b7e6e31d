"""From the environment that a user names to the vector environment that an agent steps.

- `sources`: what is named, an id, a class, a function or an environment.
- `config`: its settings; `wrapping`: what they put around each environment.
- `checked_env`: one environment whose results are checked; `processes`: several, each in its own;
  `limits`: how long an episode can be.
- `vectorize`: `make_vector_env`, which puts these together; `properties`: what is known before it
  is stepped.
- `environments`: what the agent steps, every result with its type; `infos`: what is read of infos.

The environments that come with the library are in `recurrent_rl.envs`.
"""
