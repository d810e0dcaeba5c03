"""The worker processes of a cluster, as `TF_CONFIG` or Slurm lists them."""

import json
import os
import re
from collections.abc import Mapping

from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, require

_ADDRESS = re.compile(r"\S+:\d+")
_SLURM_PORTS = range(20000, 30000)  # below the ports that Linux gives to clients


def is_index(value) -> bool:
    """Returns whether `value` is an int of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_cluster() -> tuple[dict[str, list[str]], tuple[str, int]]:
    """Reads the cluster from the environment; Slurm's form is put into `TF_CONFIG`.

    Returns:
        The addresses "host:port" by type of worker, and the (type, index) of this process.

    Raises:
        ArgumentError: The environment names no cluster, or a wrong one.
    """
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ["TF_CONFIG"] = json.dumps(slurm_config(os.environ))
    if "TF_CONFIG" not in os.environ:
        raise ArgumentError(
            'Expected TF_CONFIG or Slurm\'s environment for strategy="multi_worker" (`lightkeras launch --workers 2 '
            "...` sets it for workers on this machine). Received: neither is set"
        )
    config = _parse_json(os.environ["TF_CONFIG"])
    cluster, task = config.get("cluster", {}), config.get("task", {})
    addresses = [address for kind in cluster.values() for address in kind]
    index = task.get("index")
    found = task.get("type") in ("chief", "worker") and is_index(index) and index < len(cluster.get(task["type"], ()))
    require(found, "TF_CONFIG", 'a cluster and this process\'s task of it, a "worker" or "chief" by index', config)
    require(len(set(addresses)) == len(addresses), "TF_CONFIG", "a cluster with no address twice", config)
    require(all(_ADDRESS.fullmatch(a) for a in addresses), "TF_CONFIG", 'a cluster of "host:port" addresses', config)
    return cluster, (task["type"], index)


def _parse_json(text: str) -> dict:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"Expected `TF_CONFIG` to be JSON ({error}). Received: TF_CONFIG={text!r}") from error
    parts = [config, *(config.get(name, {}) for name in ("cluster", "task"))] if isinstance(config, dict) else [None]
    require(all(isinstance(part, dict) for part in parts), "TF_CONFIG", "a dict of dicts", text)
    return config


def slurm_config(environment: Mapping[str, str]) -> dict:
    """Returns the `TF_CONFIG` of a process that `srun` started, with the nodes' hosts in Slurm's order.

    TensorFlow's `SlurmClusterResolver` needs `nvidia-smi`, and sorts the hosts by name (n10 before n9), so that
    addresses and ranks disagree. The ports depend on the job's number: two jobs on a node do not collide.

    Args:
        environment: SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE and SLURM_JOB_ID are read.

    Raises:
        ArgumentError: A variable is missing: the process was not started by `srun`.
    """
    names = ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID")
    missing = [name for name in names if name not in environment]
    require(not missing, "SLURM_...", "the variables of a process that `srun` started", f"no {', '.join(missing)}")
    rank, nodes, tasks, job = (environment[name] for name in names)
    port = _SLURM_PORTS.start + int(job) % len(_SLURM_PORTS)
    counts = internals.expand_slurm_hosts(nodes, tasks)
    hosts = [f"{host}:{port + local}" for host, count in counts for local in range(count)]
    return {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": int(rank)}}
