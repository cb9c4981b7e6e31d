"""The project's own agents; not those of recurrent-rl."""

GREETING = "an agent of this project"
