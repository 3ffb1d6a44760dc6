"""What a sample contributes to metrics, in whatever batches samples and parts outputs come."""

import numpy as np
import pytest

from quant_core.scoring import terms
from quant_core.scoring.compared import ClassAxis, Compared
from quant_core.scoring.terms import divergence, sample_terms, terms_table

RNG = np.random.default_rng(0)
FLOAT = RNG.normal(size=(300, 10)).astype(np.float32)
QUANTIZED = (FLOAT + RNG.normal(scale=0.3, size=FLOAT.shape)).astype(np.float32)
LABELS = RNG.integers(0, 10, 300)
DENSE_FLOAT = RNG.normal(size=(20, 5, 4, 3)).astype(np.float32)
DENSE = (DENSE_FLOAT + RNG.normal(scale=0.3, size=DENSE_FLOAT.shape)).astype(np.float32)


def test_terms_do_not_depend_on_how_samples_are_batched():
    parts = [sample_terms([FLOAT[i : i + 7]], [QUANTIZED[i : i + 7]], LABELS[i : i + 7]) for i in range(0, 300, 7)]
    assert terms_table(parts).equals(terms_table([sample_terms([FLOAT], [QUANTIZED], LABELS)]))


def test_distances_are_over_all_outputs_together_and_classes_of_the_first():
    both = sample_terms([FLOAT[:20], DENSE_FLOAT], [QUANTIZED[:20], DENSE], LABELS[:20])
    first, second = (sample_terms([a], [b], None) for a, b in ((FLOAT[:20], QUANTIZED[:20]), (DENSE_FLOAT, DENSE)))
    np.testing.assert_allclose(both["error"], first["error"] + second["error"])
    np.testing.assert_allclose(both["signal"], first["signal"] + second["signal"])
    np.testing.assert_array_equal(both["kl"], first["kl"])
    np.testing.assert_array_equal(both["top1"], QUANTIZED[:20].argmax(axis=1) == LABELS[:20])


def test_kl_of_probabilities_is_that_of_what_they_add_up_to_and_counts_a_zero_as_hardly_likely():
    exact, found = np.float64([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]]), np.float64([[0.5, 0.5, 0.0], [0.4, 0.2, 0.2]])
    lost = 0.5 * np.log(0.5 / 0.5) + 0.3 * np.log(0.3 / 0.5) + 0.2 * np.log(0.2 / 1e-30)
    np.testing.assert_allclose(divergence(exact, found, 1, probabilities=True), [lost, 0], atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 10), (5, 6, 7), (4, 33, 2, 3), (6, 1), (3, 80, 401)], ids=str)
def test_large_outputs_are_looked_at_in_parts_with_the_same_bits(shape, monkeypatch):
    values = RNG.normal(size=shape).astype(np.float32)
    noisy = values + RNG.normal(scale=0.01, size=shape).astype(np.float32)
    for axis in range(1, len(shape)):
        outputs = Compared(("y",), ClassAxis(0, axis))
        labels = RNG.integers(0, shape[axis], [size for at, size in enumerate(shape) if at != axis])
        whole = sample_terms([values], [noisy], labels, outputs)
        with monkeypatch.context() as patch:
            patch.setattr(terms, "_VALUES_AT_ONCE", values[0].size)
            parts = sample_terms([values], [noisy], labels, outputs)
        assert {name: part.tobytes() for name, part in parts.items()} == {k: v.tobytes() for k, v in whole.items()}
