"""The DFT tier with VASP, through atomate2 and custodian: stages, handlers, outcomes."""
