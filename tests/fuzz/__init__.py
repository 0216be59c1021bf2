"""The campaign against faults: every kind of file, folder, argument and public function is damaged,
and what comes of it has to be right, or an error that this package raises itself, in a sentence that
names cause and remedy. `make fuzz` runs the whole campaign and writes benchmarks/faults.csv; the
tests beside it run a little of each part."""
