"""Items for other projects: against their documented shapes, and against the packages where they are installed."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import recipe_data
from torch.utils.data import DataLoader

from recon.data.adapters import as_deepinv, as_direct, as_fastmri, centre_block_of
from recon.data.datasets import PairDataset, VirtualPairs
from synth.recipe import parse_recipe


@pytest.fixture
def pairs(corpus):
    return PairDataset(corpus)


@pytest.fixture
def clean(photos):
    return VirtualPairs(parse_recipe(recipe_data(photos, noise={"kind": "none"}), "t"))


def test_fastmri_item(pairs):
    sample = as_fastmri(pairs)[3]
    item = pairs[3]
    assert sample._fields == (
        *("masked_kspace", "mask", "num_low_frequencies", "target", "fname", "slice_num", "max_value", "crop_size"),
    )
    assert sample.masked_kspace.shape == (4, 48, 56, 2)
    assert sample.mask.shape == (1, 1, 56, 1)
    assert sample.mask.dtype == torch.bool
    assert sample.num_low_frequencies == 9  # 8 reference lines, and a regular line that completes fastMRI's odd centre
    assert sample.target.shape == sample.crop_size == (48, 56)
    assert sample.max_value == pytest.approx(float(item["target"].abs().max()))
    batch = next(iter(DataLoader(as_fastmri(pairs), batch_size=2)))
    assert batch.masked_kspace.shape == (2, 4, 48, 56, 2)


def test_deepinv_item(pairs):
    item = as_deepinv(pairs)[3]
    assert item["x"].shape == (2, 48, 56)
    assert item["y"].shape == (2, 4, 48, 56)
    assert item["params"]["mask"].shape == (1, 48, 56)
    assert item["params"]["coil_maps"].shape == (4, 48, 56)
    assert next(iter(DataLoader(as_deepinv(pairs), batch_size=2)))["y"].shape == (2, 2, 4, 48, 56)


def test_direct_item(pairs):
    item = as_direct(pairs)[3]
    assert item["masked_kspace"].shape == item["sensitivity_map"].shape == (4, 48, 56, 2)
    assert item["sampling_mask"].shape == item["acs_mask"].shape == (1, 48, 56, 1)
    assert torch.equal(item["acs_mask"][0, 0, :, 0].nonzero()[:, 0], torch.arange(24, 33))
    assert (item["acs_mask"] == item["acs_mask"][:, :1]).all()
    assert item["scaling_factor"] == 1
    assert item["target"].shape == (48, 56)
    assert next(iter(DataLoader(as_direct(pairs), batch_size=2)))["masked_kspace"].shape == (2, 4, 48, 56, 2)


def test_pairs_that_do_not_fit_an_adapter_are_refused(corpus):
    for adapter in (as_fastmri, as_deepinv, as_direct):
        with pytest.raises(ValueError, match="oversampled=False"):
            adapter(PairDataset(corpus, oversampled=True))
    for adapter in (as_deepinv, as_direct):
        with pytest.raises(ValueError, match="with_maps=True"):
            adapter(PairDataset(corpus, with_maps=False))
    assert as_fastmri(PairDataset(corpus, with_maps=False))[0].target.shape == (48, 56)


def test_centre_block_is_centred_and_full():
    lines = torch.zeros(1, 1, 11, dtype=torch.bool)
    lines[..., [1, 4, 5, 6, 7, 9]] = True  # fastMRI centres an even width to the left: 4 ... 7
    assert centre_block_of(lines)[0, 0].nonzero()[:, 0].tolist() == [4, 5, 6, 7]
    lines[..., 4] = False
    assert centre_block_of(lines)[0, 0].nonzero()[:, 0].tolist() == [5, 6]
    points = torch.zeros(1, 8, 10, dtype=torch.bool)
    points[:, 2:6, 3:7] = True
    points[:, 3, 7:] = True
    assert torch.equal(centre_block_of(points)[0].nonzero().amin(0), torch.tensor([2, 3]))
    assert centre_block_of(points).sum() == 16


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_fastmri_trains_on_it(pairs):
    varnet = pytest.importorskip("fastmri.models.varnet")
    transforms = pytest.importorskip("fastmri.data.transforms")
    batch = next(iter(DataLoader(as_fastmri(pairs), batch_size=2)))
    assert batch._fields == transforms.VarNetSample._fields
    model = varnet.VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=2, pools=2)
    output = model(batch.masked_kspace, batch.mask, int(batch.num_low_frequencies[0]))
    target, output = transforms.center_crop_to_smallest(batch.target, output)
    (output - target).pow(2).mean().backward()
    assert output.shape == (2, 48, 56)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_fastmri_transforms_agree(clean):
    fastmri = pytest.importorskip("fastmri")
    sample = as_fastmri(clean)[0]
    images = fastmri.ifft2c(fastmri.fft2c(torch.view_as_real(clean[0]["target"][None])))
    torch.testing.assert_close(fastmri.complex_abs(images)[0], sample.target, atol=1e-5, rtol=1e-5)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_deepinv_checks_and_its_physics_agrees(clean):
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    import torchvision_standin

    torchvision_standin.install()
    deepinv = pytest.importorskip("deepinv")
    dataset = as_deepinv(clean)
    deepinv.datasets.check_dataset(dataset, allow_non_tensor=False)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    physics = deepinv.physics.MultiCoilMRI(img_size=(2, 48, 56))
    y = physics(batch["x"], **batch["params"])
    torch.testing.assert_close(y, batch["y"], atol=3e-5, rtol=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_direct_takes_it(clean):
    transforms = pytest.importorskip("direct.data.transforms")
    item = as_direct(clean)[0]
    image = torch.view_as_real(clean[0]["target"])
    coils = transforms.expand_operator(image[None], item["sensitivity_map"][None], dim=1)
    kspace = transforms.fft2(coils, dim=(2, 3), centered=True)
    masked, _ = transforms.apply_mask(kspace, item["sampling_mask"][None])
    torch.testing.assert_close(masked[0], item["masked_kspace"], atol=3e-5, rtol=1e-4)
