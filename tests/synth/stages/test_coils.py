import numpy as np
import pytest

from synth.rng import rng as address
from synth.stages import coil_loops, coils
from synth.stages.coil_cache import MapCache

SHAPES = [(40, 46), (41, 45)]


def biot_savart(points, centre, normal, radius, segments=4000):
    """The integral itself, sum of dl x r / r^3 over short segments, in units of mu0 I / (2 pi) (so half of it)."""
    a = np.cross(normal, [0, 0, 1.0]) if abs(normal[2]) < 0.9 else np.cross(normal, [1.0, 0, 0])
    a /= np.linalg.norm(a)
    b = np.cross(normal, a)
    t = 2 * np.pi * (np.arange(segments) + 0.5) / segments
    wire = centre + radius * (np.cos(t)[:, None] * a + np.sin(t)[:, None] * b)
    step = radius * 2 * np.pi / segments * (-np.sin(t)[:, None] * a + np.cos(t)[:, None] * b)
    r = points[:, None] - wire
    return 0.5 * (np.cross(step, r) / np.linalg.norm(r, axis=-1, keepdims=True) ** 3).sum(1)


def test_loop_field_equals_the_integral(rng):
    points = rng.uniform(-1, 1, (30, 3))
    normal = np.array([0.6, 0.64, 0.48])
    field = coil_loops.loop_field(points, np.array([0.2, -1.6, 0.3]), normal, 0.7)
    np.testing.assert_allclose(field, biot_savart(points, np.array([0.2, -1.6, 0.3]), normal, 0.7), atol=2e-6)


def test_loop_field_on_the_axis_by_hand():
    # mu0 I a^2 / (2 (a^2 + z^2)^(3/2)), over mu0 I / (2 pi)
    field = coil_loops.loop_field(np.array([[0, 0, 0.0], [0, 0, 0.5]]), np.zeros(3), np.array([0, 0, 1.0]), 2.0)
    expected = [np.pi * 4 / (4 + z**2) ** 1.5 for z in (0, 0.5)]
    np.testing.assert_allclose(field, [[0, 0, expected[0]], [0, 0, expected[1]]], atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spec", [coils.LoopsSpec(count=5), coils.BirdcageSpec(count=5)], ids=lambda s: s.kind)
def test_maps_have_unit_norm_and_replay(spec, shape):
    maps = coils.draw_coils(spec, 1, 0).maps(shape)
    assert maps.shape == (5, *shape)
    assert maps.dtype == np.complex64
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, atol=1e-5)
    assert np.array_equal(maps, coils.draw_coils(spec, 1, 0).maps(shape))
    assert not np.allclose(maps, coils.draw_coils(spec, 1, 1).maps(shape), atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 15, 32])
def test_interpolated_maps_equal_direct_evaluation(count):
    shape = (61, 83)
    worst = 0.0
    for k in range(6):
        drawn = coils.LoopsSpec(count=count).draw(address(5, "test", k), k)
        diagonal = np.hypot(*shape)
        y, x = (2 * (np.arange(n) - n // 2) / diagonal for n in shape)
        worst = max(worst, np.abs(drawn.maps(shape) - coil_loops.normalise(drawn.fields(y, x))).max())
    assert worst < 2e-5


def test_loops_stay_outside_and_differ(rng):
    drawn = coils.LoopsSpec(count=8).draw(rng, 0)
    maps = np.abs(drawn.maps((64, 64)))
    peaks = {np.unravel_index(m.argmax(), m.shape) for m in maps}
    assert len(peaks) == 8
    assert all(y in (0, 63) or x in (0, 63) for y, x in peaks)  # every coil is strongest at the border


def test_numbers_replay_the_coils(rng):
    drawn = coils.LoopsSpec(count=4).draw(rng, 0)
    again = coil_loops.LoopCoils(**{key.removeprefix("coils_"): value for key, value in drawn.numbers().items()})
    assert np.array_equal(drawn.maps((20, 24)), again.maps((20, 24)))


def test_library_from_a_file(tmp_path, recipe, rng):
    maps = coil_loops.normalise(rng.standard_normal((4, 48, 56)) + 1j * rng.standard_normal((4, 48, 56)))
    for name, save in (("m.npy", np.save), ("m.npz", lambda f, a: np.savez(f, maps=a))):
        save(tmp_path / name, np.stack([maps, maps[::-1]]))
        made = recipe(coils={"kind": "library", "path": str(tmp_path / name)})
        assert (made.coils.count, made.coils.sets) == (4, 2)
        np.testing.assert_allclose(coils.draw_coils(made.coils, 0, 1).maps((48, 56)), maps[::-1], atol=1e-6)


def test_library_from_a_corpus(corpus, recipe):
    made = recipe(coils={"kind": "library", "path": str(corpus)})
    assert (made.coils.count, made.coils.sets) == (4, 2)
    original = coils.draw_coils(recipe().coils, 3, 1).maps((48, 56))
    np.testing.assert_allclose(coils.draw_coils(made.coils, 9, 1).maps((48, 56)), original, atol=1e-6)


def test_library_runs_no_pickle(tmp_path, recipe):
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        recipe(coils={"kind": "library", "path": str(tmp_path / "bad.npy")})


def test_wires_inside_the_field_of_view_are_refused():
    for bad in ({"distance": (0.9, 1.0)}, {"tilt": (-1.2, 1.2)}, {"distance": (1.01, 1.5)}):
        with pytest.raises(ValueError, match="field of view"):
            coils.LoopsSpec(count=8, **bad)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.ones((2, 4, 40, 56), complex), "its maps are 40x56"),
        (np.zeros((2, 4, 48, 56), complex), "set 0.*vanish"),
        (np.full((2, 4, 48, 56), np.nan + 0j), "set 0.*NaN or infinite"),
        (np.ones((4, 48, 56), complex), r"need complex \[set coil y x\]"),
        (np.ones((2, 4, 48, 56)), "need complex"),
    ],
)
def test_bad_libraries_are_refused_with_the_recipe(tmp_path, recipe, maps, message):
    np.save(tmp_path / "m.npy", maps)
    with pytest.raises(ValueError, match=f"coils.path.*{message}"):
        recipe(coils={"kind": "library", "path": str(tmp_path / "m.npy")})


def test_cache_holds_to_its_bytes():
    cache = MapCache(max_bytes=3 * 4 * 20 * 20 * 8)
    spec = coils.LoopsSpec(count=4)
    first = cache.get(spec, 0, 0, (20, 20))
    assert cache.get(spec, 0, 0, (20, 20)) is first
    for k in range(1, 5):
        cache.get(spec, 0, k, (20, 20))
    assert len(cache._maps) == 3
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
