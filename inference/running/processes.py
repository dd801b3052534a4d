"""Joining the processes of a job, on one host or on several, by JAX's own distributed runtime."""

import ipaddress
import os
import socket

import jax

from bayesfield.checks import check_size

CALL = "join_processes"


def join_processes(
    coordinator: str, num_processes: int, process_id: int, *, num_hosts: int | None = None
) -> None:
    """Join the processes of a job, so that a mesh of all their devices can be made.

    Each process calls it first, before anything that computes. It checks what is known to hang
    and calls `jax.distributed.initialize`.

    Args:
        coordinator: `"host:port"` of process 0, under a name by which all hosts reach it.
        num_processes: How many processes there are.
        process_id: Which of them this is, from 0 on.
        num_hosts: On how many hosts they are. By default what Slurm says, and in Kubernetes, where
            each pod has an address of its own, as many as there are processes; elsewhere one.

    Raises:
        TypeError: A number is no int.
        ValueError: `coordinator` has no port, or leads every host to itself; or there are fewer
            processes than `process_id` says.

    Examples:
        >>> from bayesfield.inference import join_processes
        >>> try:  # it would hang
        ...     join_processes("localhost:4321", 2, 0, num_hosts=2)
        ... except ValueError as error:
        ...     print(str(error).split(" as ")[0])
        `join_processes` expected `coordinator` to be an address that other hosts reach,
    """
    num_processes = check_size(CALL, "num_processes", num_processes)
    process_id = check_size(CALL, "process_id", process_id, least=0)
    if process_id >= num_processes:
        raise ValueError(
            f"`{CALL}` expected `process_id` to be less than `num_processes={num_processes}`; got "
            f"{process_id}. They count from 0."
        )
    host, _, port = str(coordinator).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(
            f"`{CALL}` expected `coordinator` to be 'host:port', of process 0; got "
            f"{coordinator!r}. Any free port will do: {f'{coordinator}:12345'!r}."
        )
    hosts = _hosts(num_processes) if num_hosts is None else num_hosts
    addresses = _addresses(host)
    if check_size(CALL, "num_hosts", hosts) > 1 and addresses and all(map(_is_loopback, addresses)):
        raise ValueError(
            f"`{CALL}` expected `coordinator` to be an address that other hosts reach, as there "
            f"are {hosts} of them; got {coordinator!r}, which is {addresses[0]}, the loopback "
            "interface: each host would wait for itself. Give the address of process 0 in the "
            "network; a line of /etc/hosts may be what leads its name to the loopback interface."
        )
    jax.distributed.initialize(coordinator, num_processes, process_id)


def _hosts(num_processes: int) -> int:
    """Return on how many hosts the scheduler has put the processes, as far as it says."""
    said = os.environ.get("SLURM_JOB_NUM_NODES", "")
    if said.isdigit():
        return int(said)
    return num_processes if "KUBERNETES_SERVICE_HOST" in os.environ else 1


def _addresses(host: str) -> list[str]:
    """Return the addresses of a host; none where nobody knows it, or not yet."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host.strip("[]"), None)]
    except socket.gaierror:
        return []


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
