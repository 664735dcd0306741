"""Judging: what a detector or classifier says, against the truth. Knows no network and no file of pictures."""
