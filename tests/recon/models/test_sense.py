import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from conftest import shared
from properties import assert_adjoint, complex_normal

from recon.models.baselines import CgSense, RegularisedSense, Wavelet, ZeroFilled
from recon.models.gfactor import alias_shifts, block_g, replica_g
from recon.models.sense import Sense, cg_sense, mu_of, opposite_lambda, regularised_sense
from recon.models.solvers import conjugate_gradient
from synth.calibration.espirit import espirit
from synth.physics import sense_forward
from synth.scans.open import open_scan
from synth.stages.coils import LoopsSpec, draw_coils
from synth.writers.cfl import read_array, write_array

SHAPE, COILS = (24, 32), 5


def regular(n=32, rate=4, reference=0):
    mask = (np.arange(n) - n // 2) % rate == 0
    mask[n // 2 - reference // 2 : n // 2 + reference // 2] = True
    return mask


def caipi():
    y, x = np.indices(SHAPE)
    return (y % 2 == 0) & ((x + (y // 2) % 2) % 2 == 0)


MASKS = {
    "regular": regular(),
    "with reference lines": regular(reference=8),
    "random lines": np.random.default_rng(0).random(32) < 0.3,
    "random points": np.random.default_rng(1).random(SHAPE) < 0.3,
    "caipi": caipi(),
}


@pytest.fixture(params=MASKS)
def mask(request):
    return MASKS[request.param]


def wide(mask, dtype=torch.bool):
    return torch.from_numpy(mask.copy()).to(dtype).reshape(1, 1, -1, mask.shape[-1])


def maps_of(dtype=torch.complex128, shape=SHAPE, coils=COILS):
    return torch.from_numpy(draw_coils(LoopsSpec(count=coils), 2, 0).maps(shape)).to(dtype)[None]


def dense(model):
    """A [n n], column by column."""
    n = SHAPE[0] * SHAPE[1]
    basis = torch.eye(n, dtype=torch.complex128).reshape(n, *SHAPE)
    return model.normal(basis).reshape(n, n).T


def test_conjugate_gradients_solve_each_sample(rng):
    a = complex_normal(rng, 3, 6, 6).astype(np.complex128)
    a = torch.from_numpy(a @ a.conj().swapaxes(1, 2) + np.eye(6))
    right = torch.from_numpy(complex_normal(rng, 3, 6)).to(torch.complex128)
    right[1] = 0

    def operator(x):
        return (a @ x[..., None])[..., 0]

    solved = conjugate_gradient(operator, right, iterations=60, tolerance=1e-12)
    torch.testing.assert_close(solved.x, torch.linalg.solve(a, right))
    assert not solved.x[1].any()
    assert solved.iterations < 20
    diagonal = torch.diagonal(a, dim1=1, dim2=2)
    better = conjugate_gradient(operator, right, iterations=60, tolerance=1e-12, precondition=lambda r: r / diagonal)
    torch.testing.assert_close(better.x, solved.x)
    assert conjugate_gradient(operator, right, solved.x, tolerance=1e-9).iterations == 0
    many = conjugate_gradient(operator, right, iterations=5000, tolerance=0.0)  # rounding errors are not followed
    torch.testing.assert_close(many.x, solved.x)
    assert many.iterations < 100


def test_the_model_is_adjoint_and_has_unit_diagonal(mask, rng):
    model = Sense(maps_of(), wide(mask))
    x = torch.from_numpy(complex_normal(rng, 1, *SHAPE)).to(torch.complex128)
    y = torch.from_numpy(complex_normal(rng, 1, COILS, *SHAPE)).to(torch.complex128)
    assert_adjoint(lambda v: model.forward(v) * model.acceleration, model.adjoint, x, y, rtol=1e-12)
    torch.testing.assert_close(model.normal(x), model.adjoint(model.forward(x)))
    torch.testing.assert_close(model.forward(x), sense_forward(x, model.maps, model.mask))
    a = dense(model)
    torch.testing.assert_close(torch.diagonal(a).real, torch.ones(len(a), dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(a, a.conj().T)


def test_noise_is_bounded_by_lambda_at_every_voxel(mask):
    """g <= lam, for every mask; and the operator norm of (A + mu)^-1 E^H is at most lam, too."""
    values, vectors = torch.linalg.eigh(dense(Sense(maps_of(), wide(mask))))
    values = values.clamp_min(0)
    for lam in (0.25, 1.0, 4.0, 20.0):
        mu = float(mu_of(torch.tensor(lam, dtype=torch.float64)))
        g2 = ((vectors.abs() ** 2) * (values / (values + mu) ** 2)).sum(1)
        assert float(g2.sqrt().max()) <= lam * (1 + 1e-9)
        assert float((values.sqrt() / (values + mu)).max()) <= lam * (1 + 1e-9)


def test_the_limits_of_lambda(rng):
    model = maps_of(), wide(regular(reference=8))
    truth, prior = (torch.from_numpy(complex_normal(rng, 1, *SHAPE)).to(torch.complex128) for _ in range(2))
    kspace = Sense(*model).forward(truth)
    near = regularised_sense(kspace, *model, prior, 1e-4, tolerance=1e-12)
    torch.testing.assert_close(near, prior, rtol=0, atol=1e-5)
    far = regularised_sense(kspace, *model, prior, 1e4, iterations=3000, tolerance=1e-12)
    torch.testing.assert_close(far, truth, rtol=0, atol=1e-3)
    step = regularised_sense(kspace, *model, prior, 2.0, tolerance=1e-12)
    residual = (kspace - Sense(*model).forward(prior)).norm() * Sense(*model).acceleration.sqrt()
    assert (step - prior).norm() <= 2.0 * residual
    with pytest.raises(ValueError, match="greater than 0"):
        regularised_sense(kspace, *model, prior, 0.0)


@pytest.mark.parametrize("convention", ["A", "A2", "B"])
@pytest.mark.parametrize(
    "how",
    [
        {"gradients": "implicit", "iterations": 500, "tolerance": 1e-12},
        {"gradients": "iterations", "iterations": 500, "tolerance": 1e-12},
        {"gradients": "iterations", "iterations": 3, "tolerance": 0.0},
    ],
    ids=["implicit", "iterations", "3-iterations"],
)
def test_gradients_are_differences(mask, rng, convention, how):
    maps, wanted = maps_of(), torch.from_numpy(complex_normal(rng, 2, *SHAPE)).to(torch.complex128)
    prior, kspace = (
        torch.from_numpy(complex_normal(rng, *s)).to(torch.complex128) for s in ((2, *SHAPE), (2, COILS, *SHAPE))
    )
    lam = torch.tensor([1.5, 3.0], dtype=torch.float64)

    def loss(prior, lam, kspace):
        x = regularised_sense(kspace, maps, wide(mask), prior, lam, convention=convention, **how)
        return ((x - wanted).abs() ** 2).sum() + (x.real * wanted.imag).sum()

    for tensor in (prior, lam, kspace):
        tensor.requires_grad_()
    loss(prior, lam, kspace).backward()
    arguments = [prior, lam, kspace]
    for k, tensor in enumerate(arguments):
        direction = torch.randn(tensor.shape, dtype=tensor.dtype, generator=torch.Generator().manual_seed(k))
        expected = (
            (tensor.grad.conj() * direction).real.sum() if tensor.is_complex() else (tensor.grad * direction).sum()
        )
        eps = 1e-5
        moved = [[t + s * eps * direction if t is tensor else t for t in arguments] for s in (1, -1)]
        found = (loss(*moved[0]) - loss(*moved[1])) / (2 * eps)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_aliases_of_regular_masks():
    shifts, weights = alias_shifts(np.broadcast_to(regular(), SHAPE))
    assert shifts.tolist() == [[0, 0], [0, 8], [0, 16], [0, 24]]
    np.testing.assert_allclose(weights, 1)
    shifted, weights = alias_shifts(np.broadcast_to(np.roll(regular(), 1), SHAPE))
    assert shifted.tolist() == shifts.tolist()
    np.testing.assert_allclose(weights, [1, 1j, -1, -1j], atol=1e-12)
    assert len(alias_shifts(caipi())[0]) == 4
    with pytest.raises(ValueError, match="use replica_g"):
        alias_shifts(np.broadcast_to(regular(reference=8), SHAPE))


@pytest.mark.parametrize("name", ["regular", "shifted", "caipi"])
def test_blocks_equal_the_whole_matrix(name):
    mask = np.roll(regular(), 1) if name == "shifted" else MASKS[name]
    maps = maps_of()
    a = dense(Sense(maps, wide(mask)))
    pruessmann = (torch.linalg.inv(a).diagonal() * a.diagonal()).real.sqrt().reshape(SHAPE).numpy()
    np.testing.assert_allclose(block_g(maps[0].numpy(), mask), pruessmann, rtol=1e-4)
    np.testing.assert_allclose(block_g(maps[0].numpy(), mask, lam=1e4), pruessmann, rtol=1e-4)
    assert block_g(maps[0].numpy(), mask, lam=2.0).max() <= 2
    assert pruessmann.min() > 0.999


def test_blocks_agree_with_replicas():
    maps, mask = maps_of(torch.complex64), regular()
    model = maps, wide(mask)
    for lam in (1.0, 4.0):
        replicas = replica_g(
            lambda noise, lam=lam: regularised_sense(noise, *model, lam=lam, iterations=100, tolerance=1e-5),
            *model,
            replicas=400,
        ).numpy()
        error = replicas / block_g(maps[0].numpy(), mask, lam) - 1
        assert np.abs(error).mean() < 1.3 * 0.8 / (2 * np.sqrt(400))
        assert np.abs(error).max() < 6 / (2 * np.sqrt(400))


def test_the_zero_filled_image_has_g_1(mask):
    maps = maps_of(torch.complex64)
    found = replica_g(lambda noise: Sense(maps, wide(mask)).adjoint(noise), maps, wide(mask), 400)
    assert float((found - 1).abs().mean()) < 0.03


def test_correlated_noise_is_whitened_in_the_blocks(rng):
    maps, mask = maps_of()[0].numpy(), regular()
    np.testing.assert_allclose(block_g(maps, mask, covariance=2 * np.eye(COILS)), block_g(maps, mask))
    psi = np.diag([2.0, 2, 2, 2, 2000])  # the last coil is nearly lost
    np.testing.assert_allclose(block_g(maps, mask, covariance=psi), block_g(maps[:4], mask), rtol=0.06)


def undersampled(name, rate, reference=24):
    """A whitened real scan, regularly undersampled: k-space, maps and mask as tensors with a batch axis."""
    kspace = open_scan(shared(f"scans/{name}"))[0]
    maps = espirit(kspace).maps[0]
    mask = regular(kspace.shape[-1], rate, reference)
    tensors = (kspace * mask, maps, mask[None, None])
    return tuple(torch.from_numpy(np.ascontiguousarray(t))[None] for t in tensors)


@pytest.mark.parametrize(
    "name",
    ["brain_8ch_bart/full.cfl", "brain_mprage_4ch/MPRAGE_multi_channel.mat", "brain_prescan_16ch/preScanRefData.npy"],
)
def test_real_scans_as_sigpy_and_bart_reconstruct_them(name, tmp_path):
    mri = pytest.importorskip("sigpy.mri")
    kspace, maps, mask = undersampled(name, 2)
    scale = float(kspace.abs().max())
    kspace = kspace / scale
    lam = 6.0
    ours = regularised_sense(kspace, maps, mask, lam=lam, iterations=400, tolerance=1e-7)[0].numpy()
    weight = opposite_lambda(lam, float(1 / mask.float().mean()))
    theirs = mri.app.SenseRecon(kspace[0].numpy(), maps[0].numpy(), lamda=weight, max_iter=60, show_pbar=False).run()
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)
    if shutil.which("bart"):
        write_array(tmp_path / "k", kspace[0].numpy())
        write_array(tmp_path / "m", maps[0].numpy())
        command = ["bart", "pics", "-l2", f"-r{weight:.9g}", "-i100", "-w1", "k", "m", "x"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        bart = read_array(tmp_path / "x")[0] * (-1) ** (sum(ours.shape) // 2)
        assert np.linalg.norm(ours - bart) < 1e-3 * np.linalg.norm(bart)


def test_cg_sense_is_sigpys(rng):
    mri = pytest.importorskip("sigpy.mri")
    maps = maps_of(torch.complex64)
    mask = wide(regular(reference=8))
    kspace = torch.from_numpy(complex_normal(rng, 1, COILS, *SHAPE)) * mask
    theirs = mri.app.SenseRecon(kspace[0].numpy(), maps[0].numpy(), lamda=0, max_iter=8, show_pbar=False).run()
    ours = cg_sense(kspace, maps, mask, iterations=8)[0].numpy()
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)


@pytest.mark.gpu
def test_on_a_gpu_as_on_a_cpu(rng):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    maps, mask = maps_of(torch.complex64), wide(regular(reference=8))
    kspace = torch.from_numpy(complex_normal(rng, 1, COILS, *SHAPE)) * mask
    here = regularised_sense(kspace, maps, mask)
    there = regularised_sense(kspace.cuda(), maps.cuda(), mask.cuda()).cpu()
    torch.testing.assert_close(there, here, rtol=0, atol=1e-3)


@pytest.mark.parametrize("iterations", [1, 10, 500])
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "points"])
def test_one_coil_is_zero_filling_however_long_it_is_solved(iterations, lines):
    draw = torch.Generator().manual_seed(3)
    maps = torch.randn(2, 1, 32, 24, dtype=torch.complex64, generator=draw)
    maps = maps / maps.abs()
    mask = torch.rand(2, 1, 1 if lines else 32, 24, generator=draw) < 0.4
    kspace = torch.randn(2, 1, 32, 24, dtype=torch.complex64, generator=draw) * mask
    batch = {"masked_kspace": kspace, "sens_maps": maps, "mask": mask}
    torch.testing.assert_close(CgSense(iterations)(batch), ZeroFilled()(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_singular_systems_never_grow(rank):
    """A = Q Q^H in single precision: whatever lies beyond its span, x stays at the size of the solution Q^H b."""
    draw = torch.Generator().manual_seed(rank)
    basis = torch.linalg.qr(torch.randn(4, 16, rank, dtype=torch.complex64, generator=draw))[0]
    right = torch.randn(4, 16, dtype=torch.complex64, generator=draw)

    def operator(x):
        return (basis @ (basis.mH @ x[..., None]))[..., 0]

    inside = operator(right)
    for iterations in (1, 5, 50, 500):
        x = conjugate_gradient(operator, inside, iterations=iterations, tolerance=0).x
        torch.testing.assert_close(x, inside, rtol=1e-3, atol=1e-4)
    few, many = (conjugate_gradient(operator, right, iterations=n, tolerance=0).x for n in (5, 500))
    torch.testing.assert_close(many, few)  # there is no solution, and nothing to run after


@pytest.mark.parametrize("model", [ZeroFilled(), CgSense(2), RegularisedSense(), Wavelet()])
def test_a_pair_in_the_place_of_a_batch_is_refused(model, rng):
    """Its coils would be taken for a batch: zero-filled images of the wrong coils."""
    maps = torch.ones(4, 8, 8, dtype=torch.complex64)
    pair = {"masked_kspace": maps, "sens_maps": maps, "mask": torch.ones(1, 1, 8, dtype=torch.bool)}
    with pytest.raises(ValueError, match=re.escape("sens_maps has the shape [4, 8, 8]; give a batch [batch coil y x]")):
        model(pair)
