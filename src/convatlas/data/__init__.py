"""Images on disk: which there are, whether they are sound, and how they become a network's input."""

from convatlas.data.check import CheckResult, check
from convatlas.data.classes import ClassMap
from convatlas.data.decode import DECODER, MAX_PIXELS, PASSING, Box, decode, decode_part
from convatlas.data.diagnose import diagnose
from convatlas.data.examine import Examined, examine, hashed
from convatlas.data.facts import DecodeError, Facts
from convatlas.data.framing import Framing, choose, histogram, kept, seen
from convatlas.data.near import NearPair, near_copies, near_problems
from convatlas.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from convatlas.data.problems import Problem, worst_first
from convatlas.data.records import Record
from convatlas.data.scan import Dataset, scan
from convatlas.data.split import folds, left_out, stratified, units
from convatlas.data.views import Views

__all__ = [
    "DECODER",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_PIXELS",
    "PASSING",
    "Box",
    "CheckResult",
    "ClassMap",
    "Dataset",
    "DecodeError",
    "Examined",
    "Facts",
    "Framing",
    "NearPair",
    "Preprocessing",
    "Problem",
    "Record",
    "Views",
    "check",
    "choose",
    "decode",
    "decode_part",
    "diagnose",
    "examine",
    "folds",
    "hashed",
    "histogram",
    "kept",
    "left_out",
    "near_copies",
    "near_problems",
    "scan",
    "seen",
    "stratified",
    "units",
    "worst_first",
]
