"""What changes in a network as its training goes on, a function of how far it is: so far the drop-path of NASNet's cells.

ScheduledDropPath (Zoph et al. Learning Transferable Architectures. 2017. https://arxiv.org/abs/1707.07012, appendix) drops paths
more often from cell to cell and linearly more over the training. FractalNet's drop-path is the same all the way and needs nothing.
"""

from __future__ import annotations

from torch import nn

from convatlas.zoo.nasnet import NASNet, schedule_drop_path


def set_progress(model: nn.Module, done: float) -> None:
    """Before a step of training: `done` is the share of the run that is over, from 0 to 1."""
    if isinstance(model, NASNet):
        schedule_drop_path(model, done)
