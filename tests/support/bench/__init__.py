"""What hookshim costs, measured against the same calls without it: ``hack/bench``.

Its numbers are only worth something if nothing of the measuring is in them. So the calls come from h2load, which is not
Python; all ways are measured in turn, round by round, and compared within a round, so that what else the machine does
meets all of them; and whoever is not measured stands still.
"""
