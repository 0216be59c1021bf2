"Every instrument of the book on every kind of network: ours, and a wrapped diffusers UNet2DModel."
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
diffusers = pytest.importorskip('diffusers')
from diffcirc.book.protocols import protocols
from diffcirc.circuits.ablation import ablate, edited_samples, route_impacts, targets
from diffcirc.circuits.attention import (
    attention_stats, head_functions, head_importance, reference_maps)
from diffcirc.circuits.features import feature_stats, interaction, selectivity
from diffcirc.circuits.attribution import screened
from diffcirc.circuits.edges import exactness, frozen_error
from diffcirc.circuits.faithful import circuit_tests, circuits_by_size
from diffcirc.circuits.finding import by_corruption, edge_circuits, nodes_patched
from diffcirc.circuits.gradients import gradient_flow
from diffcirc.circuits.information import information_flow
from diffcirc.circuits.interruption import edge_impacts, kept_alone
from diffcirc.circuits.moments import across_time, aspect_circuits, aspect_responses
from diffcirc.circuits.outcomes import drifts, losses
from diffcirc.circuits.optimality import jacobian_basis, jacobian_stats
from diffcirc.circuits.probes import control_labels, probes
from diffcirc.circuits.temporal import component_impacts, cooperation
from diffcirc.circuits.transfer import gram, probe_transfer, stitch
from diffcirc.circuits.uses import attribute_control, pruning, training_on
from diffcirc.concepts.alignment import aligned_transfer
from diffcirc.concepts.composition import composition
from diffcirc.concepts.control import steering
from diffcirc.concepts.dictionaries import dictionary_quality
from diffcirc.concepts.gallery import concept_frames
from diffcirc.concepts.naming import concept_gallery, concept_labels, site_dictionaries
from diffcirc.concepts.pairs import pair_transfer
from diffcirc.concepts.stability import concept_answers
from diffcirc.core import preset
from diffcirc.denoiser.diffusers import ForeignUNet
from diffcirc.denoiser.diffusion import Denoiser, make_exam, untrained
from diffcirc.denoiser.readers import prediction_errors, read_exam
from diffcirc.denoiser.sites import sites
from diffcirc.denoiser.unet import UNetConfig
from diffcirc.study.samples import drawn, shown

def faces(n, seed):
    "Smooth made-up faces (n, 1, 16, 16)."
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))*2 - 1
    return torch.nn.functional.interpolate(x, size=16, mode='bilinear')

def wrapped(seed):
    torch.manual_seed(seed)
    return Denoiser(ForeignUNet(diffusers.UNet2DModel(
        sample_size=16, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), attention_head_dim=8,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D')).eval().requires_grad_(False)), 'ε')

def ours(seed): return untrained(UNetConfig(16, 1, 8, (1, 2), 1, 0, 16, 16, (1, 2, 1)), seed)

EXAM = make_exam(faces(8, 0), (300, 600))
REFS = reference_maps(EXAM.x0)
TOP = torch.arange(16).lt(5).float().view(1, 16, 1).expand(8, 16, 16)
HALVES = dict(top=TOP, rest=1 - TOP)

def probing():
    fit, test = faces(24, 1), EXAM.x0
    names = [f'control {i}' for i in range(8)]
    labels = control_labels(fit, test)
    return dict(fit=dict(images=fit, refs=reference_maps(fit), labels=labels[0]), names=names,
                test=dict(refs=REFS, labels=labels[1]))

TWO = dict(train={d: faces(20, i) for i, d in enumerate('ab')},
           test={d: faces(6, 9 + i) for i, d in enumerate('ab')}, labels={})
LEARNING = dict(fit=faces(8, 4), steps=10)
LABELS = pd.DataFrame(dict(hat=[0., 0, 1, 1]*2))
KNOWN = dict(images=faces(8, 6), regions=HALVES)
SAID = KNOWN | dict(labels=pd.DataFrame(dict(beard=[0., 1]*4, hat=[0., 0, 1, 1]*2)))
def said(x): return x[:, 0].flatten(1)[:, :2]  # two logits
def untaught(make):
    "Another network, and what it has learned."
    return dict(denoiser=make(1), learned=site_dictionaries(make(1), **LEARNING))

KINDS = ('block', 'skip', 'head', 'layer', 'group', 'level', 'random')
ASKED = {  # instrument → options, from the kind of network
    prediction_errors: lambda make: {}, drawn: lambda make: dict(n=2, steps=2),
    jacobian_stats: lambda make: dict(probes=2),
    jacobian_basis: lambda make: dict(k=2, block=3, depth=2),
    shown: lambda make: dict(n=2, steps=2, at=EXAM.timesteps),
    attention_stats: lambda make: {}, head_importance: lambda make: {},
    head_functions: lambda make: dict(refs=REFS), feature_stats: lambda make: {},
    selectivity: lambda make: dict(refs=REFS), interaction: lambda make: {},
    probes: lambda make: probing(), information_flow: lambda make: dict(method='renyi', shuffles=2),
    ablate: lambda make: dict(kinds=KINDS, how=('zero', 'mean', 'resample', 'noise', '×0.5')),
    gradient_flow: lambda make: {}, screened: lambda make: dict(points=1),
    edge_impacts: lambda make: {},
    exactness: lambda make: {}, frozen_error: lambda make: {},
    edge_circuits: lambda make: dict(methods=('exact', 'size', 'gradient', 'curvature', 'AtP*')),
    by_corruption: lambda make: dict(corruptions=('mean', 'attribute'), reference=faces(4, 2),
                                     switched=faces(8, 5)),
    circuit_tests: lambda make: dict(other=make(1), random=8, asked=2),
    circuits_by_size: lambda make: dict(asked=2),
    nodes_patched: lambda make: dict(corruptions=('image', 'noise'), methods=('size', 'curvature')),
    across_time: lambda make: {}, aspect_responses: lambda make: dict(switched=faces(8, 5)),
    aspect_circuits: lambda make: dict(switched=faces(8, 5)),
    pruning: lambda make: dict(fit=faces(8, 4), shares=(.5,), draws=1, steps=1),
    training_on: lambda make: dict(fit=faces(8, 4), draws=1, steps=1),
    attribute_control: lambda make: dict(pairs=dict(other=(EXAM.x0, faces(8, 5)))),
    kept_alone: lambda make: dict(others=faces(4, 2), draws=2),
    route_impacts: lambda make: {}, edited_samples: lambda make: dict(n=2, steps=2),
    losses: lambda make: dict(regions=HALVES),
    drifts: lambda make: dict(n=2, steps=3, features=torch.sin, other=make(1)),
    component_impacts: lambda make: {}, cooperation: lambda make: dict(kinds=('skip',)),
    gram: lambda make: {}, probe_transfer: lambda make: TWO,
    stitch: lambda make: dict(donors=dict(other=make(1)), fit=faces(12, 3)),
    dictionary_quality: lambda make: LEARNING,
    concept_labels: lambda make: dict(labels=LABELS, regions=HALVES, **LEARNING),
    concept_gallery: lambda make: dict(regions=HALVES, **LEARNING),
    composition: lambda make: dict(known=KNOWN, unseen=SAID, read=said, n=12, draw_steps=2,
                                   bare=untaught(make), **LEARNING),
    steering: lambda make: dict(known=SAID, read=said, n=2, draw_steps=3, asked=('top',),
                                bare=untaught(make), **LEARNING),
    concept_answers: lambda make: LEARNING,
    concept_frames: lambda make: dict(known=KNOWN, n=2, draw_steps=3, asked=('top',), **LEARNING),
    pair_transfer: lambda make: dict(pairs=dict(other=(EXAM.x0, faces(8, 5)))),
    aligned_transfer: lambda make: dict(pairs=dict(other=(EXAM.x0, faces(8, 5)),
        third=(EXAM.x0, faces(8, 7))), fit=6, steps=2)}

@pytest.mark.parametrize('make', [ours, wrapped], ids=['ours', 'wrapped'])
@pytest.mark.parametrize('instrument', ASKED, ids=lambda f: f.__name__)
def test_every_instrument_on_every_denoiser(instrument, make):
    denoiser = make(0)
    with torch.no_grad(): got = instrument(denoiser, EXAM, **ASKED[instrument](make))
    assert isinstance(got, pd.DataFrame) and len(got)
    numbers = got.select_dtypes('number')
    # drawings have no error and are no held-out image
    free = ['score', 'cv', 'other', 'iou', 'share', 'spill', 'loss_recovered']
    free += ['mse', 'accuracy', 'image']*(instrument is shown)
    free += ['kept_error', 'kept_distance']  # known of some circuits
    free += [c for c in got if c.isdigit()]*(instrument is concept_frames)  # maps are smaller
    always = numbers.drop(columns=free, errors='ignore')
    assert np.isfinite(always).all(axis=None)
    if 'site' in got:
        known = set(sites(denoiser.net)) | {n for k in KINDS for n in targets(denoiser.net, k)}
        # what is of no site: the intact network, and readings of the image itself
        assert set(got.site) <= known | {'clean', 'seen', 'picture'}

@pytest.mark.parametrize('make', [ours, wrapped], ids=['ours', 'wrapped'])
def test_readers_of_one_pass_say_what_each_says_alone(make):
    "Whatever instruments share the passes of a network, and in whatever order they are asked."
    denoiser = make(0)
    reading = [f for f in ASKED if hasattr(f, 'reader')]
    assert len(reading) >= 6
    with torch.no_grad(): alone = [f(denoiser, EXAM, **ASKED[f](make)) for f in reading]
    for order in (range(len(reading)), range(len(reading))[::-1]):
        asked = [reading[i].reader(**ASKED[reading[i]](make)) for i in order]
        for i, table in zip(order, read_exam(denoiser, EXAM, asked, batch=3)):
            pd.testing.assert_frame_equal(table, alone[i], atol=2e-3, rtol=1e-4)

def test_no_instrument_of_the_book_is_left_out():
    asked = {p.instrument for p in protocols(SimpleNamespace(preset=preset('smoke'))).values()}
    assert asked <= set(ASKED), {f.__name__ for f in asked - set(ASKED)}

@pytest.mark.parametrize('make', [ours, wrapped], ids=['ours', 'wrapped'])
def test_removing_a_level_removes_its_blocks(make):
    "Targets of kind `level` divide the blocks, whichever the network."
    net = make(0).net
    blocks = [b for group in targets(net, 'level').values() for b in group]
    assert sorted(blocks) == sorted(targets(net, 'block'))

@pytest.mark.parametrize('make', [ours, wrapped], ids=['ours', 'wrapped'])
def test_what_the_parts_lose_adds_up_to_the_impact(make):
    "Bands and regions of x̂0 divide what `ablate` measures on ε̂, whichever the network and its output."
    with torch.no_grad():
        lost = losses(make(0), EXAM, ('group',), ('zero',), HALVES)
        want = ablate(make(0), EXAM, ('group',)).set_index(['timestep', 'site', 'image']).impact
    for _, own in lost.groupby('kind'):
        sums = own.groupby(['timestep', 'site', 'image'])[['mse', 'clean']].sum().loc[want.index]
        lost_there = (sums.mse - sums.clean)/sums.groupby('timestep').clean.transform('mean')
        np.testing.assert_allclose(lost_there, want, rtol=1e-3, atol=1e-4)
