"""Processes of one training, forked from a process that imported torch and has computed nothing yet: torch takes seconds to import."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable

import torch
import torch._dynamo  # optimisers import it, and it takes seconds: once here, not in every child

from convatlas.train.processes import Alone, processes


def forked(count: int, work: Callable[[Alone], None]) -> list[int]:
    """Starts `count` processes as torchrun would, each of which does `work`; returns their ids. A status of 1 says that it failed."""
    if count > 1:
        import lightning_fabric  # noqa: F401 - once here, as torch
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    together = multiprocessing.get_context("fork").Barrier(count)
    return [_fork(rank, count, port, work, together.wait) for rank in range(count)]


def _fork(rank: int, count: int, port: int, work: Callable[[Alone], None], wait: Callable[[float], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        if count > 1:
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "forked"}
            os.environ.update({key: str(value) for key, value in {**ranks, **there, "OMP_NUM_THREADS": 1}.items()})
        work(processes(count, "cpu"))
        wait(60)  # who ends at once may not have heard all that another still says
    except BaseException:  # which would go on as a second parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def finished(children: list[int]) -> list[int]:
    """The statuses of all, once they have ended."""
    sys.stdout.flush()
    return [os.waitpid(child, 0)[1] for child in children]
