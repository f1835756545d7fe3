"""Energy of the CPU: the counters of its packages, as Linux's power capping shows them."""

from pathlib import Path
from typing import Final

from bench.backends.base import Unknown

_ZONES: Final = "class/powercap/intel-rapl:[0-9]*"
_before: dict[Path, int] = {}
_wrapped: dict[Path, int] = {}


def package_joules(sys: Path = Path("/sys")) -> float:
    """Return the joules that all packages have used since some moment of the past.

    A counter starts anew at `max_energy_range_uj`, after minutes: read it at least that often.

    Raises:
        Unknown: There is no counter, or only root may read it.
    """
    # Zones with a second number are parts of a package.
    zones = [zone for zone in sys.glob(_ZONES) if zone.name.count(":") == 1]
    if not zones:
        raise Unknown("no energy counter of the CPU (/sys/class/powercap is empty)")
    total = 0
    for zone in zones:
        try:
            now = int((zone / "energy_uj").read_text())
            span = int((zone / "max_energy_range_uj").read_text())
        except OSError as error:
            raise Unknown(
                f"the energy counter of the CPU may not be read ({error.filename}): run as root, or"
                f" `sudo chmod a+r {zone}/energy_uj`"
            ) from error
        if now < _before.get(zone, 0):
            _wrapped[zone] = _wrapped.get(zone, 0) + span
        _before[zone] = now
        total += now + _wrapped.get(zone, 0)
    return total / 1e6
