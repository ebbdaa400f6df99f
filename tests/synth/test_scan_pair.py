import json
from dataclasses import replace

import numpy as np
import pytest
import zarr
from conftest import shared
from properties import complex_normal
from scan_files import header, write_mrd

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.inspect import inspect
from pipelines.corpus.verify import verify
from pipelines.scans.harvest_maps import harvest
from recon.data.datasets import PairDataset, VirtualPairs
from synth.calibration.espirit import espirit, maps_of_coils
from synth.calibration.scan_noise import calibrate
from synth.corpus.reader import open_corpus
from synth.errors import RecipeError, SourceRejectedError
from synth.physics import fft2c, ifft2c, rss
from synth.plan import Plan
from synth.process import one_blas_thread
from synth.recipe import parse_recipe
from synth.scan_pair import DOUBTED
from synth.scans.open import open_scan
from synth.sources.scan_slices import ScanItem, ScansSpec
from synth.stages.augmentation import Moved, rotated
from synth.stages.coil_library import random_unitary, resampled
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.target import TargetSpec
from synth.stages.virtual_coils import virtual_coils
from synth.storage.arrays import sha256_of

SYNC = ClusterSpec("sync")


def data(scans, **sections):
    found = {
        "name": "scans",
        "seed": 4,
        "source": {"kind": "scans", "path": str(scans)},
        "target": {"fit": "native"},
        "coils": {"kind": "espirit"},
        "noise": {"kind": "none"},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 24},
    }
    return {**found, **sections}


def recipe(scans, **sections):
    return parse_recipe(data(scans, **sections), "test")


def test_a_corpus_of_scans_is_built_verified_and_read(scans, tmp_path):
    made = build(recipe(scans), tmp_path / "c.zarr", SYNC)
    assert (made.pairs, made.rejected) == (4, 0)
    assert build(recipe(scans), tmp_path / "two.zarr", ClusterSpec(workers=2)).content_hash == made.content_hash
    found = verify(tmp_path / "c.zarr", replay=4)
    assert found.intact
    assert found.identical == 4
    assert [b.name for b in open_corpus(tmp_path / "c.zarr").buckets] == ["c6-y96-x80", "c5-y80-x72"]
    stored, virtual = PairDataset(tmp_path / "c.zarr"), VirtualPairs(recipe(scans))
    for position in range(4):
        for name, tensor in stored[position].items():
            np.testing.assert_array_equal(tensor, virtual[position][name], err_msg=name)
    item = stored[2]
    np.testing.assert_allclose(rss(item["sens_maps"].numpy()), 1, atol=1e-3)
    assert item["max_value"] == 1
    inspect(tmp_path / "c.zarr", tmp_path / "report")
    assert "only white noise that was added" in (tmp_path / "report" / "report.html").read_text()


def test_damaged_maps_of_a_pair_are_found_and_mended(scans, tmp_path):
    build(recipe(scans), tmp_path / "c.zarr", SYNC)
    file = next((tmp_path / "c.zarr" / "c6-y96-x80" / "maps" / "c").rglob("0"))
    file = file if file.is_file() else next(p for p in file.rglob("*") if p.is_file())
    changed = bytearray(file.read_bytes())
    changed[1000] ^= 1
    file.write_bytes(changed)
    assert "c6-y96-x80/pairs/0" in verify(tmp_path / "c.zarr").problems[0]
    assert build(recipe(scans), tmp_path / "c.zarr", SYNC).status == "mended"


def test_a_pair_is_what_it_says(scans):
    """K-space is the scan's, whitened and scaled, on the mask; the reference is sum conj(map) image; sigma is right."""
    plan = Plan.of(recipe(scans))
    pair = plan.pair(1)
    full = np.load(scans / "a.npy")[1]
    spectrum = pair.mask.unpack(pair.kspace, (96, 80))
    ratio = rss(spectrum)[:, pair.mask.sampled] / rss(full)[:, pair.mask.sampled]
    assert np.std(ratio) / np.mean(ratio) < 0.05  # whitening is nearly a scale here
    assert pair.numbers["sigma"] == pytest.approx(0.02 * np.mean(ratio), rel=0.05)
    unsampled = Plan.of(recipe(scans, sampling={"kind": "regular", "acceleration": 1})).pair(1)
    combined = np.sum(unsampled.maps.conj() * ifft2c(unsampled.kspace), axis=0)
    np.testing.assert_allclose(combined, unsampled.target, atol=1e-4)
    assert np.iscomplexobj(pair.target)
    assert np.abs(pair.target).max() == pytest.approx(1, abs=1e-5)


def test_noise_is_added_to_reach_an_snr(scans):
    """The background of the reference tells what sigma is in it: that of the scan, and that of the recipe."""
    plain = Plan.of(recipe(scans)).pair(2)
    noisy = Plan.of(recipe(scans, noise={"snr": plain.numbers["snr_rms"] / 4})).pair(2)
    assert noisy.numbers["snr_rms"] == pytest.approx(plain.numbers["snr_rms"] / 4, rel=1e-3)
    for pair in (plain, noisy):
        assert np.std(pair.target[:10, :10].real) == pytest.approx(pair.numbers["sigma"], rel=0.2)
    own = plain.numbers["sigma"] * plain.numbers["scale"]
    assert noisy.numbers["sigma_added"] * noisy.numbers["scale"] == pytest.approx(np.sqrt(15) * own, rel=1e-3)
    high = Plan.of(recipe(scans, noise={"snr": 1e6})).pair(2)
    assert high.numbers["sigma_added"] == 0
    clean = Plan.of(recipe(scans, noise={"snr": 2.0}, target={"fit": "native", "reference": "clean"})).pair(2)
    assert np.std(clean.target[:10, :10].real) < 0.5 * clean.numbers["sigma"]


def test_maps_are_from_the_noisy_reference_lines(scans):
    pair = Plan.of(recipe(scans)).pair(0)
    spectrum = pair.mask.unpack(pair.kspace, (96, 80))
    again = espirit(spectrum, reference=(24, 24)).maps[0]
    inside = np.abs(pair.target) > 0.2
    assert np.abs(np.sum(again.conj() * pair.maps, 0))[inside].min() > 0.9999


def test_coils_are_compressed_and_sizes_cropped_to_one_bucket(scans, tmp_path):
    made = recipe(scans, coils={"kind": "espirit", "count": 4}, target={"matrix": [72, 64], "fit": "crop"})
    build(made, tmp_path / "c.zarr", SYNC)
    (bucket,) = open_corpus(tmp_path / "c.zarr").buckets
    assert bucket.name == "c4-y72-x64"


def test_compression_keeps_white_noise_white_and_most_of_the_signal(rng):
    noise = complex_normal(rng, 8, 100, 100)
    less = virtual_coils(noise, 3).reshape(3, -1)
    np.testing.assert_allclose(less @ less.conj().T / less.shape[1], 2 * np.eye(3), atol=0.1)
    maps = draw_coils(LoopsSpec(count=8), 1, 0).maps((32, 32))
    assert np.linalg.norm(virtual_coils(maps, 6)) > 0.95 * np.linalg.norm(maps)


@pytest.mark.parametrize("shape", [(8, 9), (7, 6)])
def test_moves_are_exact_and_keep_the_centre(rng, shape):
    image = complex_normal(rng, 2, *shape)
    flipped = Moved(flip_y=True).apply(image)
    np.testing.assert_array_equal(Moved(flip_y=True).apply(flipped), image)
    np.testing.assert_array_equal(flipped[:, shape[0] // 2], image[:, shape[0] // 2])
    shifted = Moved(shift_x=2).apply(image)
    ramp = np.exp(-2j * np.pi * 2 * (np.arange(shape[1]) - shape[1] // 2) / shape[1])
    np.testing.assert_allclose(fft2c(shifted), fft2c(image) * ramp, atol=1e-5)
    drawn = Moved.draw(rng, TargetSpec(flip=True, shift=0.25, rotate=True), shape)
    assert drawn.quarter_turns == 0  # not square
    assert abs(drawn.shift_y) <= shape[0] / 4


@pytest.mark.parametrize("n", [8, 7])
def test_quarter_turns_keep_the_centre(rng, n):
    image = complex_normal(rng, 2, n, n)
    turned = Moved(quarter_turns=1).apply(image)
    np.testing.assert_array_equal(turned[:, n // 2, n // 2], image[:, n // 2, n // 2])
    np.testing.assert_array_equal(Moved(quarter_turns=3).apply(turned), image)
    spectrum = Moved(quarter_turns=1).apply(fft2c(image))
    np.testing.assert_allclose(fft2c(turned), spectrum, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (63, 80)])
def test_rotation_is_unitary_and_turns_from_x_towards_y(rng, shape):
    noise = complex_normal(rng, 2, *shape)
    turned = rotated(noise, 31)
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(noise), rel=1e-5)
    np.testing.assert_allclose(rotated(turned, -31), noise, atol=1e-5)
    y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")

    def blob(at_y, at_x):
        return np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 18) * np.exp(0.3j)

    cos, sin = np.cos(np.deg2rad(31)), np.sin(np.deg2rad(31))
    expected = blob(sin * 12 + cos * 5, cos * 12 - sin * 5)
    np.testing.assert_allclose(rotated(blob(5, 12).astype(np.complex64), 31), expected, atol=1e-4)


def test_geometric_compression_keeps_more(rng):
    """Noise stays white, neighbours along the readout agree, and as few virtual coils hold more of the signal."""
    maps = draw_coils(LoopsSpec(count=12), 1, 0).maps((64, 48))
    image = (maps * (1 + rng.random((64, 48)))).astype(np.complex64)
    plain, geometric = (virtual_coils(image, 4, how) for how in ("svd", "geometric"))
    assert np.linalg.norm(geometric) > np.linalg.norm(plain)
    assert np.linalg.norm(geometric) <= np.linalg.norm(image)
    noise = complex_normal(rng, 12, 64, 2000)
    less = virtual_coils(np.concatenate([100 * np.repeat(image, 40, 2)[:, :, :500], noise], axis=2), 4, "geometric")
    part = less[:, :, 500:].reshape(4, -1)
    np.testing.assert_allclose(part @ part.conj().T / part.shape[1], 2 * np.eye(4), atol=0.06)
    disc = image * ((np.arange(64) > 20) & (np.arange(64) < 44))[:, None]
    empty = virtual_coils(disc + 0.01 * complex_normal(rng, 12, 64, 48), 4, "geometric")[:, :16] / 0.01
    assert np.std(empty.real) == pytest.approx(1, abs=0.03)  # rows without signal are noise of sigma 1, not more
    steps = np.linalg.norm(np.diff(virtual_coils(maps, 4, "geometric"), axis=1), axis=(0, 2))
    assert steps.max() < 0.5 * np.linalg.norm(maps[:, 0])


def test_augmented_pairs_differ_and_replay(scans):
    moving = recipe(scans, pairs=12, target={"fit": "native", "flip": True, "shift": 0.1, "degrees": 20})
    pairs = [Plan.of(moving).pair(k) for k in (0, 4, 8)]  # the same slice
    assert len({(p.numbers["moved_flip_y"], p.numbers["moved_shift_x"]) for p in pairs}) > 1
    assert len({p.numbers["moved_degrees"] for p in pairs}) == 3
    assert all(abs(p.numbers["moved_degrees"]) <= 20 for p in pairs)
    assert Plan.of(moving).pair(4).digest() == pairs[1].digest()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"coils": {"kind": "loops"}}, "coils.kind = 'espirit'"),
        ({"target": {"fit": "resize"}}, "cropped or kept"),
        ({"target": {"fit": "native", "readout_oversampling": 2}}, "readout_oversampling"),
        ({"source": {"kind": "scans", "path": "/nowhere"}}, "does not exist"),
        ({"source": {"kind": "skimage"}, "target": {}}, "with source.kind 'skimage'"),
    ],
)
def test_recipes_that_cannot_be(scans, sections, message):
    with pytest.raises(RecipeError, match=message):
        Plan.of(recipe(scans, **sections))


def test_slices_that_cannot_be_used_are_rejected(scans, tmp_path):
    few = recipe(
        scans, source={"kind": "scans", "path": str(scans), "max_rejected": 1}, coils={"kind": "espirit", "count": 6}
    )
    made = build(few, tmp_path / "c.zarr", SYNC)
    assert (made.pairs, made.rejected) == (3, 1)
    (row,) = json.loads((tmp_path / "c.zarr" / "summary.json").read_text())["rejected"]
    assert "has 5 coils, but coils.count is 6" in row["reason"]


def test_items(scans):
    items = ScansSpec(kind="scans", path=str(scans)).list_files()
    assert items == ["a.npy#0@6x96x80", "a.npy#1@6x96x80", "a.npy#2@6x96x80", "b.npy#0@5x80x72"]
    assert str(ScanItem.parse(items[3])) == items[3]
    assert ScansSpec(kind="scans", path=str(scans / "b.npy")).list_files() == ["b.npy#0@5x80x72"]


def test_a_wrong_profile_rejects_with_both_names(scans, tmp_path):
    for covariance, message in ((1e4 * np.eye(6), "is not of this scan"), (np.eye(3), "the data have 6")):
        np.save(tmp_path / "psi.npy", covariance)
        noise = {"kind": "none", "covariance": str(tmp_path / "psi.npy")}
        with pytest.raises(SourceRejectedError, match=rf"a\.npy.*{message}|{message}.*psi\.npy"):
            Plan.of(recipe(scans, noise=noise)).pair(0)


def hamming_along_y(kspace):
    return kspace * np.hamming(kspace.shape[1])[:, None]


def gaussian_along_x(kspace):
    """Leaves 0.95 of sigma: the root of the mean of its square."""
    x = np.linspace(-1, 1, kspace.shape[-1])
    return kspace * 0.5 ** ((x / 2) ** 2)


@pytest.mark.parametrize(
    ("shaped", "message"),
    [(hamming_along_y, "neighbouring samples along y correlate by"), (lambda k: k, None)],
)
def test_noise_that_a_filter_has_shaped_is_refused_by_name(tmp_path, rng, shaped, message):
    """Sigma of a Hamming window's noise is 0.63 of the received noise's; pairs of version 1 were made all the same."""
    write_disc(tmp_path, rng, shaped)
    plan = Plan.of(recipe(tmp_path, noise={"snr": 5}))
    old = replace(plan, stages={"maps": 3}).pair(0)
    assert old.notes == ()
    if message is None:
        new = plan.pair(0)
        np.testing.assert_array_equal(new.kspace, old.kspace)
        assert (new.numbers, new.notes) == (old.numbers, ())
    else:
        with pytest.raises(SourceRejectedError, match=rf"s\.npy: its noise .*{message}.*give noise.covariance, or"):
            plan.pair(0)
        assert np.isnan(Plan.of(recipe(tmp_path)).pair(0).numbers["sigma"])  # noise.kind = "none" does not need it


def test_doubts_about_noise_are_told_with_pairs(tmp_path, rng):
    write_disc(tmp_path, rng, gaussian_along_x)
    plan = Plan.of(recipe(tmp_path))
    assert plan.pair(0).notes == (DOUBTED,)
    assert replace(plan, stages={"maps": 3}).pair(0).notes == ()
    made = build(recipe(tmp_path), tmp_path / "c.zarr", SYNC)
    assert f"1 pairs: {DOUBTED}" in made.notes


def write_disc(folder, rng, shaped):
    """A smooth disc in four coils in noise of sigma 1, as a file."""
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps((192, 160))
    y, x = (np.linspace(-1, 1, n) for n in (192, 160))
    image = 300 * np.clip(0.3 - y[:, None] ** 2 - x**2, 0, None) ** 2 / 0.09
    kspace = fft2c((image * maps).astype(np.complex64)) + complex_normal(rng, 4, 192, 160)
    np.save(folder / "s.npy", shaped(kspace).astype(np.complex64))


def test_unknown_noise_is_not_zero(tmp_path, rng):
    """An object that fills the field of view in all of a 32x32 scan: no noise to be seen."""
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps((48, 48))
    np.save(tmp_path / "full.npy", fft2c((maps * (1 + rng.random((48, 48)))).astype(np.complex64)))
    made = build(recipe(tmp_path), tmp_path / "c.zarr", SYNC)
    assert made.pairs == 1
    assert any("could not be learnt" in note for note in made.notes)
    item = PairDataset(tmp_path / "c.zarr")[0]
    assert item["sigma"].isnan()
    assert "could not be learnt" in (tmp_path / "c.zarr" / "README.md").read_text()
    assert verify(tmp_path / "c.zarr", replay=1).identical == 1


def test_an_snr_that_is_not_there_is_counted(scans, tmp_path):
    made = build(recipe(scans, noise={"snr": 1e6}), tmp_path / "c.zarr", SYNC)
    assert any("4 pairs have a lower SNR" in note for note in made.notes)


def test_files_that_are_no_scans_are_left_out(scans, tmp_path):
    import shutil

    folder = tmp_path / "mixed"
    shutil.copytree(scans, folder)
    np.save(folder / "psi.npy", np.eye(16).astype(np.complex64))
    spec = ScansSpec(kind="scans", path=str(folder))
    assert len(spec.list_files()) == 4
    assert "psi.npy" in spec.left_out()[0]
    assert build(recipe(folder), tmp_path / "c.zarr", SYNC).pairs == 4


def test_a_list_of_scans(scans, tmp_path):
    import shutil

    folder = tmp_path / "listed"
    shutil.copytree(scans, folder)
    (folder / "train.txt").write_text("# those for training\nb.npy\n\nb.npy\n")
    spec = ScansSpec(kind="scans", path=str(folder / "train.txt"))
    assert spec.list_files() == ["b.npy#0@5x80x72"]
    assert build(recipe(folder / "train.txt"), tmp_path / "c.zarr", SYNC).pairs == 1
    for text, message in (("../a.npy", "leads out"), ("c.npy", "does not exist"), ("#", "names no file")):
        (folder / "train.txt").write_text(text)
        with pytest.raises(RecipeError, match=message):
            Plan.of(recipe(folder / "train.txt"))


def test_soft_maps_fade_and_cropped_ones_end(scans):
    plain, cut, soft = (
        Plan.of(recipe(scans, coils={"kind": "espirit", **how})).pair(0)
        for how in ({}, {"crop": 0.95}, {"crop": 0.95, "soft": True})
    )
    outside = np.abs(plain.target) < 0.02
    assert rss(plain.maps)[outside].min() > 0.99
    assert (rss(cut.maps)[outside] == 0).mean() > 0.3
    assert 0 < np.median(rss(soft.maps)[rss(cut.maps) == 0]) < 1
    assert np.median(rss(soft.maps)[np.abs(plain.target) > 0.3]) > 0.99


def test_a_readout_that_was_cut_is_a_finding(scans, tmp_path):
    kspace = np.load(scans / "a.npy")[0]
    lines = [(kspace[:, :, x], x, 0, 0, {}) for x in range(80)]
    xml = header(encoded=(96, 80), recon=(96, 80), fov=(400, 200), centre=40, last=79)
    write_mrd(tmp_path / "over.h5", lines, xml)
    write_mrd(tmp_path / "cut.h5", lines, xml.replace("<x>400</x>", "<x>200</x>"))
    found = {name: Plan.of(recipe(tmp_path / f"{name}.h5")).pair(0).findings for name in ("over", "cut")}
    assert "oversampling-removed" not in found["over"]
    assert "oversampling-removed" in found["cut"]


def test_noise_alone_is_no_scan(tmp_path, rng):
    np.save(tmp_path / "n.npy", complex_normal(rng, 4, 96, 96))
    with pytest.raises(SourceRejectedError, match="noise alone"):
        Plan.of(recipe(tmp_path)).pair(0)


def test_a_shape_whose_pairs_were_all_rejected(scans, tmp_path):
    source = {"kind": "scans", "path": str(scans), "max_rejected": 1}
    np.save(tmp_path / "psi.npy", np.eye(6) * 1e-3)
    build(
        recipe(scans, source=source, noise={"kind": "none", "covariance": str(tmp_path / "psi.npy")}),
        tmp_path / "c.zarr",
        SYNC,
    )
    assert len(PairDataset(tmp_path / "c.zarr")) == 3


def test_a_stopped_harvest_goes_on(scans, tmp_path):
    spec = ScansSpec(kind="scans", path=str(scans))
    whole = harvest(spec, tmp_path / "lib.zarr", SYNC)
    (tmp_path / "lib.zarr").rename(tmp_path / "lib.zarr.building")
    import shutil

    shutil.rmtree(tmp_path / "lib.zarr.building" / "set-00001")
    before = (tmp_path / "lib.zarr.building" / "set-00000" / "zarr.json").stat().st_mtime_ns
    root = json.loads((tmp_path / "lib.zarr.building" / "zarr.json").read_text())
    root["attributes"] = {"harvest": whole["harvest"], "maps_version": 3}
    (tmp_path / "lib.zarr.building" / "zarr.json").write_text(json.dumps(root))
    again = harvest(spec, tmp_path / "lib.zarr", SYNC)
    assert again["content_hash"] == whole["content_hash"]
    assert (tmp_path / "lib.zarr" / "set-00000" / "zarr.json").stat().st_mtime_ns == before


def test_a_harvest_goes_on_with_the_maps_that_it_was_begun_with(scans, tmp_path):
    """A library that was begun by an earlier version, which stored no version of its maps."""
    spec = ScansSpec(kind="scans", path=str(scans))
    new = harvest(spec, tmp_path / "new.zarr", SYNC)
    root = zarr.open_group(str(tmp_path / "old.zarr.building"), mode="w", zarr_format=3)
    root.attrs["harvest"] = new["harvest"]
    old = harvest(spec, tmp_path / "old.zarr", SYNC)
    assert (new["maps_version"], old["maps_version"]) == (4, 1)
    scan = open_scan(scans / "a.npy")
    for library, version in ((new, 4), (old, 1)):
        found = library["sets"][1]
        profile = calibrate(scan, 1) if found["whitened"] else None
        with one_blas_thread():
            assert found["sha256"] == sha256_of(maps_of_coils(scan[1], profile, version)[0])


def test_resampled_maps_and_unitary_mixing(rng):
    coils = draw_coils(LoopsSpec(count=4), 1, 0)
    small, large = coils.maps((60, 50)), coils.maps((120, 100))
    cosine = np.abs(np.sum(resampled(small, (120, 100)).conj() * large, 0)) / rss(resampled(small, (120, 100)))
    assert np.percentile(cosine, 1) > 0.999
    u = random_unitary(5, rng)
    np.testing.assert_allclose(u @ u.conj().T, np.eye(5), atol=1e-6)


def test_the_real_head(tmp_path):
    path = shared("scans/head_tse_2ch_32sl/kdata_body.mat")
    made = build(recipe(path), tmp_path / "head.zarr", SYNC)
    assert (made.pairs, made.rejected) == (32, 0)
    assert verify(tmp_path / "head.zarr", replay=4).identical == 4
    assert not any(DOUBTED in note for note in made.notes)
    (bucket,) = open_corpus(tmp_path / "head.zarr").buckets
    background = np.asarray(bucket.arrays["target"][16])[
        50:78, :6
    ]  # beside the neck, in the flat middle of the readout
    assert np.std(background.real) == pytest.approx(bucket.numbers("sigma")[16], rel=0.25)
