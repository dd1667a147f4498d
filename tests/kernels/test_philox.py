import numba
import numpy as np
import pytest

from handgrad.kernels.cpu.philox import as_word, bernoulli_mask, philox_uint32, philox_words_01_blocks

ALL = 0xFFFFFFFFFFFFFFFF
KNOWN = [  # Random123, kat_vectors: philox4x32 10
    (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (ALL, ALL, ALL, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88, "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def plain(seed, stream, counter):
    """One block in Python integers, from the paper."""
    low = 0xFFFFFFFF
    x, k = [counter & low, counter >> 32, stream & low, stream >> 32], [seed & low, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(q >> 32) ^ x[1] ^ k[0], q & low, (p >> 32) ^ x[3] ^ k[1], p & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return x


@pytest.mark.parametrize(("seed", "stream", "counter", "words"), KNOWN)
def test_known_answers(seed, stream, counter, words):
    assert " ".join(f"{w:08x}" for w in philox_uint32(seed, stream, counter, 4)) == words


@pytest.mark.parametrize("n", [0, 1, 3, 4, 41])
def test_against_plain_python(n):
    """Also across the carry of the counter's low word and its end at 2^64."""
    for counter in (7, 2**32 - 3, 2**64 - 2):
        want = [w for i in range(-(-n // 4)) for w in plain(2**40 + 5, 3, (counter + i) % 2**64)][:n]
        got = philox_uint32(2**40 + 5, 3, counter, n)
        assert got.dtype == np.uint32 and got.tolist() == want


@pytest.mark.parametrize("n", [64, 65, 1000, 40_004])
def test_lanes_draw_the_words_of_the_blocks(n):
    """Sixteen blocks at a time are the blocks one by one, also where their counters pass 2^32 and 2^64."""
    for counter in (7, 2**32 - 3, 2**64 - 2):
        words = np.empty(-(-n // 4) * 4, np.uint32)
        philox_words_01_blocks(as_word(2**63 + 5), as_word(2**40 + 3), as_word(counter), words)
        np.testing.assert_array_equal(philox_uint32(2**63 + 5, 2**40 + 3, counter, n), words[:n])


def test_pieces_and_threads_agree():
    whole = philox_uint32(1, 2, 100, 50_000)
    np.testing.assert_array_equal(whole[4000:4800], philox_uint32(1, 2, 1100, 800))
    mask = bernoulli_mask(1, 2, 100, 50_001, 0.25)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(whole, philox_uint32(1, 2, 100, 50_000))
        np.testing.assert_array_equal(mask, bernoulli_mask(1, 2, 100, 50_001, 0.25))
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(mask[:50_000], whole < int(0.25 * 2**32))
    np.testing.assert_array_equal(mask[:1001], bernoulli_mask(1, 2, 100, 1001, 0.25))


def test_bernoulli():
    mask = bernoulli_mask(3, 0, 0, 100_000, 0.9)
    assert mask.dtype == np.bool_ and abs(mask.mean() - 0.9) < 5 * (0.09 / 100_000) ** 0.5
    assert bernoulli_mask(3, 0, 0, 1000, 1.0).all() and not bernoulli_mask(3, 0, 0, 1000, 0.0).any()
    assert bernoulli_mask(3, 0, 0, 0, 0.5).shape == (0,)
    with pytest.raises(ValueError, match=r"p_keep is 1\.5"):
        bernoulli_mask(3, 0, 0, 4, 1.5)
