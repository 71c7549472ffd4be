#!/bin/sh
# A SLURM of two nodes on this one machine, to try and to prove what is in this folder: everything on loopback, as root.
#
#   local_cluster.sh start DIR          a controller and the nodes `one` and `two`; then: export SLURM_CONF=DIR/slurm.conf
#   local_cluster.sh kill DIR NODE      as if the node lost power: its daemon and every process of its jobs, at once
#   local_cluster.sh revive DIR NODE    and as if it came back
#   local_cluster.sh stop DIR
set -eu
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
ports=${SLURM_FIRST_PORT:-26817}        # the controller's; the nodes' are the next two
node_port() { case $1 in one) echo $((ports + 1)) ;; two) echo $((ports + 2)) ;; *) echo "no node $1" >&2; exit 2 ;; esac; }

configure() {
    dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 2>/dev/null
    chmod 0400 "$dir/munge.key"
    cat >"$dir/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$ports
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
SlurmUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=6
MessageTimeout=5
BatchStartTimeout=2
InactiveLimit=0
KillWait=2
MinJobAge=300
NodeName=one NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$(node_port one) CPUs=2 RealMemory=65536
NodeName=two NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$(node_port two) CPUs=2 RealMemory=65536
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

# The node's daemon, the steps of its jobs, and all that these started: told by their environment.
processes_of() {  # node
    mine=$(grep -slzxF "SLURM_CONF=$dir/slurm.conf" /proc/[0-9]*/environ) || true
    # shellcheck disable=SC2086
    { grep -slzxF "SLURMD_NODENAME=$1" /dev/null $mine || true; } | sed 's|/proc/||; s|/environ||'
}

kill_node() {  # node; again, for what its daemon started in between
    while processes=$(processes_of "$1") && [ -n "$processes" ]; do
        # shellcheck disable=SC2086
        kill -9 $processes 2>/dev/null || true
    done
}

start_node() {
    SLURMD_NODENAME=$1 SLURM_CONF=$dir/slurm.conf slurmd -N "$1"
}

await_nodes() {
    for _ in $(seq 150); do
        if [ "$(SLURM_CONF=$dir/slurm.conf sinfo -h -N -o %t 2>/dev/null | grep -c -x -e idle)" = 2 ]; then return; fi
        sleep 0.2
    done
    echo "the nodes do not come up: see $dir/*.log" >&2
    exit 1
}

case $action in
start)
    configure
    mkdir -p "$dir/state" "$dir/spool.one" "$dir/spool.two"
    # --force: the folder may be closed to other users, whom nothing here serves.
    munged --force --key-file "$dir/munge.key" --socket "$dir/munge.socket" --pid-file "$dir/munged.pid" \
        --log-file "$dir/munged.log" --seed-file "$dir/munged.seed" 2>"$dir/munged.warnings"
    SLURM_CONF=$dir/slurm.conf slurmctld
    start_node one
    start_node two
    await_nodes
    ;;
kill)
    node_port "$3" >/dev/null
    kill_node "$3"
    ;;
revive)
    start_node "$3"
    ;;
stop)
    for node in one two; do
        kill_node "$node"
    done
    for daemon in slurmctld munged; do
        [ ! -f "$dir/$daemon.pid" ] || kill -9 "$(cat "$dir/$daemon.pid")" 2>/dev/null || true
    done
    ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
