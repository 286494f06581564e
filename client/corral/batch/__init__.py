"""Batches: a plan of steps over many guests, run so that every target gets exactly one end, and nothing runs twice.

plan, source, checking: what is to be done, and every mistake in it at once. targets: on whom, and under which request ids. records,
joblog: what was done, on disk before it is sent. attempts, runner: the decisions, without I/O. perform, conduct, rundir: the thin shell.
"""
