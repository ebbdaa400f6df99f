import itertools
import time

import numpy as np
import pytest
from pydantic import TypeAdapter

from synth.physics import centre_block
from synth.rng import rng as address
from synth.stages import mask_lines as lines
from synth.stages import mask_points as points
from synth.stages import sampling
from synth.stages.mask import Mask

SIZE = (48, 96)
adapter = TypeAdapter(sampling.SamplingSpec)


def spec_of(**data):
    return adapter.validate_python(data, strict=False)


SPECS = [
    spec_of(kind="regular"),
    spec_of(kind="uniform", reference_lines=12),
    spec_of(kind="gaussian", reference_lines=12),
    spec_of(kind="variable-density", reference_lines=10),
    spec_of(kind="fastmri-random"),
    spec_of(kind="fastmri-equispaced"),
    spec_of(kind="fastmri-equispaced-fraction"),
    spec_of(kind="regular-2d", shift=1, reference_lines=8),
    spec_of(kind="poisson", reference_lines=8),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_masks_replay_and_fit_their_capacity(spec):
    for index in range(20):
        mask = spec.draw(address(1, "m", index), SIZE)
        assert mask.sampled.shape in ((SIZE[1],), SIZE)
        assert 0 < mask.sampled.sum() <= spec.capacity(SIZE)
        assert np.array_equal(mask.sampled, spec.draw(address(1, "m", index), SIZE).sampled)
        assert mask.net_acceleration == pytest.approx(mask.sampled.size / mask.sampled.sum())


@pytest.mark.parametrize("spec", [s for s in SPECS if not s.kind.startswith("regular")], ids=lambda s: s.kind)
def test_random_masks_differ(spec):
    masks = {spec.draw(address(1, "m", k), SIZE).sampled.tobytes() for k in range(10)}
    assert len(masks) >= (4 if "equispaced" in spec.kind else 10)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "variable-density"])
def test_random_lines_are_exactly_as_many_and_hold_the_reference(kind):
    for n in (96, 97, 368):
        spec = spec_of(kind=kind, acceleration=4, reference_lines=10)
        for k in range(10):
            sampled = spec.draw(address(1, "m", k), (8, n)).sampled
            assert sampled.sum() == n // 4
            assert sampled[centre_block(n, 10)].all()
    regular = lines.RegularSpec(acceleration=4, reference_lines=24).draw(address(1, "m"), (8, 368)).sampled
    as_many = spec_of(kind=kind, acceleration=4, lines="regular", reference_lines=24)
    assert as_many.draw(address(1, "m"), (8, 368)).sampled.sum() == regular.sum() == 110
    with pytest.raises(ValueError, match="has no regular mask"):
        spec_of(kind=kind, acceleration=3.5, lines="regular").draw(address(1, "m"), (8, 368))
    assert spec_of(kind=kind, lines=110, reference_lines=24).draw(address(1, "m"), (8, 368)).sampled.sum() == 110


@pytest.mark.parametrize(("n", "count"), [(368, 110), (320, 98), (288, 90)])
def test_regular_counts_of_the_paper(n, count):
    mask = lines.RegularSpec(acceleration=4, reference_lines=24).draw(address(1, "m"), (8, n))
    assert mask.sampled.sum() == count
    assert mask.sampled[n // 2]
    assert mask.sampled[n // 2 - 12 : n // 2 + 12].all()
    assert mask.net_acceleration == pytest.approx(n / count)


def test_lustig_density_and_draw_of_the_reference_case():
    # Lustig's genPDF / genSampling at n = 330, a quarter of the lines, radius 24/330: p = 4 gives 82 lines, peak 0.275
    density = lines.lustig_density(330, 82, 24, 4)
    assert np.floor(density.sum() + 1e-9) == 82
    assert (density == 1).sum() == 24
    np.testing.assert_allclose(density, density[::-1])
    sampled = lines.VariableDensitySpec(tries=100).draw(address(1, "m"), (8, 330)).sampled
    assert np.abs(np.fft.ifft(sampled / density))[1:].max() < 0.29
    for power in (2, 3):
        with pytest.raises(ValueError, match="raise the power"):
            lines.lustig_density(330, 82, 24, power)


def test_variable_density_finds_a_power_for_every_acceleration():
    for acceleration in (2, 3, 4, 6, 8, 10):
        spec = spec_of(kind="variable-density", acceleration=acceleration, reference_lines=24)
        assert spec.draw(address(1, "m"), (8, 368)).sampled.sum() == 368 // acceleration


def test_variable_density_is_denser_in_the_middle():
    spec = lines.VariableDensitySpec(reference_lines=0, power=3)
    mean = np.mean([spec.draw(address(1, "m", k), (8, 128)).sampled for k in range(200)], axis=0)
    assert mean[48:80].mean() > 2 * mean[:32].mean()


# Columns of fastMRI 0.3.0 for 40 columns, acceleration 4, center_fraction 0.1, seed 11 (made with that package).
FASTMRI = {
    "fastmri-random": [1, 6, 11, 14, 16, 17, 18, 19, 20, 21, 24, 25, 28],
    "fastmri-equispaced": [1, 5, 9, 13, 17, 18, 19, 20, 21, 25, 29, 33, 37],
    "fastmri-equispaced-fraction": [1, 7, 13, 18, 19, 20, 21, 25, 31, 37],
}


@pytest.mark.parametrize("kind", FASTMRI)
def test_fastmri_masks_are_as_recorded(kind):
    mask = lines.FastmriSpec(kind=kind, acceleration=4, center_fraction=0.1).mask(40, 11)
    assert np.flatnonzero(mask).tolist() == FASTMRI[kind]


@pytest.mark.parametrize("fraction", [0.25, 0.5])
@pytest.mark.parametrize("kind", ["fastmri-random", "fastmri-equispaced-fraction"])
def test_a_fastmri_mask_whose_centre_alone_has_too_many_lines_is_refused(kind, fraction):
    """10 of 40 lines are all that R = 4 allows: fastMRI divides by zero there."""
    spec = lines.FastmriSpec(kind=kind, acceleration=4, center_fraction=fraction)
    with pytest.raises(ValueError, match=f"center_fraction {fraction:g} keeps {round(40 * fraction)} of 40 lines"):
        spec.draw(np.random.default_rng(0), (8, 40))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FASTMRI)
def test_fastmri_masks_equal_the_package(kind):
    subsample = pytest.importorskip("fastmri.data.subsample")
    names = {
        "fastmri-random": subsample.RandomMaskFunc,
        "fastmri-equispaced": subsample.EquiSpacedMaskFunc,
        "fastmri-equispaced-fraction": subsample.EquispacedMaskFractionFunc,
    }
    for n in (320, 368, 371):
        for acceleration, fraction in ((4, 0.08), (8, 0.04), (5, 0.07)):
            spec = lines.FastmriSpec(kind=kind, acceleration=acceleration, center_fraction=fraction)
            for seed in range(40):
                theirs, low = names[kind]([fraction], [acceleration])((1, n, 2), seed=seed)
                assert np.array_equal(spec.mask(n, seed), theirs.numpy().ravel() == 1)
                assert low == round(n * fraction)


def test_caipi_moves_columns_by_the_shift():
    mask = points.Regular2DSpec(acceleration=(2, 3), shift=1, reference_lines=0).draw(address(1, "m"), (12, 18)).sampled
    assert mask.mean() == pytest.approx(1 / 6)
    rows = [np.flatnonzero(mask[y]) for y in range(12)]
    assert all(len(r) == (6 if y % 2 == 0 else 0) for y, r in enumerate(rows))
    assert np.array_equal((rows[2] + 1) % 3, rows[4] % 3)
    assert mask[6, 9]


@pytest.mark.parametrize(
    ("size", "acceleration"),
    [*itertools.product([(64, 64), (128, 127)], [1.5, 2, 2.5, 4, 6, 8, 12]), ((320, 368), 1.5), ((320, 368), 12)],
    ids=str,
)
def test_poisson_meets_its_acceleration_in_bounded_time(size, acceleration):
    spec = points.PoissonSpec(acceleration=acceleration, reference_lines=16)
    started = time.perf_counter()
    mask = spec.draw(address(1, "m"), size)
    assert time.perf_counter() - started < 20
    assert mask.net_acceleration == pytest.approx(acceleration, rel=0.03)
    assert mask.sampled[tuple(centre_block(n, 16) for n in size)].all()


def test_poisson_keeps_its_distance():
    radius = np.full((60, 60), 4.0)
    taken = points.poisson_disc(np.zeros((60, 60), bool), radius, address(1, "m"))
    y, x = np.nonzero(taken)
    distance = np.hypot(y[:, None] - y, x[:, None] - x) + 1e9 * np.eye(len(y))
    assert distance.min() >= 3  # 4 less a quarter
    assert len(y) > 60  # and it is full: 60^2 / (pi 5^2) discs at the least


@pytest.mark.parametrize("spec", [s for s in SPECS if isinstance(s, points.PointsSpec)], ids=lambda s: s.kind)
def test_impossible_points_are_refused(spec):
    with pytest.raises(ValueError, match="reference_lines = 60"):
        spec.model_copy(update={"reference_lines": 60}).capacity(SIZE)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "regular", "reference_lines": 97}, "reference_lines = 97"),
        ({"kind": "regular", "acceleration": 97}, "acceleration 97"),
        ({"kind": "uniform", "acceleration": 20, "reference_lines": 24}, "leaves 4 lines"),
        ({"kind": "gaussian", "lines": 5, "reference_lines": 24}, "leaves 5 lines"),
        ({"kind": "variable-density", "power": 1, "reference_lines": 8}, "raise the power"),
        ({"kind": "fastmri-random", "acceleration": 20}, "cannot be met"),
        ({"kind": "regular-2d", "acceleration": [2, 200]}, "cannot be met"),
        ({"kind": "poisson", "acceleration": 300, "reference_lines": 24}, "leaves 15 points"),
    ],
)
def test_impossible_masks_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        spec_of(**data).capacity(SIZE)


def test_mask_from_a_file(tmp_path):
    line, point = np.arange(96) % 3 == 0, np.eye(48, 96)
    for name, mask in (("line", line), ("point", point)):
        np.save(tmp_path / f"{name}.npy", mask)
        drawn = sampling.FileSpec(path=str(tmp_path / f"{name}.npy")).draw(address(1, "m"), SIZE)
        assert np.array_equal(drawn.sampled, mask != 0)
    np.save(tmp_path / "wrong.npy", np.ones(95))
    with pytest.raises(ValueError, match=r"need \(96,\)"):
        sampling.FileSpec(path=str(tmp_path / "wrong.npy")).capacity(SIZE)
    np.save(tmp_path / "empty.npy", np.zeros(96))
    with pytest.raises(ValueError, match="samples no position"):
        sampling.FileSpec(path=str(tmp_path / "empty.npy")).capacity(SIZE)
    np.save(tmp_path / "volume.npy", np.ones((1, 48, 96)))
    with pytest.raises(ValueError, match="has 3 axes; a mask is"):
        sampling.FileSpec(path=str(tmp_path / "volume.npy")).capacity(SIZE)


@pytest.mark.parametrize("sampled", [np.arange(12) % 3 == 0, np.eye(10, 12, dtype=bool)], ids=["lines", "points"])
def test_unpack_is_adjoint_of_pack(sampled, rng):
    from properties import assert_adjoint, complex_normal

    mask = Mask(sampled, 1.0)
    full = complex_normal(rng, 3, 10, 12)
    packed = mask.pack(full)
    assert_adjoint(mask.pack, lambda p: mask.unpack(p, (10, 12)), full, complex_normal(rng, *packed.shape))
    np.testing.assert_array_equal(mask.unpack(packed, (10, 12)), full * sampled)
