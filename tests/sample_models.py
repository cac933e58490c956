"""Command: `python tests/sample_models.py CACHE_DIR` builds the sample models into a hub cache.

Only the command is here. `import sample_models` finds the package of that name beside this file.
"""

import argparse
import os
from pathlib import Path

from sample_models import NAMES, build


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the sample models, once, into a hub cache.")
    parser.add_argument("cache_dir", type=Path, help="what HF_HUB_CACHE names")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="only these (default: all)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such sample model: {', '.join(sorted(unknown))}")
    os.umask(0o022)
    build(options.cache_dir, names=options.names or NAMES)


if __name__ == "__main__":
    main()
