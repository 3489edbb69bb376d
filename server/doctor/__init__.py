"""``hookshim doctor``: what keeps, or will keep, this node's hooks from being delivered, and what to do about it.

It changes nothing, needs no daemon, and comes back within seconds whatever hangs.
"""

from server.doctor.examination import examine
from server.doctor.finding import Finding, Verdict
from server.doctor.host import Host

__all__ = ["Finding", "Host", "Verdict", "examine"]
