"""Reports: a fit result (FOLDER/fit.json and FOLDER/assets) as one HTML file that opens anywhere, offline, without JavaScript.

`render(folder)` writes the page, `save_charts(folder)` the charts as files, and `charts.<name>(result)` gives them to a notebook as
Altair charts, with `read(folder)` for the result. Importing this package imports none of altair, vl-convert and jinja2; only `charts`
needs the first.
"""

from __future__ import annotations

from convatlas.report.draw import save_charts
from convatlas.report.page import render, warm
from convatlas.report.result import read

__all__ = ["read", "render", "save_charts", "warm"]
