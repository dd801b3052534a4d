"""Draw the pictures of docs/plots.md by its own blocks.

    python docs/draw_plots.py

The PNGs go into docs/images.
"""

import os
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent

if __name__ == "__main__":
    os.chdir(DOCS / "images")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "plots.md").read_text(), re.DOTALL):
        exec(block, names)
