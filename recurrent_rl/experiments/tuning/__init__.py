"""A search for settings: trials around given ones, then both confirmed with fresh seeds."""
