"""Prints what a launcher costs a month, by arithmetic: fired by Cloud Scheduler, a machine of its own, Composer.

Every number was looked up or measured, and stands here by name; docs/serverless.md says where it is from.
"""

import argparse
from collections.abc import Sequence

#: A month: 365 days by 12, as Google's price lists count it.
HOURS = 730

# Google's list prices in USD, region us-central1, as they stood in public pages of 2026. Look up yours.
VCPU_SECOND, GIB_SECOND = 0.000018, 0.000002  # Cloud Run jobs: cloud.google.com/run/pricing
FREE_VCPU_SECONDS, FREE_GIB_SECONDS = 240_000, 450_000  # a month and billing account
LEAST_SECONDS = 60  # a task of a Cloud Run job is billed for at least a minute
SCHEDULER_JOB, FREE_SCHEDULER_JOBS = 0.10, 3  # a month; firings cost nothing: cloud.google.com/scheduler/pricing
REGISTRY_GB, FREE_REGISTRY_GB = 0.10, 0.5  # Artifact Registry, a month: cloud.google.com/artifact-registry/pricing
CLASS_A, CLASS_B = (
    0.005 / 1000,
    0.0004 / 1000,
)  # Cloud Storage: writes and lists, reads: cloud.google.com/storage/pricing
E2_SMALL, E2_MEDIUM = 12.23 / HOURS, 24.46 / HOURS  # an hour: cloud.google.com/compute/vm-instance-pricing
DISK_GB, ADDRESS_HOUR = 0.04, 0.005  # a standard disk's GB a month; an external IPv4 address
DCU_HOUR = 0.06  # Composer 3, 1,000 milliDCU-hours: cloud.google.com/composer/pricing

SCANNED_TIB, FREE_SCANNED_TIB, LEAST_SCANNED = (
    6.25,
    1,
    10e6 / (1 << 40),
)  # BigQuery, a query: cloud.google.com/bigquery/pricing

IMAGE_GB = 0.35  # packed: what pip installs by launcher.Dockerfile was measured, 0.27; python:3.11-slim is an estimate
VM_DISK_GB = 10
COMPOSER_DCUS = 7, 9  # a small environment: no number of Google's was found, 300 to 400 USD stands in public notes


def cloud_run(every: float, seconds: float, vcpus: float, gib: float, *, free: bool) -> float:
    """Return the price of a month's firings, one in so many minutes, each so many seconds long."""
    billed = firings(every) * max(seconds, LEAST_SECONDS)
    cpu, memory = billed * vcpus, billed * gib
    if free:
        cpu, memory = max(0.0, cpu - FREE_VCPU_SECONDS), max(0.0, memory - FREE_GIB_SECONDS)
    return cpu * VCPU_SECOND + memory * GIB_SECOND


def firings(every: float) -> float:
    """Return how many firings a month has."""
    return HOURS * 60 / every


def operations(every: float, writes: float, reads: float) -> float:
    """Return the price of a month's requests of Cloud Storage."""
    return firings(every) * (writes * CLASS_A + reads * CLASS_B)


def machine(hour: float, *, address: bool) -> float:
    """Return the price of a month of a machine that is always there."""
    return hour * HOURS + VM_DISK_GB * DISK_GB + (ADDRESS_HOUR * HOURS if address else 0)


def composer(dcus: float) -> float:
    """Return the price of a month of a Composer 3 environment, its database's storage aside."""
    return dcus * DCU_HOUR * HOURS


def rows(
    every: float, seconds: float, vcpus: float, gib: float, writes: float, reads: float
) -> list[tuple[str, str, str]]:
    """Return the lines of the table: what, all of it paid, and where the free tier is not used by others."""
    asked, scanned = operations(every, writes, reads), firings(every) * LEAST_SCANNED
    parts = [
        (
            f"Cloud Run, {firings(every):,.0f} × {max(seconds, LEAST_SECONDS):g} s, {vcpus:g} vCPU, {gib:g} GiB",
            cloud_run(every, seconds, vcpus, gib, free=False),
            cloud_run(every, seconds, vcpus, gib, free=True),
        ),
        ("Cloud Scheduler, 1 job", SCHEDULER_JOB, 0.0),
        (
            f"Artifact Registry, {IMAGE_GB:g} GB",
            REGISTRY_GB * IMAGE_GB,
            REGISTRY_GB * max(0, IMAGE_GB - FREE_REGISTRY_GB),
        ),
        (f"Cloud Storage, {writes:g} writes and lists, {reads:g} reads a firing", asked, asked),
        (
            "BigQuery, a query of 10 MB a firing",
            scanned * SCANNED_TIB,
            max(0, scanned - FREE_SCANNED_TIB) * SCANNED_TIB,
        ),
    ]
    parts.append((f"**fired every {every:g} minutes**", sum(each[1] for each in parts), sum(each[2] for each in parts)))
    for name, hour in (("e2-small", E2_SMALL), ("e2-medium", E2_MEDIUM)):
        for address in (False, True):
            price = machine(hour, address=address)
            parts.append((f"{name}, {VM_DISK_GB} GB of disk{', an address' if address else ''}", price, price))
    between = " to ".join(f"{composer(dcus):.0f}" for dcus in COMPOSER_DCUS)
    told = [(what, f"{paid:.2f}", f"{left:.2f}") for what, paid, left in parts]
    return [*told, (f"Composer 3, {COMPOSER_DCUS[0]} to {COMPOSER_DCUS[1]} DCU", between, between)]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=float, default=5, metavar="MINUTES", help="between two firings (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="that a firing takes (%(default)s)")
    parser.add_argument("--vcpus", type=float, default=1)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument(
        "--writes", type=float, default=6, help="requests of Cloud Storage's class A a firing (%(default)s)"
    )
    parser.add_argument("--reads", type=float, default=6, help="requests of its class B (%(default)s)")
    print("| a month, USD | all paid | free tier |\n|---|---|---|")
    for row in rows(**vars(parser.parse_args(argv))):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
