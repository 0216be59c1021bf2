"""Properties of the Jacobian's instruments that single examples cannot show, and a wrapped network
against its whole Jacobian."""
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from diffcirc.circuits.optimality import (
    clean_guess, differentiable, jacobian_basis, jacobian_stats, krylov, noise_scale, overlap,
    backward_of, pushed, with_sign)
from diffcirc.denoiser.diffusion import Denoiser, make_exam, ᾱ

def random(seed, *shape): return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

class Linear(nn.Module):
    "The denoiser x̂0 = A y of images (n, 1, 4, 4)."
    def __init__(self, A):
        super().__init__()
        self.register_buffer('A', A)

    def forward(self, x_t, t):
        a = ᾱ[t[0]].item()
        x0 = (x_t.flatten(1)@self.A.T/a**.5).view_as(x_t)
        return (x_t - a**.5*x0)/(1 - a)**.5

seeds = st.integers(0, 10_000)

@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([100, 500, 900]))
def test_any_matrix_is_estimated_without_bias(seed, t):
    A = random(seed, 16, 16)/4
    rows = jacobian_stats(Linear(A), make_exam(random(1, 400, 1, 4, 4), (t,)), 4, batch=100)
    def z(values, truth): return (values.mean() - truth)/(values.std()/len(values)**.5)
    assert abs(z(rows.trace, A.trace().item())) < 5
    assert abs(z(rows['size'], A.square().sum().item())) < 5
    assert abs(z(rows['skew'], (A - A.T).square().sum().item())) < 5
    assert abs(z(rows.posterior - rows.stein, 0)) < 5  # Stein's lemma, whatever the denoiser
    assert rows.asymmetry.between(0, 2).all()
    np.testing.assert_allclose(rows.posterior, noise_scale(t)**2*rows.trace/16, rtol=1e-5)

@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 4))
def test_krylov_is_exact_when_it_reaches_all_directions(seed, block):
    A = random(seed, 12, 12)
    A = (A + A.T)/2
    start = torch.linalg.qr(random(seed + 1, 12, block))[0]
    λ, U, residual = krylov(lambda Q: A@Q, start, 12//block)
    known = torch.linalg.eigvalsh(A).flip(0)
    assert (λ <= known[0] + 1e-4).all() and (λ >= known[-1] - 1e-4).all()
    np.testing.assert_allclose(U.T@U, np.eye(len(λ)), atol=1e-4)
    if 12 % block == 0:
        np.testing.assert_allclose(λ, known, atol=1e-3)
        assert residual.max() < 1e-2

def test_krylov_of_a_matrix_that_has_run_out_of_directions():
    u = torch.eye(10)[:, 0]
    λ, U, _ = krylov(lambda Q: torch.outer(u, u)@Q, torch.linalg.qr(random(0, 10, 2))[0], 4)
    np.testing.assert_allclose(λ, [1] + 7*[0], atol=1e-5)
    np.testing.assert_allclose(U.T@U, np.eye(8), atol=1e-4)

@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 6))
def test_overlap_is_of_spaces(seed, k):
    rng = np.random.default_rng(seed)
    A, B = (np.linalg.qr(rng.normal(size=(20, k)))[0].T for _ in range(2))
    turn = np.linalg.qr(rng.normal(size=(k, k)))[0]
    assert 0 <= overlap(A, B) <= 1 + 1e-9
    np.testing.assert_allclose([overlap(turn@A, B), overlap(B, A)], overlap(A, B))
    np.testing.assert_allclose(overlap(A, turn@A), 1)

def test_sign_and_batches_do_not_matter():
    A = random(3, 16, 16)
    np.testing.assert_array_equal(with_sign(A), with_sign(-A))
    exam = make_exam(random(1, 5, 1, 4, 4), (500,))
    one, two = (jacobian_stats(Linear(A), exam, 2, batch=b) for b in (1, 5))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
    again, other = (jacobian_stats(Linear(A), exam, 2, seed=s) for s in (0, 1))
    np.testing.assert_allclose(one, again, rtol=1e-4, atol=1e-4)
    assert (again.trace != other.trace).all()
    few = jacobian_basis(Linear(A), make_exam(exam.x0[:2], (500,)), 2, 4, 4)
    alone = jacobian_basis(Linear(A), make_exam(exam.x0[:1], (500,)), 2, 4, 4)
    np.testing.assert_allclose(few[few.image == 0], alone)

def test_a_wrapped_network_against_its_whole_jacobian():
    diffusers = pytest.importorskip('diffusers')
    from diffcirc.denoiser.diffusers import ForeignUNet
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), attention_head_dim=8,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'))
    denoiser = Denoiser(ForeignUNet(net.eval().requires_grad_(False)), 'ε')
    denoiser = denoiser.to(memory_format=torch.channels_last)
    D, y = clean_guess(differentiable(denoiser), 300), random(0, 1, 1, 8, 8)
    units = torch.eye(64).view(64, 1, 1, 8, 8)
    with sdpa_kernel(SDPBackend.MATH): J = torch.func.jacrev(D)(y).view(64, 64)
    np.testing.assert_allclose(pushed(D, y, units).view(64, 64).T, J, atol=1e-4)
    np.testing.assert_allclose(backward_of(D, y, units).view(64, 64), J, atol=1e-4)
