"""The command `hadir-edge check`: what is wrong with this board, line by line, and what to do next.

It looks and changes nothing: no event, no byte of the outbox, no file left behind, no
session of the running daemon touched. Readings come from the rooms; `judge` turns them
into verdicts; `checks` runs all of them, whatever the others found.
"""
