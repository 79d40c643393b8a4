#!/usr/bin/env bash
# A Slurm of one node for the tests: no systemd, no accounting, no cgroups; Debian's packages, and root.
# Usage: slurm.sh start|stop FOLDER        "start" prints the line that lets clients find it.
# With FUSE_FLOWS_INSTALL_SLURM=1, "start" installs slurmctld, slurmd, slurm-client and munge if they are missing.
set -euo pipefail

folder=$(realpath -m "${2:?name a folder}")
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf

install_packages() {
    command -v slurmctld slurmd sbatch munged >/dev/null && return
    if [ "${FUSE_FLOWS_INSTALL_SLURM:-0}" != 1 ]; then
        echo "slurmctld, slurmd, sbatch or munged is missing; set FUSE_FLOWS_INSTALL_SLURM=1 to install them" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    packages=(slurmctld slurmd slurm-client munge)
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2 ||
        { apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2; }
}

write_configuration() {
    mkdir -p "$folder"/{state,spool,munge}
    chmod 711 "$folder/munge"
    getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
    cat >"$SLURM_CONF" <<CONFIGURATION
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=${SLURM_TEST_PORT:-16817}
SlurmdPort=$((${SLURM_TEST_PORT:-16817} + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=batch Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONFIGURATION
}

start() {
    install_packages
    write_configuration
    munged --force --key-file "$folder/munge/key" --socket "$folder/munge/socket" --pid-file "$folder/munged.pid" \
        --log-file "$folder/munged.log" --seed-file "$folder/munge/seed" >&2
    slurmctld >&2
    slurmd >&2
    for _ in $(seq 240); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.25
    done
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

stop() {
    for name in slurmd slurmctld munged; do
        if [ -s "$folder/$name.pid" ]; then
            pid=$(cat "$folder/$name.pid")
            kill "$pid" 2>/dev/null || true
            for _ in $(seq 40); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
        fi
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) sed -n '2,5p' "$0" >&2; exit 2 ;;
esac
