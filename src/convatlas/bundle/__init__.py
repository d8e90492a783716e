"""The model folder: a classifier that predicts the same everywhere, without code or pickle."""
