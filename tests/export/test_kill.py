import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import forked

from tfkd.export.checks import check_saved_model
from tfkd.export.loading import checksums
from tfkd.export.saved_model import export_saved_model


def test_a_reader_never_sees_a_version_that_fails_however_the_exporter_is_killed(student, tmp_path):
    """The reader lists the directory every 50 ms as TensorFlow Serving does and loads and runs
    whatever it sees at once. `benchmarks/serving.py` does the same for longer."""
    base, seen, stop = tmp_path / "student", {}, threading.Event()
    base.mkdir()

    def look():
        for name in os.listdir(base):
            if name.isdecimal() and name not in seen:
                seen[name] = loaders.submit(check_saved_model, base / name), checksums(base / name)

    def poll():
        while not stop.wait(0.05):
            look()

    def export(seconds=None):
        process, start = forked.started(export_saved_model, student, base), time.monotonic()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode, time.monotonic() - start

    with ThreadPoolExecutor(2) as loaders:
        reader = threading.Thread(target=poll)
        reader.start()
        export(seconds=0)  # killed at once; the processes after it need not wait for the import
        code, duration = export()
        assert code == 0
        moments = random.Random(0)
        killed = [export(duration * moments.uniform(0.1, 1.0))[0] for _ in range(3)]
        assert -9 in killed and set(killed) <= {-9, 0}
        assert export()[0] == 0
        stop.set()
        reader.join()
        look()
    for name, (loaded, at_first_sight) in seen.items():
        assert loaded.result()["warmup_records"] == 4
        assert checksums(base / name) == at_first_sight
    assert sorted(os.listdir(base)) == sorted(seen)  # nothing half done stayed
    assert len(seen) >= 2
