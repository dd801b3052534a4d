"""What a checkpoint is of, and how it differs from what is asked of it."""

import json
from typing import Any

import jax
import jax.numpy as jnp

from . import crew

PLURAL = ("data", "settings", "versions")
SHORT = 40  # letters of a value that is said
MANY = 6  # names that are said
TOLD = ("cores", "group")  # of the layout, and not compared


def layout_of(engine: Any, sites: Any) -> dict[str, Any]:
    """Describe what else the bits of a fit's draws depend on: platform, precision, lanes together.

    XLA rounds a lane's numbers by the shape of what it is computed with: by how many lanes are
    mapped at once, and so by the number of groups, one for each core. It keeps a loop over lanes
    (`batch_size=1`) apart from its body but where the loop has one turn. An engine may say that
    none of this is so of its lanes, as NUTS does. Cores and groups are told and not compared.
    """
    lanes, batch_size = engine.num_lanes(sites), engine.lanes_at_once()
    group = lanes // crew.num_groups(lanes, batch_size)
    together = "one alone" if group == 1 else "one by one" if batch_size == 1 else group
    return {
        "backend": jax.default_backend(),
        "precision": str(jnp.result_type(float)),
        "together": "any" if engine.alike_in_groups() else together,
        "group": group,
        "cores": crew.num_cores(),
    }


def plain(identity: Any) -> Any:
    """Return an identity as JSON gives it back."""
    return json.loads(json.dumps(identity))


def differences(saved: dict[str, Any], own: dict[str, Any]) -> str:
    """Say in which parts two identities differ, what was saved first; empty where in none."""
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
    """Whether two values are equal in JSON, where True is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _details(saved: Any, own: Any) -> str:
    """Name the entries that differ, and say those that are short."""
    if not (isinstance(saved, dict) and isinstance(own, dict)):
        values = (_short(saved), _short(own))
        return ", ".join(values) if all(values) else ""
    names = [n for n in dict.fromkeys([*own, *saved]) if not _same(saved.get(n), own.get(n))]
    names = ["class"] if "class" in names else names  # of another class all is other
    said = []
    for name in names[:MANY]:
        values = [_short(group[name]) if name in group else "none" for group in (saved, own)]
        said.append(f"{name}: {', '.join(values)}" if all(values) else name)
    return "; ".join([*said, *(["and more"] if len(names) > MANY else [])])


def _short(value: Any) -> str:
    """Spell a value where it is short and no digest; else nothing."""
    if isinstance(value, dict | list):
        return ""
    text = str(value)
    return "" if len(text) > SHORT else text


def _layouts(saved: dict[str, Any], own: dict[str, Any]) -> str:
    before, now = saved.get("layout"), own.get("layout")
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return ""
    if before.get("together") == now.get("together"):
        return _details(_compared("layout", before), _compared("layout", now))
    was, has = (
        f"{layout.get('cores')} core{'s' * (layout.get('cores') != 1)}, in groups of "
        f"{layout.get('group')} lane{'s' * (layout.get('group') != 1)}"
        for layout in (before, now)
    )
    return f"fitted on {was}; this process has {has}"
