"""What all tests share: one thread each, since pytest-xdist runs several of them side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in children
