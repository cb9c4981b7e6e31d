"""A policy as a program of its own: its step, traced, checked, and written for other runtimes."""
