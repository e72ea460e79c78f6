"""Speed as ratios against peers, measured in one run on one machine: `python -m benchmarks`.

Absolute times say little: they are those of your machine on this day. All contestants run in processes of their own, in
turn, so that whatever else the machine does meets each of them; what counts are ratios of medians.
"""
