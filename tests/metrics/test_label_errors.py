"""Labels in doubt: planted ones are found with what they should be, and who was never held out is not judged."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.metrics import label_suspects, softmax


def test_planted_flips_are_found_with_their_own_class() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 400)
    shares = softmax(4 * np.eye(4)[truth] + generator.normal(size=(400, 4)))
    given = truth.copy()
    flipped = generator.choice(400, 20, replace=False)
    given[flipped] = (truth[flipped] + 1) % 4
    found = label_suspects(shares, given)
    hits = [one for one in found if one.index in set(flipped.tolist())]
    assert len(hits) >= 0.7 * 20
    assert len(hits) >= 0.5 * len(found)
    assert sum(one.suggested == truth[one.index] for one in hits) >= 0.9 * len(hits)
    margins = [one.confidence - one.given_probability for one in found]
    assert margins == sorted(margins, reverse=True)
    assert min(margins) >= 0.5
    assert all(one.given == given[one.index] for one in found)


def test_what_was_never_out_is_not_judged() -> None:
    shares = np.array([[0.9, 0.1], [np.nan, np.nan], [0.9, 0.1], [0.6, 0.4]])
    assert [one.index for one in label_suspects(shares, [1, 1, 0, 1])] == [0]
    assert [one.index for one in label_suspects(shares, [1, 1, 0, 1], margin=0.1)] == [0, 3]
    assert label_suspects(np.empty((0, 3)), np.empty(0, int)) == []
    with pytest.raises(ValueError, match="3 true labels for 4 rows"):
        label_suspects(shares, [0, 1, 1])
