"""Counter-based numbers: Random123's known answers, the formula by hand, the law, and the kernel of a GPU."""

import numpy as np
import pytest
import scipy.stats
import torch

from recon.data.philox import complex_noise, complex_normals, key_of, noise_parts, philox4x32

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
KNOWN = {  # philox4x32 10 of Random123's kat_vectors: counter and key, and the four words
    "zeros": ((0,) * 6, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ((0xFFFFFFFF,) * 6, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": (PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
}


@pytest.mark.parametrize("case", KNOWN)
def test_known_answers(case):
    numbers, words = KNOWN[case]
    made = philox4x32(tuple(torch.tensor(n) for n in numbers[:4]), numbers[4:])
    assert " ".join(f"{int(word):08x}" for word in made) == words


def test_normals_by_hand():
    words, others = torch.tensor([0, 2**32 - 1, 2**31]), torch.tensor([2**31, 2**31, 3 * 2**30])
    made = complex_normals(words, others)
    assert made[0].tolist() == pytest.approx([np.sqrt(66 * np.log(2)), 0])  # u = 2^-33, t = 0
    assert made[1].tolist() == pytest.approx([2**-11.5, 0], rel=1e-4)  # u = 1 - 2^-24, and not 1
    assert made[2].tolist() == pytest.approx([0, np.sqrt(2 * np.log(2))], abs=1e-6)  # u = 1 / 2, t = pi / 2


def test_noise_is_white_and_normal():
    noise = complex_noise(torch.arange(3), key_of(3, "test"), 3, 32, slice(0, 32), 50).numpy()
    parts = np.concatenate([noise.real.ravel(), noise.imag.ravel()])
    assert scipy.stats.kstest(parts, "norm").pvalue > 0.01
    assert parts.std() == pytest.approx(1, abs=4 / np.sqrt(2 * parts.size))
    flat = np.moveaxis(noise, 1, 0).reshape(3, -1)
    error = 5 * 2 / np.sqrt(flat.shape[1])  # of a correlation of complex numbers with E|n|^2 = 2
    assert np.abs(flat @ flat.conj().T / flat.shape[1] - 2 * np.eye(3)).max() < error
    for shift in ((0, 0, 0, 1), (0, 0, 1, 0), (1, 0, 0, 0)):
        assert abs(np.mean(noise * np.roll(noise, shift, range(4)).conj())) < 5 * 2 / np.sqrt(noise.size)
    assert abs(np.mean(noise**2)) < 5 * 2 / np.sqrt(noise.size)  # real and imaginary parts are independent


@pytest.mark.parametrize("n", [10, 7])
def test_a_number_depends_on_its_place_and_its_pair_alone(n):
    key = key_of(1, "test")
    whole = complex_noise(torch.tensor([5, 2**33 + 5, 6]), key, 3, 12, slice(0, 12), n)
    part = complex_noise(torch.tensor([2**33 + 5]), key, 3, 12, slice(4, 9), n)
    assert torch.equal(part[0], whole[1, :, 4:9])
    assert len(np.unique(whole.numpy())) == whole.numel()
    assert not torch.equal(complex_noise(torch.tensor([5]), key_of(2, "test"), 3, 12, slice(0, 12), n)[0], whole[0])


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(3, 20, 4, 10, 14), (2, 9, 0, 9, 7), (15, 320, 0, 320, 368)], ids=str)
def test_the_kernel_gives_the_same_numbers(shape):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    index, key = torch.tensor([5, 2**33 + 7]), key_of(1, "test")
    made = noise_parts(index.cuda(), *key, *shape)
    torch.testing.assert_close(made.cpu(), noise_parts(index, *key, *shape), rtol=1e-5, atol=1e-5)
