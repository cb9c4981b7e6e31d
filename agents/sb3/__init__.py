"""Policies of sb3-contrib's RecurrentPPO, made into policies of this library."""
