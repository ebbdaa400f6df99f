import numpy as np
import pytest

from pipelines.ready.names import RECIPES
from recon.data.device_pairs import DevicePairs
from synth.errors import RecipeError
from synth.plan import Plan
from synth.recipe import load_recipe
from synth.rng import rng as address
from synth.stages import coil_loops, coils
from synth.stages.coil_cache import MapCache
from synth.stages.outline import reach

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


@pytest.mark.parametrize("bad", [{"distance": (0.9, 1.0)}, {"tilt": (-1.2, 1.2)}, {"distance": (1.01, 1.5)}], ids=str)
@pytest.mark.parametrize("outline", ["none", "rimmed"])
def test_wires_in_an_object_that_fills_the_field_of_view_are_refused(recipe, outline, bad):
    with pytest.raises(ValueError, match=r"coils\.distance.*field of view.*reaches to 1\.000"):
        recipe(target={"outline": outline}, coils={"count": 8, **bad})


HEAD = {"count": 8, "distance": (0.72, 0.82), "tilt": (-0.05, 0.05)}


def wires(drawn):
    """Where the wires cross the image plane: [wire xy], in half diagonals."""
    crossings = []
    for r, h, a, angle, tilt, turn in zip(
        drawn.distance, drawn.height, drawn.radius, drawn.angle_rad, drawn.tilt_rad, drawn.turn_rad, strict=True
    ):
        facing = angle + np.pi + turn
        level = np.array([-np.sin(facing), np.cos(facing)])  # in the loop's plane and in the image plane
        steep = -np.sin(tilt) * np.array([np.cos(facing), np.sin(facing)])
        up = -h / np.cos(tilt)  # from the loop's centre to z = 0
        along = np.sqrt(a**2 - up**2)
        centre = r * np.array([np.cos(angle), np.sin(angle)])
        crossings += [centre + up * steep + sign * along * level for sign in (-1, 1)]
    return np.array(crossings)


@pytest.mark.parametrize("name", ["demo", "laptop"])
def test_no_wire_of_a_ready_recipe_is_in_an_object(name):
    made = load_recipe(RECIPES / f"{name}.toml")
    for matrix in made.target.matrix:
        half = np.array(matrix) / np.hypot(*matrix)
        for k in range(made.coils.sets):
            image = made.target.apply(np.ones(matrix, np.float32), matrix, address(3, "test", k))[0]
            y, x = np.nonzero(image)
            objects = np.stack([2 * half[1] * (x / matrix[1] - 0.5), 2 * half[0] * (y / matrix[0] - 0.5)], 1)
            crossings = wires(coils.draw_coils(made.coils, made.seed, k))
            assert np.linalg.norm(crossings, axis=1).min() > np.linalg.norm(objects, axis=1).max()
            apart = np.linalg.norm(crossings[:, None] - objects[None, ::7], axis=2).min()
            assert apart > 0.03  # a hundredth of the diagonal at least


def test_near_loops_need_air_around_the_object(recipe):
    # by hand, in a square, in half sides: a circle of half axis .45 (1 + 1/(.45 x 256)) whose centre is .02 off along y
    # and x. Lengths in half diagonals are 2/sqrt(2) times fractions of the side. Ellipses reach less far there.
    target = recipe(target={"outline": "head", "matrix": [256, 256], "fit": "resize"}).target
    by_hand = np.sqrt(2) * (0.45 * (1 + 1 / (0.45 * 256)) + 0.02 * np.sqrt(2))
    assert reach(target.outline, (256, 256)) == pytest.approx(by_hand, abs=1e-4)
    assert recipe(target={"outline": "head"}, coils=HEAD | {"distance": (0.8, 0.9)}).coils.distance == (0.8, 0.9)
    with pytest.raises(ValueError, match=r"outline = 'head' the object reaches to 0\.\d+"):
        recipe(target={"outline": "head"}, coils=HEAD | {"distance": (0.6, 0.9)})


@pytest.mark.parametrize("outline", ["ellipse", "head"])
def test_the_reach_holds_every_outline(recipe, outline):
    matrix = (48, 80)
    target = recipe(target={"outline": outline, "fit": "resize"}).target
    farthest = 0.0
    for k in range(300):
        y, x = np.nonzero(target.apply(np.ones(matrix, np.float32), matrix, address(1, "outline", k))[0])
        farthest = max(farthest, np.hypot(y + 0.5 - 24, x + 0.5 - 40).max() / np.hypot(24, 40))
    assert farthest < reach(target.outline, matrix) < farthest + 0.12


def test_maps_near_wires_are_finite_and_smooth_in_the_object():
    drawn = coils.LoopsSpec(**HEAD).draw(address(2, "test", 0), 0)
    assert drawn.nearest_wire < 1
    maps = drawn.maps((64, 64))
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, atol=1e-5)
    y, x = np.mgrid[-32:32, -32:32]
    inside = np.hypot(y, x) < 0.45 * 64
    assert np.abs(np.diff(maps, axis=2))[:, inside[:, 1:]].max() < 0.2
    # a pixel on a wire is finite, and close to the wire its loop is by far the strongest
    (x, y), *_ = wires(drawn)
    assert np.isfinite(drawn.fields(np.array([y]), np.array([x]))).all()
    near = np.abs(drawn.fields(np.array([y]), np.array([x + 1e-6])))
    assert near[0] > 1e3 * near[1:].max()


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
    assert len(cache._held) == 3
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


@pytest.mark.parametrize("distance", [(1.2, 1.5), (0.7, 0.8)])
def test_shading_is_the_fields_root_sum_of_squares(distance):
    """From the law of Biot and Savart at single pixels, for loops outside of the field of view and within it."""
    drawn = coils.draw_coils(coils.LoopsSpec(count=5, distance=distance), 0, 0)
    shape = (24, 32)
    shading = drawn.shading(shape)
    y, x = (2 * (np.arange(n) - n // 2) / np.hypot(*shape) for n in shape)
    strength = np.sqrt((np.abs(drawn.fields(y, x)) ** 2).sum(0))
    np.testing.assert_allclose(shading, strength / strength[12, 16], rtol=1e-5)
    assert shading[12, 16] == 1
    assert shading.max() > 1.5


def test_shaded_references_are_brighter_by_the_shading(recipe):
    """Nothing but the brightness changes, and the maps stay normalised."""
    given = [recipe(coils=more, noise={"kind": "none"}) for more in ({}, {"shading": True})]
    plain, shaded = (Plan.of(one).pair(0) for one in given)
    shading = coils.draw_coils(given[0].coils, given[0].seed, plain.maps_index).shading(plain.target.shape)
    assert plain.maps_index == shaded.maps_index
    np.testing.assert_allclose(shaded.target, plain.target * shading, rtol=1e-5)
    assert given[0].hash() != given[1].hash() == recipe(coils={"shading": True}, noise={"kind": "none"}).hash()
    with pytest.raises(RecipeError, match=r"coils\.shading is done on the host"):
        DevicePairs(given[1])
