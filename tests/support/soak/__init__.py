"""Many rounds, and kills at random moments: every hook that is due must be delivered, whenever hookshim is killed.

``moves`` draws what is done, ``caller`` does it as a kubelet would, ``keeper`` kills and starts hookshim, ``witness``
knows what the hooks' receivers saw, ``tally`` compares that with the journal and containerd, ``run`` joins them.
"""
