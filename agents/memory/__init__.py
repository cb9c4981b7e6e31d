"""What the agent remembers with: cells, their state, how they start."""
