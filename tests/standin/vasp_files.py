"""The files of VASP as the stand-in reads and writes them: as much as custodian, pymatgen and emmet look at."""

from itertools import groupby
from pathlib import Path

import numpy as np

OUTPUTS = ("OSZICAR", "OUTCAR", "vasprun.xml", "CONTCAR")
DEFAULTS = {
    "PREC": "Normal",
    "ENCUT": 400.0,
    "EDIFF": 1e-4,
    "NELM": 60,
    "NELMIN": 2,
    "NSW": 0,
    "ISIF": 2,
    "PSTRESS": 0.0,
    "ISPIN": 1,
    "ISMEAR": 1,
    "SIGMA": 0.2,
    "KSPACING": 0.5,
    "GGA": "PE",
    "METAGGA": "--",
    "LHFCALC": False,
    "LDAU": False,
    "LORBIT": 0,
    "ALGO": "Normal",
}
KBAR = 1602.1766208  # of one eV/A^3


def scalar(text):
    """Read a value of an INCAR."""
    if text.upper() in {".TRUE.", "T", "TRUE"}:
        return True
    if text.upper() in {".FALSE.", "F", "FALSE"}:
        return False
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_incar():
    pairs = (line.split("=", 1) for line in Path("INCAR").read_text().splitlines() if "=" in line)
    return {key.strip().upper(): scalar(value.strip()) for key, value in pairs}


def read_poscar():
    """Return cell (rows, A), symbols and fractional coordinates."""
    lines = Path("POSCAR").read_text().splitlines()
    cell = float(lines[1]) * np.array([line.split()[:3] for line in lines[2:5]], float)
    symbols = [s for s, n in zip(lines[5].split(), lines[6].split(), strict=True) for _ in range(int(n))]
    assert lines[7].strip().lower().startswith("d")
    return cell, symbols, np.array([line.split()[:3] for line in lines[8 : 8 + len(symbols)]], float)


def read_potcar():
    """Return title, number of electrons and ENMAX of each data set."""
    sets, current = [], {}
    for line in Path("POTCAR").read_text().splitlines():
        for key in ("TITEL", "ZVAL", "ENMAX"):
            if f"{key} " in line:
                current[key] = line.split(key, 1)[1].split("=")[1].split(";")[0].strip()
        if "End of Dataset" in line:
            sets.append((current["TITEL"], float(current["ZVAL"].split()[0]), float(current["ENMAX"])))
    return sets


def rows(values, form="{:.8f}"):
    return "".join("<v>" + " ".join(form.format(x) for x in row) + "</v>\n" for row in values)


def varray(name, values):
    return f'<varray name="{name}">\n{rows(values)}</varray>\n'


def entry(name, value):
    """Return an entry of vasprun.xml."""
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}">{"T" if value else "F"}</i>\n'
    if isinstance(value, int):
        return f'<i type="int" name="{name}">{value}</i>\n'
    if isinstance(value, float):
        return f'<i name="{name}">{value:.8f}</i>\n'
    return f'<i type="string" name="{name}">{value}</i>\n'


def energies(value):
    return (
        "<energy>"
        + "".join(f'<i name="{name}">{value:.8f}</i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
        + "</energy>"
    )


class Writer:
    """The output files, written as the run goes on."""

    def __init__(self, crystal, incar, potcar):
        self.crystal, self.incar, self.steps = crystal, incar, 0
        self.parameters = DEFAULTS | incar
        self.parameters.setdefault("EDIFFG", 10 * float(self.parameters["EDIFF"]))
        self.parameters.setdefault("IBRION", 0 if self.parameters["NSW"] else -1)
        self.counts = [(symbol, len(list(group))) for symbol, group in groupby(crystal.symbols)]
        self.electrons = sum(n * z for (_, n), (_, z, _) in zip(self.counts, potcar, strict=True))
        self.bands = max(4, int(self.electrons / 2) + 4)
        self.parameters |= {"NELECT": float(self.electrons), "NBANDS": self.bands}
        self.oszicar, self.outcar, self.xml = (Path(name).open("w") for name in OUTPUTS[:3])  # noqa: SIM115
        self.head(potcar)

    def geometry(self, name=""):
        label = f' name="{name}"' if name else ""
        reciprocal = np.linalg.inv(self.crystal.cell).T
        return (
            f"<structure{label}>\n<crystal>\n{varray('basis', self.crystal.cell)}"
            f'<i name="volume">{self.crystal.volume:.8f}</i>\n{varray("rec_basis", reciprocal)}</crystal>\n'
            f"{varray('positions', self.crystal.frac)}</structure>\n"
        )

    def head(self, potcar):
        kinds = "".join(
            f"<rc><c>{n}</c><c>{symbol}</c><c>1.0</c><c>{z}</c><c>{title}</c></rc>\n"
            for (symbol, n), (title, z, _) in zip(self.counts, potcar, strict=True)
        )
        atoms = "".join(
            f"<rc><c>{symbol}</c><c>{kind}</c></rc>\n"
            for kind, (symbol, n) in enumerate(self.counts, start=1)
            for _ in range(n)
        )
        self.xml.write(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<generator>\n'
            '<i name="program" type="string">vasp</i>\n<i name="version" type="string">0.0.standin</i>\n'
            f"</generator>\n<incar>\n{''.join(entry(*item) for item in self.incar.items())}</incar>\n"
            '<kpoints><generation param="Gamma"><v type="int" name="divisions">1 1 1</v>'
            f'<v name="usershift">0 0 0</v></generation>{varray("kpointlist", [[0, 0, 0]])}'
            f"{varray('weights', [[1.0]])}</kpoints>\n<parameters>\n"
            f"{''.join(entry(*item) for item in self.parameters.items())}</parameters>\n<atominfo>\n"
            f"<atoms>{len(self.crystal.symbols)}</atoms><types>{len(self.counts)}</types>\n"
            f'<array name="atoms"><set>\n{atoms}</set></array>\n'
            f'<array name="atomtypes"><set>\n{kinds}</set></array>\n</atominfo>\n{self.geometry("initialpos")}'
        )
        self.outcar.write(
            " stand-in for tests: no DFT was done\n running    1 mpi-ranks, with    1 threads/rank\n"
            + "".join(f"   TITEL  = {title}\n" for title, _, _ in potcar)
            + f"   ISPIN  = {self.parameters['ISPIN']:6d}\n   IBRION = {self.parameters['IBRION']:6d}\n"
            f"   NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS= {self.bands:6d}\n"
            f"   total plane-waves  NPLWV = 10000\n\n\n{'-' * 104}\n\n\n"
            " k-point   1 :       0.0000    0.0000    0.0000  plane waves:    1000\n\n"
            " maximum and minimum number of plane-waves per node :      1000     1000\n\n"
        )

    def step(self, loops, seconds):
        """Write an ionic step with so many electronic ones."""
        crystal, energy, pstress = self.crystal, self.crystal.energy, float(self.parameters["PSTRESS"])
        work = pstress / KBAR * crystal.volume  # in VASP p V enters after the electrons, in all but one place
        enthalpy = f"  enthalpy is  TOTEN    = {energy + work:18.8f} eV   P V= {work:18.8f}\n" if pstress else ""
        self.steps += 1
        descent = [energy + 10.0 * 0.02**k for k in range(1, loops + 1)]
        self.oszicar.write(
            "       N       E                     dE             d eps       ncg     rms          rms(c)\n"
        )
        for k, value in enumerate(descent, start=1):
            d = value - energy
            self.oszicar.write(f"DAV: {k:3d}    {value:18.12E}   {d:13.5E}  {d:13.5E}  1000   0.100E+01\n")
            self.outcar.write(f"--------------------------------------- Iteration {self.steps:6d}({k:4d})  ---\n")
        self.oszicar.write(f"{self.steps:4d} F= {energy + work:.8E} E0= {energy + work:.8E}  d E =0.1E+00\n")
        kbar = -KBAR * crystal.stress  # VASP counts pressure as positive
        places = [kbar[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))]
        cart = crystal.frac @ crystal.cell
        self.outcar.write(
            f" number of electron {self.electrons:14.7f} magnetization       0.0000000\n"
            "  entropy T*S    EENTRO =        0.00000000\n  in kB  "
            + " ".join(f"{x:11.5f}" for x in places)
            + f"\n  external pressure = {np.trace(kbar) / 3 - pstress:11.2f} kB  Pullay stress =  {pstress:.2f} kB\n\n"
            f" POSITION                                       TOTAL-FORCE (eV/Angst)\n {'-' * 83}\n"
            + "".join(
                " " + " ".join(f"{x:13.6f}" for x in (*p, *f)) + "\n" for p, f in zip(cart, crystal.forces, strict=True)
            )
            + f" {'-' * 83}\n    total drift:                               0.000000      0.000000      0.000000\n\n"
            f"  free  energy   TOTEN  = {energy:18.8f} eV\n"
            f"  energy  without entropy= {energy:18.8f}  energy(sigma->0) = {energy:18.8f}\n{enthalpy}"
            f"     LOOP+:  cpu time    {seconds:.4f}: real time    {seconds:.4f}\n"
        )
        self.xml.write(
            ("</calculation>\n" if self.steps > 1 else "")
            + "<calculation>\n"
            + "".join(f"<scstep>{energies(value)}</scstep>\n" for value in descent)
            + f"{self.geometry()}{varray('forces', crystal.forces)}{varray('stress', kbar)}{energies(energy + work)}\n"
        )
        for file in (self.oszicar, self.outcar, self.xml):
            file.flush()
        self.contcar()

    def contcar(self):
        crystal = self.crystal
        lines = ["stand-in", "1.0", *(" ".join(f"{x:.12f}" for x in row) for row in crystal.cell)]
        lines += [" ".join(str(item[k]) for item in self.counts) for k in (0, 1)] + ["Direct"]
        lines += [" ".join(f"{x:.12f}" for x in row) for row in crystal.frac]
        Path("CONTCAR").write_text("\n".join(lines) + "\n")

    def end(self):
        full = [b < self.electrons / 2 for b in range(self.bands)]
        bands = "".join(f"<r>{-5 + 0.01 * b + 3.0 * (not f):.4f} {float(f):.4f}</r>\n" for b, f in enumerate(full))
        spins = "".join(
            f'<set comment="spin {s + 1}"><set comment="kpoint 1">\n{bands}</set></set>\n'
            for s in range(int(self.parameters["ISPIN"]))
        )
        self.xml.write(
            '<eigenvalues><array><dimension dim="1">band</dimension><field>eigene</field><field>occ</field>'
            f"<set>\n{spins}</set></array></eigenvalues>\n"
            f'<dos><i name="efermi">{-5 + 0.005 * self.electrons + 1.5:.4f}</i></dos>\n'
            f"</calculation>\n{self.geometry('finalpos')}</modeling>\n"
        )
        self.outcar.write("\n\n General timing and accounting informations for this job:\n")
        for file in (self.oszicar, self.outcar, self.xml):
            file.close()
