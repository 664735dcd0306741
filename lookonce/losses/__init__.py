"""The ideas: for each head what is assigned to which truth, and the sum that is made small. Needs the extra `train`."""
