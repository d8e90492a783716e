"""The fixtures of `tiny`, here too."""

from __future__ import annotations

from tiny import backbone as backbone
from tiny import fitted as fitted
from tiny import one_thread as one_thread
from tiny import photos as photos
