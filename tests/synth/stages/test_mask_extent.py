import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from sigpy.mri.app import SenseRecon

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset
from recon.data.device_pairs import DevicePairs
from recon.models.sense import cg_sense
from synth.physics import sense_forward
from synth.rng import rng as address
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.mask_extent import ellipse, measured
from synth.stages.sampling import SamplingSpec

SIZE = (48, 96)


def spec_of(**data):
    return TypeAdapter(SamplingSpec).validate_python(data, strict=False)


SPECS = [
    spec_of(kind="regular", reference_lines=12),
    spec_of(kind="variable-density", reference_lines=10),
    spec_of(kind="fastmri-random"),
    spec_of(kind="regular-2d", shift=1, reference_lines=8),
    spec_of(kind="poisson", reference_lines=8),
]


def test_six_eighths_of_96_lines_are_72_at_either_end():
    assert np.flatnonzero(measured(96, 0.75, last=True)).tolist() == list(range(24, 96))
    assert np.flatnonzero(measured(96, 0.75, last=False)).tolist() == list(range(72))
    assert measured(10, 0.7, last=True).sum() == 7  # 0.7 is stored as 0.69999...; 0.1 + 0.6 as a little more
    assert measured(10, 0.1 + 0.6, last=True).sum() == 7
    assert measured(97, 5 / 8, last=True).sum() == 61  # 60.625
    assert measured(11, 1, last=True).all()


def test_the_shutter_leaves_the_corners_out():
    """By hand on 4x4 about (2, 2): rows at -1, -.5, 0, .5 of the half height keep 1, 3, 4 and 3 columns."""
    assert ellipse((4, 4)).astype(int).tolist() == [[0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]
    assert ellipse((320, 368)).mean() == pytest.approx(np.pi / 4, rel=2e-3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
@pytest.mark.parametrize(
    "along", [("partial_fourier",), ("partial_fourier_y",), ("partial_fourier", "partial_fourier_y")]
)
def test_a_mask_keeps_what_lies_within_the_extent(spec, along):
    """Nothing else of the mask of whole k-space changes, its reference is kept, and both ends are drawn."""
    cut = spec.model_copy(update=dict.fromkeys(along, (0.75, 0.8)))
    missing = []
    for index in range(12):
        whole, mask = (s.draw(address(1, "m", index), SIZE) for s in (spec, cut))
        assert mask.is_lines == (whole.is_lines and along == ("partial_fourier",))
        points, part = (np.broadcast_to(m.sampled, SIZE) for m in (whole, mask))
        ends = []
        for axis, name in ((1, "partial_fourier"), (0, "partial_fourier_y")):
            n, fraction = SIZE[axis], mask.drawn.get(name, 1.0)
            kept = np.flatnonzero(part.any(1 - axis))
            assert len(kept) <= np.ceil(fraction * n)
            ends.append(slice(kept[0], kept[-1] + 1))
            missing.append(kept[0] > n - 1 - kept[-1])
        assert np.array_equal(part[ends[1], ends[0]], points[ends[1], ends[0]])
        assert mask.sampled.sum() <= cut.capacity(SIZE)
        side = getattr(spec, "reference_lines", 0)
        assert mask.reference(SIZE[0])[1] >= min(side, whole.reference(SIZE[0])[1])
        assert mask.acceleration == whole.acceleration
    assert 0 < sum(missing) < len(missing)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.packs_points], ids=lambda s: s.kind)
def test_points_beyond_the_shutter_are_left_out(spec):
    whole, shut = (s.draw(address(1, "m", 0), SIZE) for s in (spec, spec.model_copy(update={"shutter": "elliptical"})))
    assert np.array_equal(shut.sampled, whole.sampled & ellipse(SIZE))
    assert shut.net_acceleration > whole.net_acceleration


@pytest.mark.parametrize("value", [0.5, [0.4, 0.9], 1.2])
def test_fractions_lie_between_the_centre_and_the_end(value):
    with pytest.raises(ValueError, match="above 0\\.5"):
        spec_of(kind="regular", partial_fourier=value)


def test_a_reference_that_would_be_cut_is_refused():
    """Of 96 lines, 24 about 48 are 36 ... 59: .6 leaves out 96 - 58 = 38 of them, .625 leaves out 36."""
    assert spec_of(kind="regular", partial_fourier=0.625).capacity(SIZE)
    with pytest.raises(ValueError, match="leaves out 38 of 96 positions at one end, and so a part of the 24"):
        spec_of(kind="regular", partial_fourier=0.6).capacity(SIZE)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_whole_kspace_is_the_default_and_has_no_key(spec):
    assert not set(spec.model_dump(exclude_none=True)) & {"partial_fourier", "partial_fourier_y", "shutter"}


def test_sense_with_partial_fourier_is_that_of_sigpy():
    maps = draw_coils(LoopsSpec(count=6), 0, 0).maps((32, 40))
    mask = spec_of(kind="regular", acceleration=2, reference_lines=8, partial_fourier=0.75).draw(
        address(0, "m"), (32, 40)
    )
    image = torch.complex(*torch.randn(2, 1, 32, 40, generator=torch.Generator().manual_seed(0)))
    given, sampled = torch.from_numpy(maps)[None], torch.from_numpy(mask.sampled)[None, None, None]
    kspace = sense_forward(image, given, sampled)
    ours = cg_sense(kspace, given, sampled, iterations=12)[0].numpy()
    theirs = SenseRecon(kspace[0].numpy(), maps, lamda=0, max_iter=12, show_pbar=False).run()
    assert np.linalg.norm(ours - theirs) < 2e-3 * np.linalg.norm(theirs)


@pytest.mark.parametrize(
    "sampling",
    [
        {"kind": "uniform", "acceleration": 2, "reference_lines": 8, "partial_fourier": [0.7, 1]},
        {"kind": "regular", "acceleration": 2, "reference_lines": 8, "partial_fourier_y": 0.75},
        {"kind": "poisson", "acceleration": 2, "reference_lines": 8, "shutter": "elliptical", "partial_fourier": 0.75},
    ],
    ids=lambda s: s["kind"],
)
def test_pairs_keep_their_noise_and_replay(recipe, tmp_path, sampling):
    """Noise at the sampled positions has the stored sigma, measured against the pair without noise."""
    made = {}
    for snr in (5, 1e9):
        build(recipe(pairs=6, sampling=sampling, noise={"snr": snr}), tmp_path / f"{snr}.zarr", ClusterSpec("sync"))
        made[snr] = PairDataset(tmp_path / f"{snr}.zarr")
    assert verify(tmp_path / "5.zarr", replay=6).intact
    noise, count = 0.0, 0
    for noisy, clean in zip(made[5], made[1e9], strict=True):
        sampled = noisy["mask"].expand(noisy["masked_kspace"].shape)
        assert not noisy["masked_kspace"][~sampled].any()
        difference = (noisy["masked_kspace"] - clean["masked_kspace"])[sampled] / noisy["sigma"]
        noise, count = noise + float(difference.abs().square().sum()), count + 2 * difference.numel()
    assert noise / count == pytest.approx(1, abs=4 * np.sqrt(2 / count))  # 4 standard errors of a mean square


def test_device_pairs_have_the_same_masks(recipe):
    made = recipe(pairs=4, sampling={"kind": "regular", "reference_lines": 8, "partial_fourier": [0.7, 1]})
    pairs = DevicePairs(made, device="cpu")
    size = tuple(made.target.matrix[0])
    for index in range(4):
        wanted = made.sampling.draw(address(made.seed, "sampling", index), size).sampled
        assert np.array_equal(pairs[index]["mask"].numpy().ravel(), wanted)
