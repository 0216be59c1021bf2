"""Trainings and measurements by workers of a Dask scheduler that are processes of their own: with the
cache shared and without, killed, failing, and with the tables of one machine."""
import os
from contextlib import contextmanager
from pathlib import Path
import pandas as pd, pytest, torch
import cluster_jobs
from diffcirc.denoiser.diffusion import make_exam
from diffcirc.denoiser.readers import prediction_errors
from diffcirc.denoiser.training import TrainConfig
from diffcirc.denoiser.unet import UNetConfig
from diffcirc.faces.data import ATTRIBUTES, FaceSet
from diffcirc.study import cluster
from diffcirc.study.jobs import Job, compute
from diffcirc.study.models import train_all
distributed = pytest.importorskip('distributed')

@pytest.fixture(scope='module')
def workers(tmp_path_factory):
    "Two processes of one thread each; a nanny starts a new one for one that is killed."
    here, old = str(Path(__file__).parent), dict(os.environ)
    os.environ['PYTHONPATH'] = os.pathsep.join([here, os.environ.get('PYTHONPATH', '')])
    os.environ['OMP_NUM_THREADS'] = '1'
    folder = str(tmp_path_factory.mktemp('workers'))
    try:
        with distributed.LocalCluster(2, threads_per_worker=1, processes=True, local_directory=folder,
                                      dashboard_address=None) as c: yield c
    finally:
        os.environ.clear()
        os.environ.update(old)

@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DIFFCIRC_HOME', str(tmp_path/'home'))
    return tmp_path/'home'

@pytest.fixture(params=['shared', 'of its own'])
def disk(request, cache, monkeypatch):
    "A cache that workers share, or one whose mark they do not see."
    @contextmanager
    def unseen(folder): yield '.not-there'
    if request.param != 'shared': monkeypatch.setattr(cluster, '_marked', unseen)
    return request.param

def test_results_in_order_and_what_is_told(workers, cache):
    heard = []
    with cluster.on_cluster(workers.scheduler_address) as client:
        assert cluster.sent(client, cluster_jobs.double, [3, 1, 2], lambda x: heard.append(x)) == [6, 2, 4]
        pids = set(cluster.sent(client, cluster_jobs.whose, range(6), print))
    assert os.getpid() not in pids and sorted(heard) == [1, 2, 3]

def test_files_arrive(workers, disk, cache):
    with cluster.on_cluster(workers) as client:
        paths = cluster.sent(client, cluster_jobs.write, ['a', 'b'], print)
        assert [p.relative_to(cache).as_posix() for p in paths] == ['tables/a.txt', 'tables/b.txt']
        assert [p.read_text() for p in paths] == ['a', 'b']
        (cache/'more.txt').write_text('more')  # here alone: travels with the job that names it
        got = cluster.sent(client, cluster_jobs.read, [*paths, cache/'more.txt'], print)
    assert got == ['a read', 'b read', 'more read']

def test_a_killed_worker_loses_nothing(workers, disk, cache, tmp_path):
    with cluster.on_cluster(workers) as client:
        jobs = [(str(tmp_path/'died'), i) for i in range(4)]
        assert cluster.sent(client, cluster_jobs.die_once, jobs, print) == [0, 1, 2, 3]
    assert (tmp_path/'died').exists()

def test_a_job_is_tried_once_more_and_no_oftener(workers, cache, tmp_path):
    (tmp_path/'once').mkdir()
    (tmp_path/'twice').mkdir()
    with cluster.on_cluster(workers) as client:
        assert cluster.sent(client, cluster_jobs.fail_until, [(str(tmp_path/'once'), 1)], print) == [1]
        with pytest.raises(ValueError, match='this job fails'):
            cluster.sent(client, cluster_jobs.fail_until, [(str(tmp_path/'twice'), 2)], print)
    assert not list(cache.glob('.cluster-*'))  # the mark is taken away, whatever is raised

def test_other_code_is_refused(workers, cache, monkeypatch):
    monkeypatch.setattr(cluster, 'code_here', lambda: 'another')
    with cluster.on_cluster(workers) as client:
        with pytest.raises(ValueError, match='another version'):
            cluster.sent(client, cluster_jobs.double, [1], print)

def test_workers_of_several_threads_are_refused(cache):
    with distributed.LocalCluster(1, threads_per_worker=2, processes=False,
                                  dashboard_address=None) as c, cluster.on_cluster(c) as client:
        with pytest.raises(ValueError, match='--nthreads 1'):
            cluster.sent(client, cluster_jobs.double, [1], print)

# ------------------------------------------------------------------ the study's own jobs

def trained_and_measured():
    "Checksums of the weights of two trainings, and the table of their errors."
    g = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 16, 16, generator=g)*2 - 1
    faces = FaceSet('noise', images, pd.DataFrame(0., range(12), ATTRIBUTES), range(12))
    net = UNetConfig(16, 1, 8, (1, 2), temb=16, width=16)
    todo = [(faces, TrainConfig(net, steps=4, batch=4, seed=seed)) for seed in (0, 1)]
    runs = train_all(todo, workers=1)
    exam = make_exam(faces.images[:4], (100, 700))
    jobs = [Job(prediction_errors, run, exam, {}, 'noise', run.seed) for run in runs]
    compute(jobs, workers=1)
    return [run.weights for run in runs], pd.concat([j.table() for j in jobs], ignore_index=True)

def test_a_study_is_what_one_machine_makes(workers, disk, cache, tmp_path, monkeypatch):
    with cluster.on_cluster(workers): weights, table = trained_and_measured()
    assert len(list((cache/'runs').glob('*/model.safetensors'))) == 2
    assert len(list((cache/'tables').glob('*.parquet'))) == 2
    monkeypatch.setenv('DIFFCIRC_HOME', str(tmp_path/'alone'))
    alone, same = trained_and_measured()
    assert weights == alone
    pd.testing.assert_frame_equal(table, same)
