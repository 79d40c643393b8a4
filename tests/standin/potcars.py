"""POTCARs without any of VASP's data, in the layout that pymatgen reads: invented ENMAX, the usual valences."""

from pathlib import Path

#: Symbol of the set to its element, number of electrons and ENMAX (eV).
SETS = {
    "Ca_sv": ("Ca", 10, 260.0),
    "Ti_sv": ("Ti", 12, 270.0),
    "O": ("O", 6, 400.0),
    "Mg": ("Mg", 2, 200.0),
    "Cu": ("Cu", 11, 290.0),
    "Au": ("Au", 11, 230.0),
    "Al": ("Al", 3, 240.0),
}
TEXT = """\
  {title}
   {electrons:.8f}
 parameters from PSCTR are:
   VRHFIN ={element}: invented
   LEXCH  = PE
   EATOM  =    10.0000 eV,    0.7350 Ry

   TITEL  = {title}
   LULTRA =        F    use ultrasoft PP ?
   RPACOR =    0.000    partial core radius
   POMASS =   10.000; ZVAL   =  {electrons:7.3f}    mass and valenz
   RCORE  =    1.500    outmost cutoff radius
   RWIGS  =    1.500; RWIGS  =    0.800    wigner-seitz radius (au A)
   ENMAX  =  {enmax:7.3f}; ENMIN  =  {enmin:7.3f} eV
   LPAW   =        T    paw PP
   RMAX   =    1.600    core radius for proj-oper

   Atomic configuration
    1 entries
     n  l   j            E        occ.
     1  0  0.50      -10.0000   {electrons:.4f}
   Description
     l       E           TYP  RCUT    TYP  RCUT
     0     -1.0000000     23  1.500
   Error from kinetic energy argument (eV)
   NDATA  =      100
   STEP   =   20.000   1.050
  1.0  0.5
END of PSCTR-controll parameters
 local part
   1.0
  0.1E+01  0.2E+01  0.3E+01
 End of Dataset
"""


def write_potcars(root: Path, *symbols: str) -> Path:
    """Write sets (all, if none is named) and return the folder for PMG_VASP_PSP_DIR."""
    folder = root / "POT_GGA_PAW_PBE_54"
    folder.mkdir(parents=True)
    for symbol in symbols or SETS:
        element, electrons, enmax = SETS[symbol]
        title = f"PAW_PBE {symbol} 01Jan2000"
        text = TEXT.format(title=title, element=element, electrons=electrons, enmax=enmax, enmin=0.75 * enmax)
        (folder / f"POTCAR.{symbol}").write_text(text)
    return root
