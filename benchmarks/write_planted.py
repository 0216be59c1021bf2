"""Draw and train the networks of the benchmark anew: `python benchmarks/write_planted.py`."""
from pathlib import Path
from diffcirc.trust.benchmark import all_specimens, write_benchmark

write_benchmark(Path(__file__).parent/'planted', all_specimens())
