"""Numbers and names in the text header of Siemens raw data.

They are in two notations: `sRXSPEC.alDwellTime[0] = 3100` in the protocol's listing (ASCCONV), and
`<ParamLong."alDwellTime"> { 3100 0 }` in the other parts (XProtocol).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = rb"([-+]?(?:0x[0-9a-fA-F]+|[0-9.]+(?:[eE][-+]?\d+)?))"
MAX_HEADER = 2**25
# How the reference lines of parallel imaging were measured: `sPat.ucRefScanMode`, as siemens_to_ismrmrd reads it.
CALIBRATION_MODES = {2: "embedded", 4: "separate", 8: "separate"}
# Microseconds per sample of noise lines in the adjustments that scanners make by these protocols, and on Numaris X, by
# siemens_to_ismrmrd's `compute_noise_sample_in_us`.
NOISE_DWELL = {"AdjCoilSens": 5.0, "AdjQuietCoilSens": 4.0}
NOISE_DWELL_NX = 5.0


@dataclass(frozen=True)
class TwixHeader:
    """The text header of one measurement."""

    text: bytes

    def number(self, name: str) -> float | None:
        """The number of a name such as 'sRXSPEC.alDwellTime', the first of an array; None where there is none."""
        last = re.escape(name.rpartition(".")[2].encode())
        listed = rb"(?m)^[ \t]*" + re.escape(name.encode()) + rb"(?:\[0\])?[ \t]*=[ \t]*" + NUMBER
        tagged = rb'<Param(?:Long|Double)\."' + last + rb'">\s{0,200}\{\s{0,200}(?:<Precision>\s{0,9}\d+\s{0,200})?'
        found = re.search(listed, self.text) or re.search(tagged + NUMBER, self.text)
        if found is None:
            return None
        text = found[1].decode()
        try:
            return float(int(text, 16)) if "0x" in text else float(text)
        except ValueError:
            return None

    def string(self, name: str) -> str:
        """The text of a name such as 'tProtocolName'; empty where there is none."""
        tagged = rb'<ParamString\."' + re.escape(name.encode()) + rb'">\s{0,200}\{\s{0,200}"([^"\n]{0,200})"'
        found = re.search(tagged, self.text)
        return found[1].decode("latin-1") if found else ""

    @property
    def dwell_us(self) -> float | None:
        """Time per sample of imaging lines; None where the header does not have it."""
        found = self.number("sRXSPEC.alDwellTime")
        return found / 1000 if found is not None and found > 0 else None

    @property
    def calibration_mode(self) -> str:
        """How reference lines were measured: embedded, separate, or empty where the header does not say so."""
        return CALIBRATION_MODES.get(int(self.number("sPat.ucRefScanMode") or 0), "")

    def noise_dwell_us(self, samples: int) -> float:
        """Time per sample of noise lines of so many samples, which no header has.

        Siemens scanners measure noise lines at 130 Hz per sample of the line, that is in 7.68 ms (7.69 ms before VD),
        except in the adjustments of `NOISE_DWELL` and on Numaris X (siemens_to_ismrmrd, `compute_noise_sample_in_us`).
        """
        if self.string("SoftwareVersions").startswith("syngo MR XA"):
            return NOISE_DWELL_NX
        return NOISE_DWELL.get(self.string("tProtocolName"), int(76800 / samples) / 10)
