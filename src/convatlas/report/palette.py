"""The colours of a report: one name, one light and one dark value, shared by the charts and the page.

The charts are drawn with the light values, so an exported SVG or PNG stands alone; the page's style sheet then replaces each of them by a
CSS variable that follows the reader's light or dark setting. Every value must therefore be unique and spelled in full. The hues are
those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/), which people with the common colour deficiencies tell apart, darkened
or lightened until text and marks keep a contrast of at least 3:1 on the page.
"""

from __future__ import annotations

# name: (on a light page, on a dark page)
PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#1c2128", "#e4e7eb"),
    "muted": ("#5b6572", "#a0a9b5"),
    "line": ("#dce0e6", "#353c46"),
    "paper": ("#fdfdfc", "#15181d"),
    "raised": ("#f4f5f6", "#1e2229"),
    "inverse": ("#fffffe", "#0d1014"),  # counts on the strongest cells of the heat map
    "accent": ("#0b69a9", "#5db0ee"),
    "second": ("#8a95a3", "#7f8b9a"),  # figures that the choice did not use
    "wrong": ("#c1440e", "#f2935c"),
    "import": ("#9aa4b0", "#7b8694"),
    "rank": ("#00866a", "#35b896"),
    "decode": ("#56b4e9", "#56b4ea"),
    "forward": ("#0072b2", "#2b8fd0"),
    "solve": ("#d98f00", "#e6a422"),
    "adapt": ("#d55e01", "#e8702a"),
    "control": ("#7a5ea8", "#a68fd4"),
    "report": ("#b85f93", "#d187b1"),
    "other": ("#cfd4da", "#4a525e"),
    # what networks are built of
    "stacked": ("#c8500a", "#f08a4b"),
    "branching": ("#9a4f82", "#d48fbf"),
    "residual": ("#0a6db0", "#58acec"),
    "gated": ("#1c94a0", "#4cc5cf"),
    "dense": ("#00835f", "#34b894"),
    "separable": ("#b98200", "#e3b13c"),
    "searched": ("#4a525c", "#b9c1cb"),
    "own": ("#d6206a", "#ff6fa8"),  # the reader's models
}

LIGHT: dict[str, str] = {name: light for name, (light, _) in PALETTE.items()}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', sans-serif"
