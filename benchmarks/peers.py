"""The same sweep by the ways that others offer: one site after the other set to zero, the whole network
run for each. Every arm maps a denoiser to a function (exam batch, sites) → {site: mse (n,)}."""
import copy, logging, sys
from importlib.metadata import PackageNotFoundError, version
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
import torch
from diffcirc.denoiser.diffusion import image_errors
from diffcirc.denoiser.sites import find
from diffcirc.denoiser.unet import Point, head_parts

def version_of(package):
    "The installed version, None where there is none."
    try: return version(package)
    except PackageNotFoundError: return None

def module_of(net, site):
    "Name of the module whose output is edited at a site, and the head or None."
    s = find(net, site)
    if s.kind == 'skip': return site, None
    if s.kind == 'head': return f'{head_parts(site)[0]}.attn.z', s.head
    return f'{site}.update', None

def without(x, head=None):
    "What is left of a tensor (b, …) without one head, or at all: a new tensor."
    new = torch.zeros_like(x) if head is None else x.clone()
    if head is not None: new[:, head] = 0
    return new

def get(envoy, path):
    "`envoy.a.b.c` of a dotted path."
    for name in path.split('.'): envoy = getattr(envoy, name)
    return envoy

def errors(den, out, x, t, ε):
    "Squared error of each image, from what the network puts out."
    return image_errors(den.read(out, x, t), ε)

# ------------------------------------------------------------------ the arms

def plain_hooks(den):
    "PyTorch's own forward hooks."
    net = den.net
    def run(x, t, ε, sites):
        found = {}
        for site in sites:
            path, head = module_of(net, site)
            handle = net.get_submodule(path).register_forward_hook(
                lambda m, i, out, head=head: without(out, head))
            found[site] = errors(den, net(x, t), x, t, ε)
            handle.remove()
        return found
    return run

def by_nnsight(den):
    "A trace for each site, the value there replaced (nnsight.net, “Interventions”)."
    from nnsight import NNsight
    net, model = den.net, NNsight(den.net)
    def run(x, t, ε, sites):
        found = {}
        for site in sites:
            path, head = module_of(net, site)
            envoy = get(model, path)
            with model.trace(x, t):
                envoy.output = without(envoy.output, head)
                out = model.output.save()
            found[site] = errors(den, out, x, t, ε)
        return found
    return run

def by_pyvene(den):
    "An `IntervenableModel` for each site, with a function as the intervention (its README)."
    import pyvene
    net = copy.deepcopy(den.net)
    net.config = net.cfg  # it asks every model for a `config`
    def run(x, t, ε, sites):
        found = {}
        for site in sites:
            path, head = module_of(net, site)
            model = pyvene.IntervenableModel(
                {'component': f'{path}.output',
                 'intervention': lambda b, s, head=head: without(b, head)}, model=net)
            _, out = model(base=dict(x=x, t=t))
            found[site] = errors(den, out, x, t, ε)
        return found
    return run

def by_captum(den):
    "`LayerFeatureAblation` of each site's layer, its feature mask saying which head."
    from captum.attr import LayerFeatureAblation
    net = den.net
    def run(x, t, ε, sites):
        found = {}
        def mse(x, t): return errors(den, net(x, t), x, t, ε)
        clean = mse(x, t)
        for site in sites:
            path, head = module_of(net, site)
            layer = net.get_submodule(path)
            ablation = LayerFeatureAblation(mse, layer)
            change = ablation.attribute(x, 0, additional_forward_args=t,
                                        layer_mask=_mask(net, layer, head, x, t))
            mine = change if head is None else change[:, head]
            found[site] = clean - mine.flatten(1)[:, 0]  # the same in every entry of a feature
        return found
    return run

def _mask(net, layer, head, x, t):
    "Feature mask of a layer's output: one feature, or one per head."
    seen = []
    handle = layer.register_forward_hook(lambda m, i, out: seen.append(out.shape))
    net(x[:1], t[:1])
    handle.remove()
    mask = torch.zeros(1, *seen[0][1:], dtype=torch.long)
    if head is not None: mask += torch.arange(seen[0][1]).view(1, -1, 1, 1)
    return mask

def by_transformer_lens(den):
    "Its `HookPoint`s in the places of our points, `run_with_hooks` for each site."
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.HookedRootModule import HookedRootModule
    class Hooked(HookedRootModule):
        def __init__(self, net):
            super().__init__()
            self.net = net
            self.setup()
        def forward(self, x, t): return self.net(x, t)
    net = copy.deepcopy(den.net)
    for path in [n for n, m in net.named_modules() if isinstance(m, Point)]:
        parent, _, leaf = path.rpartition('.')
        setattr(net.get_submodule(parent), leaf, HookPoint())
    for m in net.modules():  # our layers ask their points whether somebody watches the map
        if isinstance(m, HookPoint): type(m).watched = False
    model = Hooked(net)
    def run(x, t, ε, sites):
        found = {}
        for site in sites:
            path, head = module_of(den.net, site)
            def hook(value, hook, head=head): return without(value, head)
            out = model.run_with_hooks(x, t, fwd_hooks=[(f'net.{path}', hook)])
            found[site] = errors(den, out, x, t, ε)
        return found
    return run

PEERS = {'nnsight': by_nnsight, 'pyvene': by_pyvene, 'captum': by_captum,
         'transformer-lens': by_transformer_lens}

def installed():
    "{package: arm} of the peers that are here."
    logging.getLogger().setLevel(logging.ERROR)
    module = {'transformer-lens': 'transformer_lens'}
    return {p: arm for p, arm in PEERS.items() if find_spec(module.get(p, p))}

def lucidrains():
    """denoising_diffusion_pytorch's module. It asks for torchvision, which only its `Trainer` uses and
    whose builds seldom fit a CPU build of torch: an empty stand-in for the length of the import."""
    names = ('torchvision', 'torchvision.transforms', 'torchvision.utils')
    if not find_spec('torchvision'): sys.modules.update({n: ModuleType(n) for n in names})
    for leaf in names[1:]:
        setattr(sys.modules[names[0]], leaf.rpartition('.')[2], sys.modules[leaf])
    try: return import_module('denoising_diffusion_pytorch.denoising_diffusion_pytorch')
    finally:
        for n in names: sys.modules.pop(n, None)
