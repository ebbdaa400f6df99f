import contextlib
import json

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from pipelines.models.reconstruct import reconstruct
from recon.data.device_espirit import _at_centre, _smooth_phase, _start, _vortices, device_espirit
from recon.data.scan_batch import Undersampling
from synth.calibration.espirit import espirit
from synth.calibration.map_phase import referenced
from synth.physics import fft2c
from synth.rng import rng
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.noise import complex_noise

SHAPE, SIGMA = (96, 80), 1.0
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]),
]


def volume(slices=3, coils=6, wraps=False):
    """K-space [slice coil y x] of phantoms of several sizes; the last slice is noise alone."""
    maps = draw_coils(LoopsSpec(count=coils), 0, 0).maps(SHAPE)
    y, x = (np.linspace(-1, 1, n) for n in SHAPE)
    made = []
    for k in range(slices):
        size = (SHAPE[0] - 12 * k, SHAPE[1] - 8 * k)
        edge = [(n - m) // 2 for n, m in zip(SHAPE, size, strict=True)]
        image = np.pad(
            resize(shepp_logan_phantom(), size), [(e, n - m - e) for e, n, m in zip(edge, SHAPE, size, strict=True)]
        )
        seen = image * np.exp(2j * np.sin(3 * x + y[:, None])) * maps
        if wraps:  # half of the field of view in x
            seen = seen + np.roll(seen, SHAPE[1] // 2, 2)
        made.append(300 * fft2c(seen) * (k < slices - 1))
    kspace = np.stack(made).astype(np.complex64)
    return kspace + complex_noise(kspace.shape, SIGMA, rng(0, "test"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("sets", "shape", "wraps"), [(1, None, False), (1, (100, 90), False), (2, None, True)])
def test_maps_are_those_of_the_host(device, sets, shape, wraps):
    kspace = volume(wraps=wraps)
    how = {"sets": sets, "sigma": SIGMA, "reference": (24, 20)}
    found = device_espirit(torch.from_numpy(kspace).to(device), shape, **how)
    for k, of_slice in enumerate(kspace):
        one = espirit(of_slice, shape, **how)
        assert found.notes[k] == one.notes
        assert found.maps[k].shape == one.maps.shape
        assert found.eigenvalues[k].cpu().numpy() == pytest.approx(one.eigenvalues, abs=1e-4)
        sure = (one.eigenvalues > 0.85)[:, None]
        assert np.abs((found.maps[k].cpu().numpy() - one.maps) * sure).max() < 1e-3
    assert not found.maps[-1].any()
    assert "nothing above the noise" in found.notes[-1][0]
    assert (np.abs(found.maps[0].cpu().numpy()) ** 2).sum(1) == pytest.approx(1, abs=1e-5)


def test_slices_do_not_depend_on_those_beside_them():
    kspace = torch.from_numpy(volume()).repeat(4, 1, 1, 1)
    whole, alone = device_espirit(kspace).maps, device_espirit(kspace[9:10]).maps
    assert torch.allclose(whole[9], alone[0], atol=1e-4)


def test_a_vortex_makes_the_second_reference_be_tried():
    """Vectors (1, 2.2 z + 1.02), to whose centre one is orthogonal; vectors without a vortex; and noise."""
    y, x = np.mgrid[-6:7, -6:7] / 6
    planes = [np.stack([np.ones((13, 13)), scale * (x + 1j * y) + 1.02], axis=-1) for scale in (2.2, 0.5)]
    noise = complex_noise((13, 13, 2), 1.0, rng(0, "test"))
    vectors = np.stack([v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (*planes, noise)]).astype(np.complex64)
    everywhere = torch.ones(3, 13, 13)
    found, left = _start(everywhere, torch.from_numpy(vectors), everywhere > 0)
    for k, one in enumerate(vectors):
        expected, vortices = referenced(one, np.ones((13, 13), np.float32), np.ones((13, 13), bool))
        assert left[k] == vortices
        assert np.abs(found[k].numpy() - expected).max() < 1e-3
    first = _smooth_phase(torch.from_numpy(vectors), everywhere, _at_centre(torch.from_numpy(vectors), everywhere > 0))
    assert _vortices(first, everywhere > 0)[:2].tolist() == [1, 0]
    assert left[2] > 0


def test_refusals():
    kspace = torch.from_numpy(volume(2))
    with pytest.raises(ValueError, match="7 map sets need 7 coils or more"):
        device_espirit(kspace, sets=7)
    with pytest.raises(ValueError, match="sample more reference lines"):
        device_espirit(kspace, reference=(24, 6))
    kspace[1, :, :, 38] = 0
    with pytest.raises(ValueError, match="is not fully sampled"):
        device_espirit(kspace)


@pytest.mark.parametrize("sets", [1, 2])
def test_a_scan_is_reconstructed_with_maps_of_the_gpu(sets, tmp_path):
    """Images of `reconstruct` on a pretended GPU are those of the CPU, and maps are computed where the network is."""
    np.save(tmp_path / "k.npy", volume(2, wraps=sets == 2))
    how = {"axes": "slice coil y x", "sets": sets, "probes": 0}
    found = {}
    for device in ("cpu", "cuda"):
        with pretended_gpu() if device == "cuda" else contextlib.nullcontext() as seen:
            reconstruct("cg-sense:4", tmp_path / "k.npy", tmp_path / device, Undersampling(2, 24), device, **how)
        found[device] = np.load(tmp_path / device / "images.npy")
    assert not seen.refused
    assert any("_linalg_eigh" in name for name in seen.kernels)
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1e-3 * float(np.abs(found["cpu"]).max()))
    notes = [json.loads((tmp_path / device / "summary.json").read_text())["notes"] for device in ("cpu", "cuda")]
    assert notes[0] == notes[1]


def test_slices_are_wanted():
    with pytest.raises(ValueError, match=r"has the shape \[4, 32, 32\]; give \[slice coil y x\]"):
        device_espirit(torch.zeros(4, 32, 32, dtype=torch.complex64))
