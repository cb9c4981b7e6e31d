"""A policy's step as C99: one header and one source."""
