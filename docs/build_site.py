"""Build the documentation site: `python docs/build_site.py [FOLDER]`, or `nox -s docs`.

Gathers the pages (those in docs/, those kept elsewhere, the generated ones) in a temporary folder, and has
mkdocs turn them into the HTML of FOLDER (default: site). Warnings, such as a link to a page that is not
there, are errors. The pages are gathered here and not by a hook of mkdocs, because Zensical, which succeeds
mkdocs-material, reads the same folder and the same mkdocs.yml, but runs no hooks.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from generators.staging import ROOT, stage


def build(site: Path) -> int:
    """Write the site to a folder, replacing what was there; the exit status of mkdocs."""
    with TemporaryDirectory() as folder:
        config = stage(Path(folder), site)
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
        # mkdocs-material would print an advertisement.
        return subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}).returncode


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else "site").resolve()))
