"""The benchmark: this storage, its peers and the limits, measured in one process and one run.

Reading order: `payloads` (what is stored), `peers` (who competes), `workload` and `workloads` (the
calls), `limits` (what a call is made of), `stage` (server and opened peers), `measure` (rounds and
statistics), `latency`, `memory` and `growth` (the other questions), `report`, `readme` and `plot`.
"""
