"""Partitions, manifests, ledger, leases, storage and warehouse: no luigi, no Beam, no Google."""
