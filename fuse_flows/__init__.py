"""Crystal structure prediction by module-assembly basin hopping (FUSE2) as jobflow and FireWorks workflows."""

__version__ = "0.1.0"
