"""What a command that was cut off has left to do: told by every command until it is done."""

from __future__ import annotations

from pathlib import Path

from edge.errors import InputError
from provisioning.deploy import BrokerSettings, outdated
from provisioning.fleet import Fleet
from provisioning.handover import Handover, Stage

_CUT_OFF = {
    Stage.ANNOUNCING: "run `hadir-provision rotate-fleet` again",
    Stage.SWITCHING: "run `hadir-provision rotate-fleet` again",
    Stage.FINISHING: "run `hadir-provision rotate-fleet --finish` again; until then what is old is believed still",
}


def unfinished(fleet: Fleet) -> tuple[str, ...]:
    """A line for each thing that was decided and is not carried out."""
    return (*_handover(fleet), *_broker(fleet))


def _handover(fleet: Fleet) -> tuple[str, ...]:
    what_to_do = _CUT_OFF.get(Handover.of(fleet).stage)
    return () if what_to_do is None else (f"a change of all keys was cut off: {what_to_do}",)


def _broker(fleet: Fleet) -> tuple[str, ...]:
    try:
        folder = Path(BrokerSettings.of(fleet).folder)
    except InputError:
        return ()  # not set up yet
    names = outdated(fleet, folder)
    if not names:
        return ()
    return (
        f"{', '.join(str(folder / name) for name in names)}: not as the registry has it, so whoever is out may be "
        "let in still: run `hadir-provision broker` and see that the broker gets it",
    )
