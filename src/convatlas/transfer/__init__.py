"""From cached features to a classifier: the stages of a frozen network, each with a linear probe."""
