"""What the scripts of the gallery are given and what they leave: settings, figures, maps."""

import shutil
from pathlib import Path
from textwrap import indent

import jax
from sphinx_gallery.scrapers import figure_rst


def small_settings(conf, script):
    """Return the arguments of a script where the site is to be built in minutes."""
    return ["--smoke"]


def full_settings(conf, script):
    """Return the arguments of a script where it is to run as its reader would run it."""
    return []


def forget_machine_code(conf, script):
    """Give back what a script compiled: Linux allows a process so many maps, and all need more."""
    jax.clear_caches()


def of_a_script(block, variables, conf):
    """Show the figures that a script wrote into `out/`, and take them away from there."""
    shown = []
    for path in sorted(Path("out").glob("*.png")):
        shown.append(next(variables["image_path_iterator"]))
        shutil.move(path, shown[-1])
    figures = [figure_rst([path], conf["src_dir"]) for path in shown]  # each at full width
    return "\n".join(f"\n.. container:: picture\n\n{indent(one, '    ')}\n" for one in figures)
