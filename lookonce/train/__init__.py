"""The loop that learns, and what keeps a run: schedule, optimizer, checkpoints, log. Needs the extra `train`."""
