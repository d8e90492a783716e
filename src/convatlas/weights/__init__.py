"""Where parameters come from: files, the ecosystem's caches, the embedded backbone. Importing this package does not import torch."""
