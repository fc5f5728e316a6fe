"""Tests run on one thread: frames are tiny, and threads that wait for each other cost more than they give."""

import os

import torch

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
torch.set_num_threads(1)
