"""Settings of this machine, from environment variables ``FUSE_FLOWS_*``: where things are, never what is computed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fuse_flows.errors import ConfigError, first_refusal


class Settings(BaseSettings):
    """Where the embedded MongoDB lives and which configuration files are used."""

    model_config = SettingsConfigDict(env_prefix="FUSE_FLOWS_", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("fuse_flows"),
        description="Folder of the embedded MongoDB and of the launch directories.",
    )
    mongod: Path | None = Field(None, description="The mongod program; None: PATH, then the mongod extra.")
    db_port: int = Field(27618, ge=1024, le=65535, description="Port of the embedded MongoDB on the loopback.")
    db_name: str = Field("fuse_flows", description="Database of the embedded MongoDB.")
    launchpad: Path | None = Field(None, description="A my_launchpad.yaml to use in place of the embedded MongoDB.")
    gulp: str | None = Field(
        None, description="Command of the General Utility Lattice Program, with its arguments; None: PATH."
    )
    vasp_elsewhere: bool = Field(
        False, description="VASP and its POTCARs are on other machines: do not look for them on submission."
    )
    gpaw_command: str | None = Field(
        None, description="Command that runs a Python with GPAW, such as 'mpiexec -n 4 gpaw python'; None: this Python."
    )
    gpaw_elsewhere: bool = Field(
        False, description="GPAW and its PAW data are on other machines: do not look for them on submission."
    )
    torchsim_elsewhere: bool = Field(
        False, description="Models of torch-sim and their GPU are on other machines: do not make them on submission."
    )
    fizzled_grace: float = Field(
        30.0, ge=0, description="Seconds for which a failed relaxation job may be run again before it is judged."
    )
    threads: int = Field(1, ge=1, description="Threads of each worker's numerical libraries.")
    relax_workers: int = Field(
        1,
        ge=1,
        description="Processes, or threads where the engine is compiled, among which a job shares the structures it "
        "relaxes together. Several workers on one machine need one each; raise it where a single worker has a node.",
    )
    allocation_end: float | None = Field(
        None, description="When the allocation of this worker ends, in seconds of the epoch; None: ask Slurm or PBS."
    )
    allocation_margin: float = Field(
        120.0, ge=0, description="Seconds before the end of the allocation in which no structure is begun."
    )
    outage_minutes: float = Field(10.0, ge=0, description="How long a worker waits for a database that is away.")
    repair_every: float = Field(
        60.0, gt=0, description="Seconds after which a worker that has nothing to do looks for jobs that were lost."
    )
    trusted_packages: str = Field(
        "", description="Packages beside fuse_flows and atomate2 whose jobs workers may run, separated by commas."
    )


@cache
def settings() -> Settings:
    """Return the settings of this process, read once.

    Returns
    -------
    Settings
        From the environment.

    Raises
    ------
    ConfigError
        Naming the variable whose value cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        refusal = first_refusal(error)
        name = "_".join(("FUSE_FLOWS", *refusal.place)).upper()
        msg = f"{refusal.message} (got {refusal.given!r}); correct this environment variable"
        raise ConfigError(name, msg) from None
