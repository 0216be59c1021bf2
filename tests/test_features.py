"""Failure cases of the feature instruments that need networks of their own."""
import numpy as np, pytest, torch
from diffcirc.circuits.attention import reference_maps
from diffcirc.denoiser.diffusion import make_exam, untrained
from diffcirc.circuits.features import complexity, feature_stats, interaction, selectivity
from diffcirc.circuits.probes import auc, best_layers, onsets, probes
from diffcirc.denoiser.unet import UNetConfig

CFG = UNetConfig(16, 1, 8, (1, 2), width=16, temb=8)

@pytest.fixture(scope='module')
def den(): return untrained(CFG)

def images(n, seed=0):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))*2 - 1

def test_one_image(den):
    exam = make_exam(images(1), (300,))
    stat = feature_stats(den, exam)
    assert np.isfinite(stat.drop(columns=['layer', 'of'])).all(axis=None)
    assert len(stat) == 2*len(stat.layer.unique())
    sel = selectivity(den, exam, reference_maps(images(1)))
    assert sel.r.between(0, 1.0001).all() and sel.other.isna().all()
    with pytest.raises(ValueError, match='too few'): interaction(den, exam)

def test_constant_activations():
    d = untrained(CFG)
    for p in d.parameters(): p.zero_()
    exam = make_exam(images(4), (300,))
    stat = feature_stats(d, exam)
    assert (complexity(stat) == 0).all() and complexity(stat, scale_free=True).isna().all()
    sel = selectivity(d, exam, reference_maps(images(4)))
    assert (sel.r == 0).all() and (sel.p == 1).all()

def test_nan_names_the_layer():
    d = untrained(CFG)
    d.net.get_submodule('mid.attn').proj_out.bias[0] = torch.nan
    with pytest.raises(ValueError, match='of mid.attn hold NaN'):
        feature_stats(d, make_exam(images(2), (300,)))

def test_batches_do_not_matter(den):
    exam, refs = make_exam(images(7), (300,)), reference_maps(images(7))
    a, b = (selectivity(den, exam, refs, batch=n) for n in (3, 7))
    np.testing.assert_allclose(a[['r', 'other']], b[['r', 'other']], atol=1e-5)
    a, b = (interaction(den, exam, batch=n) for n in (3, 7))
    np.testing.assert_allclose(a.cka, b.cka, rtol=1e-4)

def test_probe_finds_what_is_there_and_nothing_else(den):
    "Labels that are in the image are read; shuffled labels are not."
    g, both = torch.Generator().manual_seed(3), (images(120, 1), images(60, 2))
    brighter = [(x[:, 0, :8].mean((1, 2)) > x[:, 0, 8:].mean((1, 2))).float() for x in both]
    labels = [np.stack([v, torch.randint(0, 2, v.shape, generator=g).float()], 1) for v in brighter]
    fit, test = (dict(refs=reference_maps(x), labels=y) for x, y in zip(both, labels))
    out = probes(den, make_exam(both[1], (20,)), dict(images=both[0], **fit), test,
                 ['brighter above', 'shuffled'])
    best = out[out.layer != 'noisy image'].groupby('target').score.max()
    assert best['brighter above'] > .8 and best['intensity'] > .5
    assert out[out.target == 'shuffled'].score.between(.25, .75).all()

def test_no_attribute_known(den):
    "Faces without attributes: maps and controls alone."
    fit, test = (dict(refs=reference_maps(images(n, n)), labels=np.zeros((n, 0), 'float32'))
                 for n in (12, 9))
    exam = make_exam(images(9, 9), (100, 300))
    out = probes(den, exam, dict(images=images(12, 12), **fit), test, [])
    assert set(out.kind) == {'map'}
    types = set(onsets(best_layers(out.assign(dataset='natural', seed=0))).type)
    assert types <= {'edges', 'texture', 'intensity'}

def test_auc_that_cannot_be_told():
    assert np.isnan(auc([1., 2], [0, 0])) and np.isnan(auc([np.nan, 2], [0, 1]))
