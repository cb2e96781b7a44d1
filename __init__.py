"""Lets `import tfkd` work from the folder above a clone that is named tfkd.

There Python takes the clone itself for the package; this hands over to the package in it.
"""

import sys
from importlib import util
from pathlib import Path

if __name__ == "tfkd":
    _package = Path(__file__).parent / "tfkd"
    _spec = util.spec_from_file_location(
        __name__, _package / "__init__.py", submodule_search_locations=[str(_package)]
    )
    sys.modules[__name__] = util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
