"""Exam: a detector or classifier, a dataset, a protocol; what it says and the figures out."""
