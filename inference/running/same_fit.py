"""Telling whether a checkpoint belongs to the fit that is asked for, and saying how they differ."""

import json
from typing import Any

import jax
import jax.numpy as jnp

from ..program.mesh import OnMesh
from . import crew

PLURAL = ("batches", "data", "settings", "versions")
MESH = "on a mesh"
SHORT = 40  # longer values are left out of the message
MANY = 6  # so many names are listed in the message
TOLD = ("cores", "group")  # parts of the layout that the message shows, never compared


def layout_of(engine: Any, sites: Any, on: OnMesh | None = None) -> dict[str, Any]:
    """Describe what else the bits of draws depend on: backend, precision, lanes mapped together.

    How XLA rounds the numbers of a lane depends on how many lanes are mapped at once, and so on
    the number of groups, one for each core. A loop over lanes (`batch_size=1`) is compiled apart
    from its body, unless it has one turn only. An engine may say that its lanes do not depend on
    any of this, as NUTS does. Cores and groups are there for the message and are not compared.

    XLA compiles for several devices by other passes than for one, so that on a mesh the draws of
    every engine may differ by rounding. A fit there may go on on any other mesh, as after a loss
    there are fewer devices.
    """
    lanes, batch_size = engine.num_lanes(sites), engine.lanes_at_once()
    groups = crew.num_groups(lanes, batch_size) if on is None else on.over_lanes
    group = -(-lanes // groups)
    together = "one alone" if group == 1 else "one by one" if batch_size == 1 else group
    if engine.alike_in_groups():
        together = "any"
    if on is not None:
        together = MESH
    return {
        "backend": jax.default_backend(),
        "precision": str(jnp.result_type(float)),
        "together": together,
        "group": group,
        "cores": crew.num_cores(),
    }


def plain(identity: Any) -> Any:
    """Return the description of a fit as it comes back from a JSON file."""
    return json.loads(json.dumps(identity))


def differences(saved: dict[str, Any], own: dict[str, Any]) -> str:
    """Say in which parts two fits differ, the saved value first; empty if they are the same."""
    said = []
    for name in dict.fromkeys([*own, *saved]):
        before, now = (_compared(name, identity.get(name)) for identity in (saved, own))
        if _same(before, now):
            continue
        details = _layouts(saved, own) if name == "layout" else _details(before, now)
        verb = "differ" if name in PLURAL else "differs"
        said.append(f"its {name} {verb}" + (f" ({details})" if details else ""))
    return " and ".join(said)


def _compared(name: str, value: Any) -> Any:
    if name == "layout" and isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in TOLD}
    return value


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JSON, which tells True from 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _details(saved: Any, own: Any) -> str:
    """Name the entries that differ, with their values if those are short."""
    if not (isinstance(saved, dict) and isinstance(own, dict)):
        values = (_short(saved), _short(own))
        return ", ".join(values) if all(values) else ""
    names = [n for n in dict.fromkeys([*own, *saved]) if not _same(saved.get(n), own.get(n))]
    names = ["class"] if "class" in names else names  # another class: all its settings are others
    said = []
    for name in names[:MANY]:
        values = [_short(group[name]) if name in group else "none" for group in (saved, own)]
        said.append(f"{name}: {', '.join(values)}" if all(values) else name)
    return "; ".join([*said, *(["and more"] if len(names) > MANY else [])])


def _short(value: Any) -> str:
    """Return a value as text, or nothing if it is long (a digest) or nested."""
    if isinstance(value, dict | list):
        return ""
    text = str(value)
    return "" if len(text) > SHORT else text


def _layouts(saved: dict[str, Any], own: dict[str, Any]) -> str:
    before, now = saved.get("layout"), own.get("layout")
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return ""
    together = {before.get("together"), now.get("together")}
    if len(together) == 1 or MESH in together:
        return _details(_compared("layout", before), _compared("layout", now))
    was, has = (
        f"{layout.get('cores')} core{'s' * (layout.get('cores') != 1)}, in groups of "
        f"{layout.get('group')} lane{'s' * (layout.get('group') != 1)}"
        for layout in (before, now)
    )
    return f"fitted on {was}; this process has {has}"
