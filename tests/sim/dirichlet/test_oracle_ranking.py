"""The oracle's ranking, against sorting all items."""

import numpy as np
from hypothesis import given, settings, strategies as st

from sim.dirichlet.oracle_posterior import urn
from sim.dirichlet.oracle_ranking import gains, rank_record, record_items
from sim.dirichlet.stream import DirichletSettings, DirichletStream


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.7, 2.0]), st.booleans())
def test_ranks_and_gains_are_those_of_sorting_all_items(seed: int, zipf: float, partly: bool) -> None:
    """Merging runs is as good as sorting; tied items earn the mean of their places."""
    stream = DirichletStream(DirichletSettings(seed=seed, records=40, length=30, items=150, categories=8, zipf=zipf))
    known = np.random.default_rng(seed).random(150) < 0.6 if partly else np.ones(150, bool)
    made, on = stream.records(20, 21), record_items(stream, 20, known if partly else None)
    predicted = urn(stream.settings).predict(made.categories[0])
    gain = gains(150)
    expected, realised, ranks = rank_record(predicted, made.items[0], made.categories[0], on, gain)
    ranked = np.flatnonzero(known & (np.arange(150) < stream.available(np.array([20]))[0]))
    for n, item in enumerate(made.items[0]):
        p_I = predicted[n, stream.category_I] * on.shares
        np.testing.assert_allclose(p_I.sum(), 1)
        falling = np.sort(p_I[ranked])[::-1]
        np.testing.assert_allclose(expected[n], falling @ np.diff(gain, axis=0)[: len(ranked)])
        above, level = (p_I[ranked] > p_I[item]).sum(), (p_I[ranked] == p_I[item]).sum()
        if not known[item]:
            assert np.isinf(ranks[n])
            assert not realised[n].any()
        else:
            assert ranks[n] == above + (level + 1) / 2
            np.testing.assert_allclose(realised[n], (gain[above + level] - gain[above]) / level, rtol=1e-9)
