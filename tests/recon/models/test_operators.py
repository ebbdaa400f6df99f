"""The operators that a GPU runs as single kernels: their path of torch's operations, and on a GPU the kernels."""

import pytest
import torch

from recon.models import operators
from recon.models.cuda_graphs import FLAG, _pack, _unpack
from recon.models.rbf import RbfTable, rbf
from recon.models.sense import Sense, regularised_sense
from recon.models.solvers import conjugate_gradient
from recon.models.unrolled_sense import UnrolledSense, UnrolledSpec
from recon.models.variational import VariationalNetwork, VariationalSpec

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param


def complex_images(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def distance(found, expected):
    """Relative; places in a table of some hundred intervals are rounded to 1e-5 of an interval."""
    return float((found.cpu() - expected).norm() / expected.norm())


def batch_of(count=2, coils=6, rows=40, columns=48, seed=0):
    """Maps of norm 1, every fourth line and eight in the middle, and data without noise."""
    maps = complex_images(count, coils, 5, 6, seed=seed)
    maps = torch.complex(
        *(torch.nn.functional.interpolate(p, (rows, columns), mode="bicubic") for p in (maps.real, maps.imag))
    )
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    line = torch.arange(columns) - columns // 2
    mask = ((line % 4 == 0) | (line.abs() < 4)).expand(count, 1, 1, -1).contiguous()
    kspace = Sense(maps, mask).forward(complex_images(count, rows, columns, seed=seed + 10))
    target = complex_images(count, rows, columns, seed=seed + 10)
    return {
        "masked_kspace": kspace,
        "sens_maps": maps,
        "mask": mask,
        "target": target,
        "sigma": torch.full((count,), 0.1),
    }


def test_coil_combination_by_hand(device):
    images = torch.tensor([[[[1 + 2j]], [[3j]]]]).to(device)
    maps = torch.tensor([[[[1j]], [[2 + 0j]]]]).to(device)  # conj(i)(1 + 2i) + 2 * 3i = 2 - i + 6i
    assert operators.coil_combine(images, maps).item() == pytest.approx(2 + 5j)


@pytest.mark.parametrize("shared", [False, True], ids=["a set each", "one set"])
def test_coil_combination_is_the_sum_over_coils(device, shared):
    images, maps = complex_images(2, 5, 33, 41), complex_images(1 if shared else 2, 5, 33, 41, seed=1)
    expected = (images.to(torch.complex128) * maps.conj()).sum(1)
    found = operators.coil_combine(images.to(device), maps.to(device)).cpu()
    torch.testing.assert_close(found, expected.to(torch.complex64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("iterations", "tolerance"), [(3, 0.0), (40, 1e-5)])
def test_the_operators_make_the_iterations_of_conjugate_gradients(device, iterations, tolerance):
    matrix = torch.randn(3, 90, 90, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    matrix = matrix @ matrix.mT / 90
    right = torch.randn(3, 90, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shift = torch.tensor([0.5, 1.0, 5.0], dtype=torch.float64)  # samples that end at different times
    expected = conjugate_gradient(
        lambda p: (matrix @ p[..., None])[..., 0] + shift[:, None] * p,
        right,
        iterations=iterations,
        tolerance=tolerance,
    ).x
    x, r, p = torch.zeros_like(right).to(device), right.clone().to(device), right.clone().to(device)
    matrix, shift = matrix.to(device), shift.to(device)
    limit = tolerance * right.norm(dim=1).to(device)
    sums = torch.zeros((3, 3, operators.groups_of(90, x.device)), dtype=x.dtype, device=device)
    state, following = (torch.zeros((6, 3), dtype=x.dtype, device=device) for _ in range(2))
    state[operators.RZ], state[operators.LIVE], state[operators.LEFT] = r.square().sum(1), 1, iterations
    for _ in range(iterations + 5):  # the last five must change nothing
        q = (matrix @ p[..., None])[..., 0].contiguous()
        operators.cg_products(p, q, shift, sums)
        operators.cg_advance(x, r, p, q, sums, state, following, limit)
        operators.cg_turn(p, r, sums, state, following, limit)
        state, following = following, state
    assert not state[operators.GOING].any()
    torch.testing.assert_close(x.cpu(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["icg", "optox", "bart"])
def test_activation_and_gradients_are_those_of_the_table(device, kind):
    table, draw = RbfTable(31, kind), torch.Generator().manual_seed(4)
    x = (0.7 * torch.randn(2, 3, 20, 30, generator=draw)).requires_grad_()  # some beyond the outermost centres
    weights, g = torch.randn(3, 31, generator=draw).requires_grad_(), torch.randn(2, 3, 20, 30, generator=draw)
    made = rbf(x, weights, table)
    made.backward(g)
    coefficients = torch.einsum("kjn,fn->fkj", table.matrix.float(), weights.detach()).contiguous().to(device)
    given = x.detach().to(device)
    found = operators.rbf_values(given, coefficients, table.low, table.step).cpu()
    assert distance(found, made.detach()) < 1e-5
    how = 31, table.low, table.step, table.sigma, table.factor
    dx, dw = operators.rbf_gradients(given, g.to(device), coefficients, *how)
    assert distance(dx, x.grad) < 5e-5
    assert distance(dw, weights.grad) < 5e-5


def test_an_activation_of_nan_is_nan(device):
    table = RbfTable(9)
    coefficients = torch.einsum("kjn,fn->fkj", table.matrix.float(), torch.ones(1, 9)).contiguous().to(device)
    x = torch.tensor([[[[0.0, float("nan")]]]]).to(device)
    assert operators.rbf_values(x, coefficients, table.low, table.step).isnan().tolist() == [[[[False, True]]]]


@pytest.mark.gpu
@pytest.mark.parametrize("points", [False, True], ids=["lines", "points"])
@pytest.mark.parametrize("lam", [0.5, 20.0])
def test_graphs_solve_as_the_cpu_does(monkeypatch, points, lam):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    batch = batch_of()
    mask = batch["mask"].expand(-1, 1, 40, -1).contiguous() if points else batch["mask"]
    here = regularised_sense(batch["masked_kspace"], batch["sens_maps"], mask, lam=lam, tolerance=1e-5)
    given = [t.cuda() for t in (batch["masked_kspace"], batch["sens_maps"], mask)]
    there = []
    for graphs in ("0", "1", "1", "1", "1"):
        monkeypatch.setenv(FLAG, graphs)
        there.append(regularised_sense(*given, lam=lam, tolerance=1e-5).cpu())
    assert all(torch.equal(other, there[0]) for other in there[1:])  # the same kernels, in the same order
    assert (there[0] - here).norm() < 1e-4 * here.norm()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "network",
    [
        lambda: VariationalNetwork(VariationalSpec(stages=2, filters=4, kernel=5)),
        lambda: UnrolledSense(UnrolledSpec(iterations=2, channels=8, levels=2, noise_aware=True)),
        lambda: UnrolledSense(UnrolledSpec(iterations=2, channels=8, levels=2, shrinkage=True)),
    ],
    ids=["variational", "unrolled", "shrinkage"],
)
def test_networks_learn_the_same_with_and_without_graphs(monkeypatch, network):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    learnt = {}
    for device, graphs in (("cpu", "0"), ("cuda", "0"), ("cuda", "1")):
        monkeypatch.setenv(FLAG, graphs)
        model = network()
        for p in model.parameters():
            if not p.any() and p.ndim == 4:
                torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(1))
        model = model.to(device)
        batch = {name: t.to(device) for name, t in batch_of().items()}
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(6):  # a graph is recorded at the third step
            optimiser.zero_grad()
            image = model(batch)
            (image - batch["target"]).abs().square().mean().backward()
            optimiser.step()
        with torch.no_grad():
            for _ in range(4):
                image = model(batch)
        learnt[device, graphs] = torch.cat([p.detach().flatten().cpu() for p in model.parameters()]), image.cpu()
    for part in (0, 1):
        here, eager, graph = (learnt[key][part] for key in (("cpu", "0"), ("cuda", "0"), ("cuda", "1")))
        assert (graph - eager).norm() < 1e-5 * eager.norm()
        assert (eager - here).norm() < 1e-3 * here.norm()


def test_packed_gradients_keep_their_shapes_strides_and_values():
    plain, last = torch.arange(6.0).view(2, 3), torch.arange(24.0).view(1, 2, 3, 4)
    last = last.to(memory_format=torch.channels_last)
    complex_one = complex_images(2, 2)
    slopes = [plain, None, complex_one, last]
    packed = _pack([plain, complex_one, last])
    assert [p.dtype for p in packed] == [torch.float32, torch.complex64]
    found = _unpack(packed, slopes)
    packed[0].zero_()  # as when a graph is repeated
    assert found[1] is None
    for made, expected in ((found[0], plain), (found[2], complex_one), (found[3], last)):
        assert torch.equal(made, expected)
        assert made.stride() == expected.stride()


@pytest.mark.gpu
def test_gradients_of_two_batches_add_up():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    network = UnrolledSense(UnrolledSpec(iterations=2, channels=4, levels=1)).cuda()
    batches = [{name: t.cuda() for name, t in batch_of(seed=seed).items()} for seed in (0, 1)]

    def slopes(which):
        network.zero_grad()
        for batch in which:
            (network(batch) - batch["target"]).abs().square().mean().backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    for _ in range(3):  # recorded
        slopes(batches)
    both, one, other = slopes(batches), slopes(batches[:1]), slopes(batches[1:])
    assert (both - one - other).norm() < 1e-5 * both.norm()


@pytest.mark.gpu
def test_a_second_forward_pass_before_the_backward_pass_is_refused():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    network = VariationalNetwork(VariationalSpec(stages=1, filters=2, kernel=3)).cuda()
    batch = {name: t.cuda() for name, t in batch_of().items()}
    for _ in range(3):
        network(batch).abs().sum().backward()
    first = network(batch)
    network(batch)
    with pytest.raises(RuntimeError, match="FATHOM_CUDA_GRAPHS=0"):
        first.abs().sum().backward()
