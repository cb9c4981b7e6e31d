"""The project's own environments; not those of recurrent-rl."""

WAREHOUSE = "a warehouse of this project"
