"""`python -m recurrent_rl` is the command `recurrent-rl`."""

from recurrent_rl.cli import main

if __name__ == "__main__":
    main()
