"""python -m tinycl.cli"""

import contextlib

from tinycl.cli import main

with contextlib.suppress(BrokenPipeError):
    main()
