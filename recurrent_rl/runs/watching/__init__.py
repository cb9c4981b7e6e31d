"""A policy that is watched: what it sees, does and remembers, live or as a video."""
