"""A step's list of array operations in fewer of them, pass by pass."""
