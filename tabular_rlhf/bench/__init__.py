r"""The bench: whole workloads, timed against the libraries a reader would otherwise use.

**Rules of the race.**  One thread for everybody (the process is pinned to one core while it runs); float64; the inputs are
made beforehand; the runners take turns, so that a busy machine slows everybody alike; a turn is an untimed call, which clears away
what the runner before has left in heap and caches, and then the timed one; the best time of each counts.
A library's answer must agree with ours before it is timed.  Each library runs in several formulations and its fastest
one counts, shape by shape.  What travels between machines are the ratios, not the milliseconds.

Peak memory is what the resident set gained at its highest during one call, beyond the inputs (Linux; elsewhere unknown).
"""
