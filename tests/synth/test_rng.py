import numpy as np

from synth.rng import rng


def test_same_address_same_numbers():
    assert np.array_equal(rng(1, "noise", 5).random(4), rng(1, "noise", 5).random(4))


def test_every_part_of_the_address_counts():
    draws = [
        rng(*a).random() for a in [(1, "noise", 5), (2, "noise", 5), (1, "phase", 5), (1, "noise", 6), (1, "noise")]
    ]
    assert len(set(draws)) == 5


def test_the_stream_is_what_it_was():
    # A changed stream changes every corpus: raise synth.storage.corpus_files.SCHEMA with this number.
    assert rng(2019, "noise", 17).bit_generator.random_raw() == 6327687380806317568


def test_streams_are_independent():
    a, b = rng(1, "noise", 0).standard_normal(100_000), rng(1, "noise", 1).standard_normal(100_000)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(100_000)
