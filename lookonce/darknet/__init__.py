"""Darknet's file formats: cfg, weights, .data, .names, .map and image lists. Knows no layer and no network."""
