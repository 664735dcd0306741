"""What a network says: the heads of the three YOLOs and of classifiers, and how their answers are read."""
