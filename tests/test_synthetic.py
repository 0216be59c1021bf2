"""The drawn faces: same seed, same face; masks that add up; attributes that do not contradict each
other."""
import subprocess, sys
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from diffcirc.faces.attributes import (
    EXCLUDED_BY, NEEDS, attribute_model, fit_attributes, sample_attributes, settle)
from diffcirc.faces.data import ATTRIBUTES, REGIONS
from diffcirc.faces.synthetic import balanced_attributes, draw_faces, switched, synthetic_faces


def test_another_process_draws_the_same_faces():
    code = ('from diffcirc.faces.synthetic import synthetic_faces; '
            'print(synthetic_faces(3, 32, 5).fingerprint)')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == synthetic_faces(3, 32, 5).fingerprint


@pytest.mark.parametrize('size', [32, 64])
def test_a_small_set_is_the_beginning_of_a_large_one(size):
    small, large = synthetic_faces(7, size, 3), synthetic_faces(40, size, 3)
    assert small.fingerprint == large[:7].fingerprint
    assert small.fingerprint != synthetic_faces(7, size, 4).fingerprint


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([16, 32, 40]), chunk=st.integers(1, 9))
def test_pictures_masks_and_chunks(seed, size, chunk):
    attrs = balanced_attributes(8, seed)
    images, masks = draw_faces(attrs, size, seed, chunk=chunk)
    assert images.shape == (8, 3, size, size) and images.dtype == np.float32
    assert np.isfinite(images).all() and -1 <= images.min() and images.max() <= 1
    assert masks.shape == (8, len(REGIONS), size, size) and (masks.sum(1, dtype=int) == 255).all()
    assert np.array_equal(images, draw_faces(attrs, size, seed)[0])
    assert images.reshape(8, -1).std(1).min() > .02                       # no blank picture


def test_bytes_lose_nothing():
    x = synthetic_faces(4, 32, 0).images
    assert torch.equal(((x + 1)*127.5).round().to(torch.uint8).float().div(127.5).sub(1), x)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 300))
def test_drawn_people_do_not_contradict_themselves(seed, n):
    t = sample_attributes(n, seed)
    assert list(t) == list(ATTRIBUTES) and t.isin([0, 1]).all(axis=None) and settle(t).equals(t)
    for a, others in EXCLUDED_BY.items(): assert not (t[a]*t[list(others)].max(axis=1)).any()
    for a, b in NEEDS.items(): assert (t[a] <= t[b]).all()
    assert t.iloc[:1].equals(sample_attributes(1, seed))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), attribute=st.sampled_from(ATTRIBUTES))
def test_switching_keeps_the_person(seed, attribute):
    base = sample_attributes(4, seed).assign(hat=0., eyeglasses=0.)
    off, on = (draw_faces(switched(base, attribute, v), 32, seed) for v in (0, 1))
    corner = off[1][:, 0, :4, :2] == 255                                  # pure background in both
    corner &= on[1][:, 0, :4, :2] == 255
    same = np.abs(off[0] - on[0])[:, :, :4, :2].max(1)[corner]
    assert same.size == 0 or same.max() < .12                # blur may reach in from a neighbour
    if attribute in ('hat', 'eyeglasses'):
        assert (np.abs(off[0] - on[0]).max((1, 2, 3)) > .05).all()


def test_refitting_finds_the_shipped_model():
    m, again = attribute_model(), fit_attributes(sample_attributes(20_000, 1))
    for a in ATTRIBUTES: assert abs(again['marginal'][a] - m['marginal'][a]) < .02
    assert np.abs(np.array(again['phi']) - m['phi']).max() < .06


@pytest.mark.parametrize('call, says', [
    (lambda: synthetic_faces(0), 'at least one'), (lambda: synthetic_faces(2, 33), 'multiple of 8'),
    (lambda: synthetic_faces(2, 512), 'multiple of 8'),
    (lambda: synthetic_faces(2, 32, -1), 'from 0 up'),
    (lambda: draw_faces(sample_attributes(2).drop(columns=['male'])), "lacks the columns ['male']"),
    (lambda: draw_faces(sample_attributes(0 + 2)[:0]), 'empty'),
    (lambda: switched(sample_attributes(2), 'hairy'), 'There is no attribute')])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says.replace('[', r'\[').replace(']', r'\]')): call()
